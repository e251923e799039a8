"""The same work for many tasks at once: in processes of this machine, or on a Dask cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

from pydantic import Field

from nqcast.fields import Configuration

Task = TypeVar("Task")
Result = TypeVar("Result")


class PartitionsConfig(Configuration):
    """Who builds the partitions, and how many at a time."""

    scheduler: str = Field(
        default="processes",
        pattern=r"^(processes|dask://[^/\s:]+:\d+)$",
        description="processes: on this machine; dask://HOST:PORT: on the cluster of that scheduler, whose workers "
        "have this package and see the files under the same paths.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes of this machine (count), each with one symbol in memory: about 0.5 GB per million "
        "one-minute bars. None: one per core. On a cluster the cluster's workers count.",
    )


def run_all(
    tasks: Iterable[Task], work: Callable[[Task], Result], config: PartitionsConfig
) -> Iterator[tuple[Task, Result | Exception]]:
    """Every task with its result, or with the exception that `work` raised, in the order in which they end.

    At most two tasks a worker are under way, so that results do not pile up while the reader writes them. Leaving
    early cancels what has not begun and ends the processes.

    Raises:
        RuntimeError: a worker process was killed, or no scheduler answers.
    """
    waiting = iter(tasks)
    with _executor(config) as (executor, width):
        running: dict[Future[Result], Task] = {}
        while True:
            for task in islice(waiting, 2 * width - len(running)):
                running[executor.submit(work, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool) or not isinstance(error, Exception | None):
                    raise RuntimeError(
                        "expected the workers to live, found one killed, as happens when memory runs out: lower "
                        "partitions.workers; what is finished is kept"
                    ) from error
                yield running.pop(future), future.result() if error is None else error


@contextmanager
def _executor(config: PartitionsConfig) -> Iterator[tuple[Executor, int]]:
    """An executor and how many tasks it takes at a time."""
    if config.scheduler == "processes":
        width = config.workers or os.cpu_count() or 1
        with _processes(width) as executor:
            yield executor, width
    else:
        with _cluster(config.scheduler.replace("dask://", "tcp://")) as found:
            yield found


@contextmanager
def _processes(width: int) -> Iterator[Executor]:
    others = set(multiprocessing.active_children())
    # Fresh processes: a fork would copy the locks of this one's threads.
    executor = ProcessPoolExecutor(width, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        yield executor
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        # The executor's own thread reaps them: a join from here as well could find the child gone and not yet counted.
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown(wait=True)


def _begin_worker() -> None:
    """Ctrl-C reaches every process of the terminal, and the parent ends its workers itself; a killed one cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait on the parent's end of a pipe, which the kernel closes however the parent ends, and leave."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError(
            "expected dask.distributed for partitions.scheduler=dask://…, found it missing: "
            "pip install 'nqcast[distributed]', or take partitions.scheduler=processes"
        ) from error
    try:
        client = Client(address, timeout="30s", set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RuntimeError(
            f"expected a Dask scheduler at {address}, found none that answers within 30 s: start one "
            "(dask scheduler), correct partitions.scheduler, or take partitions.scheduler=processes"
        ) from error
    with client:
        width = sum(client.nthreads().values())
        if width == 0:
            raise RuntimeError(f"expected workers on the cluster of {address}, found none: start them (dask worker)")
        with client.get_executor() as executor:
            yield executor, width
