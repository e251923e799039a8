"""The loop: exact resume, what is best, what is counted, what is refused."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nqcast.horizons import root_weights
from nqcast.training import CheckpointError, TrainConfig, Trainer, create_trainer
from nqcast.training.checkpoint import read_checkpoint
from nqcast.training.trainer import TrainingFailedError

from .conftest import HORIZONS, TinyLoader, TinyModel

MakeTrainer = Callable[..., Trainer]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same_end(one: Trainer, other: Trainer) -> None:
    assert one.history == other.history
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def lines(trainer: Trainer) -> list[dict]:
    text = (trainer.output_dir / "metrics.jsonl").read_text()
    return [
        {name: value for name, value in json.loads(line).items() if name != "validation_seconds"}
        for line in text.splitlines()
    ]


def stop_after_steps(trainer: Trainer, steps: int) -> Trainer:
    """Request a stop from within the loop, as a signal would."""
    inner, done = trainer.stepper, 0

    def counted(*args):
        nonlocal done
        done += 1
        if done == steps:
            trainer.request_stop()
        return inner(*args)

    counted.scaler, counted.pieces, counted.rehearse = inner.scaler, inner.pieces, inner.rehearse
    trainer.stepper = counted
    return trainer


def test_training_lowers_the_validation_loss(make_trainer: MakeTrainer) -> None:
    history = make_trainer(epochs=8).train()
    assert [record["epoch"] for record in history] == list(range(9))
    assert history[-1]["val_loss"] < 0.8 * history[0]["val_loss"]
    assert history[-1]["skill_start"] == pytest.approx(
        sum(1 - history[-1][f"loss_{h}"] / history[0][f"loss_{h}"] for h in HORIZONS) / 2
    )


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_continued_after_an_epoch_ends_bit_equal(make_trainer: MakeTrainer, epoch: int) -> None:
    whole = make_trainer("whole")
    whole.train()
    make_trainer("parts", epochs=epoch).train()
    torch.manual_seed(999)
    second = make_trainer("parts")
    second.train()
    assert_same_end(whole, second)
    assert lines(whole) == lines(second)


@pytest.mark.parametrize("steps", [1, 4, 5, 12])
def test_a_run_stopped_inside_an_epoch_ends_bit_equal(make_trainer: MakeTrainer, steps: int) -> None:
    whole = make_trainer("whole")
    whole.train()
    first = stop_after_steps(make_trainer("parts"), steps)
    first.train()
    assert first.status == "stopped"
    second = make_trainer("parts")
    second.train()
    assert_same_end(whole, second)
    assert lines(whole) == lines(second)


def test_a_run_stopped_in_validation_ends_bit_equal(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole")
    whole.train()
    first = make_trainer("parts")
    passes = 0

    def interrupted():
        nonlocal passes
        passes += 1
        for i, batch in enumerate(TinyLoader(60, 16, None)):
            if passes == 4 and i == 1:  # the first pass is the rehearsal's, the second epoch 0's
                first.request_stop()
            yield batch

    class Interrupting:
        def __iter__(self):
            return interrupted()

    first.val_loader = Interrupting()
    first.train()
    assert (first.status, len(first.history)) == ("stopped", 2)
    second = make_trainer("parts")
    second.train()
    assert_same_end(whole, second)


def test_work_after_the_last_checkpoint_is_done_again_without_double_lines(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole")
    whole.train()
    killed = make_trainer("parts")
    killed._save = lambda val_loss: None if killed.progress.epoch == 3 else Trainer._save(killed, val_loss)
    killed.config = killed.config.model_copy(update={"epochs": 3})
    killed.train()  # epoch 3 was logged, but its checkpoint never reached the disk
    assert lines(killed)[-1]["epoch"] == 3
    second = make_trainer("parts")
    second.train()
    assert lines(whole) == lines(second)
    assert_same_end(whole, second)


def test_a_broken_newest_checkpoint_is_named_and_the_one_before_is_used(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_trainer("whole")
    whole.train()
    first = make_trainer("parts", epochs=3)
    first.train()
    file = first.output_dir / "checkpoint_epoch_0003" / "training.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    second = make_trainer("parts")
    with caplog.at_level(logging.INFO):
        second.train()
    assert any("checkpoint_epoch_0003" in r.message for r in caplog.records if r.levelname == "WARNING")
    assert any("resuming from checkpoint_epoch_0002" in r.message for r in caplog.records)
    assert_same_end(whole, second)


def test_best_is_lowest_not_last_and_the_start_takes_part(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(learning_rate=100.0, warmup_steps=0, epochs=5, top_k=2)
    history = trainer.train()
    assert min(record["val_loss"] for record in history[1:]) > history[0]["val_loss"]
    assert (trainer.output_dir / "checkpoint_best").resolve().name == "checkpoint_epoch_0000"
    assert (trainer.output_dir / "checkpoint_latest").resolve().name == "checkpoint_epoch_0005"
    ranked = sorted(history, key=lambda record: record["val_loss"])
    kept = {folder.name for folder in trainer.store.folders()}
    assert {f"checkpoint_epoch_{record['epoch']:04d}" for record in ranked[:2]} <= kept


def test_nan_validation_is_never_best_and_stops_a_run_in_time(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=20, patience=2)
    inner, calls = trainer._validate, 0

    def validate():
        nonlocal calls
        calls += 1
        values = inner()
        return values if calls < 3 else {**values, "val_loss": float("nan")}

    trainer._validate = validate
    history = trainer.train()
    assert trainer.status == "early_stopped"
    assert [record["val_loss"] for record in history[2:]] == [None, None]
    assert trainer.best_checkpoint.name == "checkpoint_epoch_0001"


def poison_batches(*numbers: int) -> Callable[[int, dict], dict]:
    return lambda i, batch: {**batch, "features": batch["features"] * torch.inf} if i in numbers else batch


def test_a_non_finite_step_is_skipped_counted_and_holds_the_schedule(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(poison=poison_batches(2), epochs=1)
    history = trainer.train()
    assert history[-1]["skipped_steps"] == 1
    assert history[-1]["step"] == 5  # ten micro-batches, two a step
    assert trainer.scheduler.batches == 8
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


def test_too_many_non_finite_steps_in_a_row_end_the_run_and_name_the_last_good_checkpoint(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(poison=poison_batches(*range(10)), max_skipped=3)
    with pytest.raises(TrainingFailedError, match=r"3 steps in a row.*checkpoint_epoch_0000"):
        trainer.train()


def test_a_run_of_another_configuration_is_refused_with_the_differing_keys(make_trainer: MakeTrainer) -> None:
    make_trainer(epochs=1).train()
    with pytest.raises(CheckpointError, match=r"learning_rate: saved 0\.005, now 0\.1"):
        make_trainer(learning_rate=0.1).train()


def test_never_resuming_starts_anew_and_keeps_the_earlier_run_aside(make_trainer: MakeTrainer) -> None:
    first = make_trainer(epochs=1)
    first.train()
    second = make_trainer(learning_rate=0.1, epochs=1)
    second.train(resume="never")
    assert [record["epoch"] for record in second.history] == [0, 1]
    aside = second.output_dir / "replaced_001"
    assert read_checkpoint(aside / "checkpoint_best").metadata.train["learning_rate"] == 5e-3


def test_the_first_line_says_where_how_large_and_how_long(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nqcast.training"):
        make_trainer(epochs=1).train()
    pattern = r"device cpu \(\d+ threads\), precision fp32, [\d,]+ parameters, about \d+ s of training per epoch"
    assert re.fullmatch(pattern, caplog.messages[0]), caplog.messages[0]


def test_a_finished_run_returns_its_history_at_once(make_trainer: MakeTrainer) -> None:
    first = make_trainer(epochs=2)
    first.train()
    second = make_trainer(epochs=2)
    second.train_loader = None
    assert second.train() == first.history


def test_load_checkpoint_takes_the_links_and_restores_everything(make_trainer: MakeTrainer) -> None:
    first = make_trainer(epochs=2)
    first.train()
    second = make_trainer("elsewhere")
    state = second.load_checkpoint(first.output_dir / "checkpoint_latest")
    assert state["progress"]["epoch"] == 2
    assert_same_end(first, second)
    assert second.scheduler.get_last_lr() == first.scheduler.get_last_lr()


def test_a_checkpoint_of_another_architecture_is_refused_with_the_differences(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    first = make_trainer(epochs=0)
    first.train()
    model = TinyModel()
    model.body[3] = torch.nn.Linear(16, 21)
    other = Trainer(model, first.config, first.train_loader, first.val_loader, tmp_path / "other", "cpu")
    with pytest.raises(CheckpointError, match=r"body\.3\.weight is \(14, 16\) instead of \(21, 16\)"):
        other.load_checkpoint(first.output_dir / "checkpoint_latest")


def test_checkpoints_by_time_are_written_inside_an_epoch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(every_minutes=1e-9, epochs=1)
    names = []
    inner = trainer.store.save
    trainer.store.save = lambda name, *rest: (names.append(name), inner(name, *rest))
    trainer.train()
    assert "checkpoint_epoch_0000_batch_000004" in names


def test_the_logger_gets_one_call_per_epoch_with_the_step(make_trainer: MakeTrainer) -> None:
    class Recorder:
        calls: list = []  # noqa: RUF012

        def log(self, values: dict, step: int) -> None:
            self.calls.append((step, values["val_loss"]))

    trainer = make_trainer(logger=Recorder(), epochs=2)
    history = trainer.train()
    assert Recorder.calls == [(record["step"], record["val_loss"]) for record in history]


def test_reference_losses_become_skills(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(epochs=1)
    trainer.reference_losses = {"constants": {"15m": 4e-4, "30m": 2e-4}}
    last = trainer.train()[-1]
    assert last["skill_constants_30m"] == pytest.approx(1 - last["loss_30m"] / 2e-4)


def test_the_first_line_says_device_precision_and_parameters(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        make_trainer(epochs=0).train()
    assert all(word in caplog.messages[0] for word in ("device cpu", "fp32", "350 parameters"))


def test_weights_of_horizons_change_what_is_learnt_and_not_the_start(make_trainer: MakeTrainer) -> None:
    equal, root = (make_trainer(kind, epochs=2, horizon_weights=kind) for kind in ("equal", "root"))
    assert root.stepper.settings.horizon_weights == root_weights(HORIZONS)
    first, last = zip(*((run[0], run[-1]) for run in (equal.train(), root.train())), strict=True)
    assert first[0] == first[1] and last[0]["loss_15m"] != last[1]["loss_15m"]
    with pytest.raises(ValueError, match="expected horizon_weights equal or root, found auto"):
        make_trainer("auto", horizon_weights="auto").train()


def test_horizons_that_are_not_the_models_are_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"3 horizons.*\(2, 7\)"):
        make_trainer(horizons=("15m", "30m", "60m")).train()


def test_create_trainer_sets_the_base_from_the_data_module(tmp_path: Path, config: TrainConfig) -> None:
    class Module:
        def setup(self) -> None:
            self.unit_quantiles_HQ, self.feature_mean_F, self.feature_std_F = "quantiles", "mean", "std"
            self.train_loader, self.val_loader = TinyLoader(64, 16, 0), TinyLoader(32, 16, None)

    model = TinyModel()
    model.set_base = lambda *values: setattr(model, "given", values)
    trainer = create_trainer(model, config, Module(), tmp_path)
    assert model.given == ("quantiles", "mean", "std")
    assert len(trainer.train_loader) == 4


def test_a_run_killed_between_its_first_line_and_its_first_checkpoint_starts_with_one_line(
    make_trainer: MakeTrainer,
) -> None:
    whole = make_trainer("whole")
    whole.train()
    killed = make_trainer("parts", epochs=0)
    killed._save = lambda val_loss: None
    killed.train()
    assert len(lines(killed)) == 1
    second = make_trainer("parts")
    second.train()
    assert lines(whole) == lines(second)


def test_where_every_checkpoint_is_broken_the_run_is_moved_aside_and_starts_anew(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole")
    whole.train()
    first = make_trainer("parts", epochs=1)
    first.train()
    for state in first.output_dir.glob("checkpoint_epoch_*/checkpoint.json"):
        state.write_text("{}")
    second = make_trainer("parts")
    second.train()
    assert lines(whole) == lines(second)
    assert (second.output_dir / "replaced_001" / "checkpoint_epoch_0001").is_dir()


def test_links_that_a_kill_left_behind_are_set_right_by_the_next_start(make_trainer: MakeTrainer) -> None:
    first = make_trainer(epochs=3)
    first.train()
    best = (first.output_dir / "checkpoint_best").resolve().name
    for name in ("checkpoint_best", "checkpoint_latest"):
        (first.output_dir / name).unlink()
        (first.output_dir / name).symlink_to("checkpoint_epoch_0001")
    make_trainer(epochs=3).train()
    assert (first.output_dir / "checkpoint_best").resolve().name == best == "checkpoint_epoch_0003"
    assert (first.output_dir / "checkpoint_latest").resolve().name == "checkpoint_epoch_0003"


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (["encoder-a"], [], "computed by fused operations, the rest is by torch's own operations:"),
        ([], ["encoder-a"], "computed by torch's own operations, the rest is by fused operations:"),
        (["encoder-a"], ["encoder-b"], "the rest is by fused operations of another build:"),
        (["encoder-a"], ["encoder-a"], ""),
    ],
)
def test_a_run_that_goes_on_by_other_operations_says_that_its_last_digits_will_differ(
    make_trainer: Callable[..., Trainer], caplog: pytest.LogCaptureFixture, first: list, then: list, said: str
) -> None:
    for operations, epochs in ((first, 1), (then, 2)):
        trainer = make_trainer(epochs=epochs)
        vars(trainer.model)["operations"] = lambda operations=operations: operations
        trainer.train()
    assert said in caplog.text and ("last digits" in caplog.text) == bool(said)
