"""Many tasks at once: every result comes with its task, an error stays its task's, and nothing is left running."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
from pydantic import ValidationError

from nqcast.symbols.schedule import PartitionsConfig, run_all

TWO = PartitionsConfig(workers=2)


def square(number: int) -> tuple[int, int]:
    if number < 0:
        raise ValueError(f"expected a number above 0, found {number}")
    return number * number, os.getpid()


def die(_: int) -> None:
    os._exit(9)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_results_come_from_other_processes_and_an_error_is_its_tasks_alone() -> None:
    found = dict(run_all([3, -1, 4, 5], square, TWO))
    assert sorted(found) == [-1, 3, 4, 5]
    assert str(found.pop(-1)) == "expected a number above 0, found -1"
    results = {task: result for task, result in found.items() if isinstance(result, tuple)}
    assert {task: value for task, (value, _) in results.items()} == {3: 9, 4: 16, 5: 25}
    assert os.getpid() not in {process for _, process in results.values()}


def test_a_killed_worker_ends_the_run_with_the_cure() -> None:
    with pytest.raises(RuntimeError, match=r"found one killed.*lower partitions\.workers"):
        list(run_all([1], die, TWO))


def test_leaving_early_ends_the_processes() -> None:
    before, started = set(multiprocessing.active_children()), time.monotonic()
    stream = run_all([0.0, 600.0, 600.0, 600.0], sleep, TWO)
    assert next(stream)[0] == 0.0
    stream.close()
    assert time.monotonic() - started < 60
    assert set(multiprocessing.active_children()) == before


def test_no_scheduler_at_the_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(RuntimeError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:1, found none"):
        list(run_all([1], square, PartitionsConfig(scheduler="dask://127.0.0.1:1")))


@pytest.mark.parametrize("scheduler", ["threads", "dask://", "dask://host", "tcp://host:1", "dask://a:1/b"])
def test_other_schedulers_are_refused(scheduler: str) -> None:
    with pytest.raises(ValidationError, match="scheduler"):
        PartitionsConfig(scheduler=scheduler)
