"""One line over a run, on a terminal only: what is being done, and since when."""

import logging
import time

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from tqdm import tqdm


class AboveTheBars(logging.Handler):
    """Hands each record to another handler, whose lines so stand above the bars and not in them."""

    def __init__(self, shown: logging.Handler) -> None:
        super().__init__(shown.level)
        self.shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        """Take the bars away, write, and draw them again."""
        with tqdm.external_write_mode():
            self.shown.handle(record)


class ProgressHook:
    """Names the node at work and when it began; what a node counts (epochs, folds, trials) stands below it.

    Nodes are no measure: one trains for an hour, five are done in a second.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._shown = ""
        self._handlers: list[logging.Handler] = []

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Draw the line; `disable=None` keeps it quiet where the output is no terminal."""
        self._close()
        self._bar = tqdm(total=len(pipeline.nodes), bar_format="{desc}", disable=None, leave=False)
        if not self._bar.disable:
            self._handlers = logging.root.handlers
            logging.root.handlers = [AboveTheBars(handler) for handler in self._handlers]

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Loading belongs to the node: the simulated market is drawn here."""
        self._show(node)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        self._show(node)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        self._close()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        self._close()

    def _show(self, node: Node) -> None:
        name = node.name.partition(":")[0].replace("_", " ")
        if self._bar is not None and name != self._shown:
            self._shown = name
            # drawn once for a node, so no clock that would stand still
            self._bar.set_description_str(f"{name}, since {time.strftime('%H:%M:%S')}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._handlers:
            logging.root.handlers, self._handlers = self._handlers, []
