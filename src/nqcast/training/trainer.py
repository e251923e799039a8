"""The training loop: steps, epochs, validation, checkpoints, exact resume."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from tqdm import tqdm

from nqcast import __version__
from nqcast.batches import Batches, groups, to_device
from nqcast.horizons import root_weights
from nqcast.stopping import RunEndedError
from nqcast.storage.checkpoint import Checkpoint, Metadata, read_checkpoint
from nqcast.storage.json_values import Json, finite
from nqcast.storage.lock import DirectoryLock
from nqcast.training.checkpoint import CheckpointStore, checkpoint_name
from nqcast.training.config import TrainConfig
from nqcast.training.device import compile_regions, describe, pick_device, pick_precision
from nqcast.training.loggers import Logger, MetricsLog, epoch_line
from nqcast.training.loss_functions import CombinedQuantileLoss, MetricSums, metric_values
from nqcast.training.resume import Progress, RunState
from nqcast.training.run_card import move_aside
from nqcast.training.scheduler import EarlyStopping, WarmupCosineScheduler, build_optimizer
from nqcast.training.step import Counts, Stepper, StepperParts, StepResult, StepSettings, Tally
from nqcast.training.validation import skills, validation_sums

log = logging.getLogger(__name__)


class TrainingFailedError(RunEndedError):
    """Too many steps in a row had no finite gradient."""


class Trainer:
    """Trains a quantile model and keeps everything needed to go on after any interruption.

    Args:
        model: module called as model(*model_inputs(batch)), returning {"quantiles": (B, H, Q) in return units}.
        config: settings of the run.
        train_loader: iterable of batches with `__len__`; `set_epoch(epoch)` is called when it exists.
        val_loader: iterable of batches, the same on every pass.
        output_dir: run directory: metrics.jsonl, checkpoint_epoch_XXXX, checkpoint_latest, checkpoint_best.
        device: torch device; "auto" takes cuda, then mps, then cpu. None takes config.device.
        logger: anything with log(dict, step=…), such as the wandb module; gets one call per epoch.

    Attributes:
        history: one dict per epoch; the first is the untrained model's.
        reference_losses: name of a forecast -> {horizon: validation loss in return units}; adds skill_<name> to the
            metrics. The model before its first step is added under start_name.
        start_name: config.start_name, until it is set to what the model of this run starts from.
        origin: what the run is made of and its scale, which every checkpoint holds beside the weights; set where they
            are known, and a working checkpoint forecasts.
        status: "new", "running", "finished", "early_stopped" or "stopped".
    """

    writes = True  # this process keeps the run's files

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        train_loader: Batches,
        val_loader: Batches,
        output_dir: Path | str,
        device: str | torch.device | None = None,
        logger: Logger | None = None,
    ) -> None:
        self.config = config
        self.device = pick_device(config.device if device is None else device)
        self.precision = pick_precision(config.precision, self.device)
        self.model = model.to(self.device)
        self.train_loader, self.val_loader = train_loader, val_loader
        self.output_dir = Path(output_dir)
        self.logger = logger
        self.reference_losses: dict[str, dict[str, float]] = {}
        self.start_name = config.start_name
        axes = {"horizons": config.horizons, "quantiles": config.quantiles}
        self.origin = Checkpoint({}, Metadata.of({**axes, "version": __version__}))
        self.status = "new"
        self.optimizer = build_optimizer(self.model, config)
        self.scheduler = WarmupCosineScheduler(
            self.optimizer, config.warmup_steps, config.t_0, config.t_mult, config.eta_min
        )
        self.early_stopping = EarlyStopping(config.patience, config.min_delta)
        self.tally = Tally(self.device)
        self.deferred = self.device.type == "cuda"  # counts are read at log points only: nothing else waits for the GPU
        compile_regions(self.model, config.compile, self.device)
        self.stepper = self._make_stepper()
        learning = (self.optimizer, self.scheduler, self.early_stopping, self.stepper)
        self.state = RunState(config, self.model, self.precision, *learning)
        self.store = CheckpointStore(self.output_dir, config.top_k)
        self.metrics_log = MetricsLog(self.output_dir, self.writes)
        self._stop_requested = False
        self._saved_at = time.monotonic()

    @property
    def progress(self) -> Progress:
        """How far the run has come: epoch, batch, step and the best loss."""
        return self.state.progress

    @property
    def history(self) -> list[Json]:
        """One dict of metrics per epoch, epoch 0 before the first step."""
        return self.progress.history

    @property
    def best_checkpoint(self) -> Path | None:
        """Folder of the verified checkpoint with the lowest val_loss; None before the first one."""
        return self.store.best_verified()

    def request_stop(self) -> None:
        """Ask `train` to finish its step, write a checkpoint and return. Safe to call from a signal handler."""
        self._stop_requested = True

    def train(self, resume: Literal["auto", "never"] | None = None) -> list[Json]:
        """Train to the end, to early stopping, or to `request_stop`, and return the history.

        Args:
            resume: "auto" goes on from the newest verified checkpoint in the run directory, when there is one; "never"
                moves what is there aside and starts anew. None takes config.resume.

        Raises:
            CheckpointError: the directory holds a run of another configuration.
            DirectoryBusyError: another process works there.
            TrainingFailedError: config.max_skipped steps in a row had no finite gradient.
        """
        never = (resume or self.config.resume) == "never"
        with self._held():
            self._put_in_order(never)
            self._saved_at = time.monotonic()
            came_from = "" if never or self.status != "new" else self._resume()
            self._load_tally()
            self.status = "running"
            log.info(self._outlook())
            if came_from:
                log.info(came_from)
            if self.history or self._finish_epoch():
                self._run_epochs()
            self._stop_requested = False
            log.info("training %s after epoch %d, step %d", self.status, self.progress.epoch, self.progress.step)
        return self.history

    def _outlook(self) -> str:
        """Device, precision and parameters, and the time of an epoch by one rehearsed micro-batch, in one line."""
        text = describe(self.device, self.precision, self.model)
        if self.progress.epoch >= self.config.epochs:
            return text
        self.model.train()
        seconds = self.stepper.rehearse(to_device(next(iter(self.val_loader)), self.device))
        return f"{text}, about {seconds * len(self.train_loader) / self._processes:.0f} s of training per epoch"

    # What a run by several processes does in its own way: see `distributed.trainer`.

    _processes = 1

    def _make_stepper(self) -> Stepper:
        return Stepper(*self._of_stepper(halve=self.config.on_out_of_memory == "halve"))

    def _of_stepper(self, halve: bool) -> StepperParts:
        """The parts that every kind of stepper is made of."""
        c = self.config
        loss = CombinedQuantileLoss(c.quantiles, c.crossing_weight, c.sharpness_weight).to(self.device)
        rates = (lambda: self.scheduler.rates_at(self.tally.batches)) if self.deferred else None
        if c.horizon_weights == "auto":
            raise ValueError(
                "expected horizon_weights equal or root, found auto, which `kedro run` decides by the number of train "
                "anchors: name one of the two"
            )
        weights = root_weights(c.horizons) if c.horizon_weights == "root" else (1.0,)
        settings = StepSettings(c.clip_norm, c.seed, halve, c.realized_weight, weights)
        return self.model, self.optimizer, loss, self.precision, settings, rates

    def _held(self) -> AbstractContextManager[object]:
        return DirectoryLock(self.output_dir)

    def _put_in_order(self, never: bool) -> None:
        self.store.clean()
        if never:
            move_aside(self.output_dir)

    def _newest(self) -> tuple[Path, Checkpoint] | None:
        return self.store.newest_verified()

    def _run_epochs(self) -> None:
        while not self._ended():
            if not (self._train_epoch() and self._finish_epoch()):
                self._save(val_loss=None)
                self.status = "stopped"
                return

    def _ended(self) -> bool:
        if self.early_stopping.should_stop:
            self.status = "early_stopped"
        elif self.progress.epoch >= self.config.epochs:
            self.status = "finished"
        return self.status in ("early_stopped", "finished")

    def _train_epoch(self) -> bool:
        """Train on what is left of the epoch; False when a stop was requested."""
        p, epoch = self.progress, self.progress.epoch + 1
        if hasattr(self.train_loader, "set_epoch"):
            self.train_loader.set_epoch(epoch)
        self.model.train()
        looks = {"total": len(self.train_loader), "initial": p.batch, "unit": "batch", "delay": 2, "leave": False}
        with tqdm(desc=f"epoch {epoch} of {self.config.epochs}", disable=None if self.writes else True, **looks) as bar:
            for result, n_micro in self._steps():
                self._count(result, n_micro)
                bar.update(n_micro)
                if self._asked_to_stop():
                    return False
                self._save_by_time()
        return True

    def _steps(self) -> Iterator[tuple[StepResult, int]]:
        """Take the steps that are left of the epoch, one by one; yields each one's result and its micro-batches."""
        p = self.progress
        for group in groups(self.train_loader, p.batch, self.config.accumulation):
            yield self.stepper([to_device(batch, self.device) for batch in group], p.micro_batches), len(group)

    def _asked_to_stop(self) -> bool:
        return self._stop_requested

    def _count(self, result: StepResult, n_micro: int) -> None:
        """Move the counters; a skipped step uses up its data but holds the schedule."""
        p = self.progress
        p.batch += n_micro
        p.micro_batches += n_micro
        p.step += 1
        self.tally.add(result, n_micro)
        log_point = p.step % self.config.log_every == 0
        if log_point or not self.deferred:
            self._read_tally()
        if log_point:
            rate, norm = self.scheduler.get_last_lr()[0], float(result.grad_norm)
            count = max(float(result.count), 1.0)
            line = {"step_loss": float(result.loss_sum) / count, "learning_rate": rate, "grad_norm": norm}
            self.metrics_log.append({"step": p.step, "epoch": p.epoch + 1, **line})

    def _load_tally(self) -> None:
        p = self.progress
        counts = (p.loss_sum, p.loss_count, self.scheduler.batches, p.skipped, p.skipped_in_row, 0)
        self.tally.load(Counts(*counts))

    def _read_tally(self) -> None:
        """Bring progress and schedule up to date; raises TrainingFailedError after too many skipped steps in a row."""
        p, counts = self.progress, self.tally.read()
        if counts.skipped > p.skipped:
            log.warning("%d skipped by step %d: no finite loss and gradient", counts.skipped - p.skipped, p.step)
        p.loss_sum, p.loss_count = counts.loss_sum, counts.loss_count
        p.skipped, p.skipped_in_row = counts.skipped, counts.skipped_in_row
        self.scheduler.go_to(counts.batches)
        if counts.longest_row >= self.config.max_skipped:
            raise TrainingFailedError(
                f"expected finite losses, found {counts.longest_row} steps in a row without; the last good "
                f"checkpoint is {self.best_checkpoint}; lower train.learning_rate or check the features"
            )

    def _finish_epoch(self) -> bool:
        """Validate, record, then scheduler, early stopping, checkpoint; False when a stop was requested."""
        p, started = self.progress, time.perf_counter()
        self._read_tally()
        values = self._validate()
        if values is None:
            self.status = "stopped"
            return False
        record: Json = {"epoch": p.epoch, "step": p.step}
        if self.history:
            record["epoch"] = p.epoch = p.epoch + 1
            record["train_loss"] = p.loss_sum / p.loss_count if p.loss_count else float("nan")
            record |= {"learning_rate": self.scheduler.get_last_lr()[0], "skipped_steps": p.skipped}
            self.scheduler.step()
        record |= values | getattr(self.model, "gauges", dict)()
        self.early_stopping.step(values["val_loss"])
        p.batch, p.loss_sum, p.loss_count = 0, 0.0, 0.0
        self._load_tally()
        self.history.append(finite(record))
        self.metrics_log.append({**record, "validation_seconds": time.perf_counter() - started}, durable=True)
        self._save(values["val_loss"])
        if self.logger is not None:
            self.logger.log(record, step=p.step)
        log.info(epoch_line(record, self.start_name))
        return True

    def _validate(self) -> dict[str, float] | None:
        """Validation metrics of the present weights, with skills; None when a stop was requested."""
        levels, horizons = self.config.quantiles, self.config.horizons
        try:
            sums = self._validation_sums()
        except InterruptedError:
            return None
        if sums is None:
            raise ValueError("expected at least one validation window, found none; widen the validation split")
        if len(sums.count_H) != len(horizons) or sums.loss_HQ.shape[1] != len(levels):
            raise ValueError(
                f"expected {len(horizons)} horizons and {len(levels)} levels from the model, found "
                f"{tuple(sums.loss_HQ.shape)}; set train.horizons and train.quantiles to the model's"
            )
        values = metric_values(sums, levels, horizons)
        start = self.history[0] if self.history else values
        references = {self.start_name: {name: start[f"loss_{name}"] for name in horizons}}
        return values | skills(values, references | self.reference_losses, horizons)

    def _validation_sums(self) -> MetricSums | None:
        inputs = (self.model, self.val_loader, self.precision, self.config.quantiles, self.stepper.pieces)
        return validation_sums(*inputs, stop=self._asked_to_stop)

    def _save_by_time(self) -> None:
        minutes = self.config.every_minutes
        if minutes is not None and time.monotonic() - self._saved_at > 60 * minutes:
            self._save(val_loss=None)

    def _save(self, val_loss: float | None) -> None:
        if not self.writes:
            return
        self._read_tally()
        p = self.progress
        content = self.state.checkpoint(self.origin, val_loss, self.metrics_log.size())
        self.store.save(checkpoint_name(p.epoch, p.batch), content, finite(val_loss))
        self._saved_at = time.monotonic()

    def load_checkpoint(self, path: Path | str) -> Json:
        """Restore weights, optimiser, schedule, counters, history and generators from a verified checkpoint folder.

        Returns the state of its loop. Raises CheckpointError for a broken folder, a pickle file, another architecture,
        or a checkpoint without what training goes on from.
        """
        state = self.state.restore(read_checkpoint(path))
        self.status = "loaded"
        return state

    def _resume(self) -> str:
        """Go on from the newest verified checkpoint of this run directory, when there is one, and say so."""
        found = self._newest()
        if found is None:
            if self.store.folders() and self.writes:
                move_aside(self.output_dir)  # all broken, as the warnings say: their metrics are another run's
            self.metrics_log.truncate(0)  # a kill before the first checkpoint may have left epoch 0's line
            return ""
        folder, content = found
        self.state.require_same_configuration(content, self.output_dir)
        state = self.state.restore(content)
        if self.writes:
            self.store.point_links(folder.name)
        self.metrics_log.truncate(state["metrics_bytes"])
        p = self.progress
        return f"resuming from {folder.name}: epoch {p.epoch}, batch {p.batch}, step {p.step}"
