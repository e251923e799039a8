"""One bar over the nodes of a run, on a terminal only: what is being done, and how much of it is behind."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from tqdm import tqdm


class ProgressHook:
    """Names the node at work; bars inside a node (epochs, forecasts) stand below it."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Draw the bar; `disable=None` keeps it quiet where the output is no terminal."""
        self._close()
        self._bar = tqdm(total=len(pipeline.nodes), unit="node", disable=None, leave=False)

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Loading belongs to the node: the simulated market is drawn here."""
        self._show(node)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the node."""
        self._show(node)

    @hook_impl
    def after_node_run(self) -> None:
        """One more behind."""
        if self._bar is not None:
            self._bar.update()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Make room for the summary."""
        self._close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Make room for the message."""
        self._close()

    def _show(self, node: Node) -> None:
        if self._bar is not None:
            self._bar.set_description(node.name.split(":")[0])

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
