"""Start the worker in several processes with torch's elastic launcher and wait for the run's end."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nqcast.stopping import RunEndedError
from nqcast.training.config import TrainConfig
from nqcast.training.distributed.watchdog import forget_end, why_ended

log = logging.getLogger(__name__)

WORKER = "nqcast.runs.worker"


def processes_here(config: TrainConfig) -> int:
    """Processes on this host: `devices`, where auto means every GPU, or one on the CPU.

    Raises ValueError for more processes than GPUs, or than windows to share.
    """
    on_gpu = (config.device == "auto" or config.device.startswith("cuda")) and torch.cuda.is_available()
    gpus = torch.cuda.device_count() if on_gpu else 0
    n = max(gpus, 1) if config.devices == "auto" else config.devices
    if n > 1 and on_gpu and n > gpus:
        raise ValueError(f"expected at most {gpus} devices, the GPUs of this host, found {n}; lower train.devices")
    ranks = n * config.hosts
    if ranks > config.accumulation * config.batch_size:
        raise ValueError(
            f"expected at most one rank per window of a step, found {ranks} ranks for {config.accumulation} × "
            f"{config.batch_size} windows; lower train.devices"
        )
    return n


def torchrun_command(folder: Path, processes: int, config: TrainConfig) -> str:
    """What each further host is to run."""
    return (
        f"torchrun --nnodes={config.hosts} --nproc-per-node={processes} --max-restarts={config.max_restarts} "
        f"--rdzv-backend=c10d --rdzv-endpoint={config.rendezvous} --rdzv-id={_run_id(folder)} -m {WORKER} {folder}"
    )


def launch(folder: Path, processes: int, config: TrainConfig, worker: str = WORKER) -> None:
    """Run `worker` on `folder` in `processes` processes of this host, again after a death, until it has ended.

    Raises RunEndedError where it cannot go on: a rank hung, an error that a restart cannot cure, or too many deaths.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    forget_end(folder)
    meeting = folder / f".meeting_{os.getpid()}"
    one_host = config.hosts == 1
    if not one_host:
        log.info("on each of the other hosts run: %s", torchrun_command(folder, processes, config))
    plan = LaunchConfig(
        min_nodes=config.hosts,
        max_nodes=config.hosts,
        nproc_per_node=processes,
        run_id=_run_id(folder),
        rdzv_backend="c10d",
        rdzv_endpoint=f"{meeting}_launcher" if one_host else config.rendezvous,
        rdzv_configs={"store_type": "file"} if one_host else {},
        max_restarts=config.max_restarts,
        monitor_interval=0.2,
        signals_to_handle="SIGQUIT",  # the others are ours: they ask for a checkpoint first
    )
    arguments = ["-m", worker, str(folder), *(["--meeting", str(meeting)] if one_host else [])]
    try:
        with _surroundings(processes, one_host):
            elastic_launch(plan, sys.executable)(*arguments)
    except ChildFailedError as error:
        raise RunEndedError(why_ended(folder) or _deaths(error, config)) from None
    finally:
        for path in folder.glob(f"{meeting.name}*"):
            path.unlink(missing_ok=True)


def _run_id(folder: Path) -> str:
    return folder.parent.name


def _deaths(error: Exception, config: TrainConfig) -> str:
    codes = {rank: failure.exitcode for rank, failure in getattr(error, "failures", {}).items()}
    return (
        f"expected the ranks to end the run, found one dead after {config.max_restarts} restarts (exit codes by rank: "
        f"{codes}); the log above says why; the same command goes on from the last checkpoint"
    )


@contextmanager
def _surroundings(processes: int, one_host: bool) -> Iterator[None]:
    """Threads shared out, no port opened on a single host, and the caller's own signal handler afterwards."""
    wanted = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))}
    if one_host:
        wanted["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    before = {name: os.environ.get(name) for name in wanted}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGQUIT) if in_main else None
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if in_main:
            signal.signal(signal.SIGQUIT, handler)
