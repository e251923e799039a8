"""One line over a run, on a terminal only: what is being done, and since when."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from tqdm import tqdm


class ProgressHook:
    """Names the node at work and counts the time; what a node counts (epochs, folds, trials) stands below it.

    Nodes are no measure: one trains for an hour, five are done in a second.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._shown = ""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Draw the line; `disable=None` keeps it quiet where the output is no terminal."""
        self._close()
        self._bar = tqdm(total=len(pipeline.nodes), bar_format="{desc} ({elapsed})", disable=None, leave=False)

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Loading belongs to the node: the simulated market is drawn here."""
        self._show(node)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the node."""
        self._show(node)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Make room for the summary."""
        self._close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Make room for the message."""
        self._close()

    def _show(self, node: Node) -> None:
        name = node.name.partition(":")[0].replace("_", " ")
        if self._bar is not None and name != self._shown:
            self._shown = name
            self._bar.reset()  # its time begins
            self._bar.set_description_str(name)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
