"""The one checkpoint format: weights and scale, what they are, and how to go on training; never a pickle.

A folder with model.safetensors (tensors "model.…" and "scale.…"), checkpoint.json and manifest.sha256. A working
checkpoint holds training.safetensors too (moments of the optimiser, generators) and, in checkpoint.json, the state of
the loop. Whatever holds weights and scale can forecast. Folders of earlier versions are read, with one line of log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as bytes_from_tensors

from nqcast.spacing import Spacing
from nqcast.storage.fingerprint import digest
from nqcast.storage.json_values import Json, plain, read_object
from nqcast.storage.place import Place, place
from nqcast.storage.verified import VerificationError, read_verified, verify

log = logging.getLogger(__name__)

WEIGHTS, TRAINING = "model.safetensors", "training.safetensors"
DOCUMENT, MANIFEST = "checkpoint.json", "manifest.sha256"
FORMAT = 2
KEPT = "trailing."  # how the names of kept rows begin: bars, not weights
MEMBERS = "model.members."  # how the names of several networks' weights begin, before the network's number
_OLD_STATE, _OLD_OPTIMIZER, OLD_MANIFEST = "state.json", "optimizer.safetensors", "manifest.json"
_PICKLED = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}

Tensors = dict[str, NDArray[Any]]


class CheckpointError(VerificationError):
    """A checkpoint is missing, broken, or belongs to something else."""


@dataclass(frozen=True)
class DataCard:
    """What a checkpoint says of the bars that it was trained on.

    fingerprint: of the content of the feature table; rows: of that table; tick: price step, in points; instrument: the
    row of its product; source: the file's name, or the simulated market; first and last: stamps, UTC; symbol and pool:
    which symbol's own, of which network over many; symbols: of the pool itself.
    """

    fingerprint: str = ""
    rows: int = 0
    tick: float | None = None
    instrument: Json | None = None
    source: str = ""
    first: str = ""
    last: str = ""
    symbol: str = ""
    pool: str = ""
    symbols: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> DataCard:
        """The card in a JSON document; what this version does not know of the bars it does not use."""
        known = {one.name: document[one.name] for one in fields(cls) if one.name in document}
        return cls(**{**known, "symbols": tuple(known.get("symbols", ()))})

    def to_json(self) -> Json:
        """The card as JSON values, without the names that only some products or pools have."""
        absent = {name for name in ("instrument", "symbol", "pool", "symbols") if not getattr(self, name)}
        return {name: value for name, value in asdict(self).items() if name not in absent}


@dataclass(frozen=True)
class Metadata:
    """What weights are and what made them: a forecaster is known by its `fingerprint`, its numbers by their hash."""

    fingerprint: str = ""
    data: DataCard = field(default_factory=DataCard)
    model: Json = field(default_factory=dict)
    train: Json = field(default_factory=dict)
    scale: Json = field(default_factory=dict)
    features: tuple[str, ...] = ()
    horizons: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    epoch: int = 0
    metrics: Json = field(default_factory=dict)
    version: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Metadata:
        """The metadata in a JSON document; ValueError for a field that this version does not know."""
        unknown = sorted(document.keys() - {one.name for one in fields(cls)})
        if unknown:
            raise ValueError(
                f"expected a checkpoint's metadata, found the unknown {', '.join(unknown)}: it was written by another "
                "version of nqcast, with which it can be read"
            )
        lists = {name: tuple(document[name]) for name in ("features", "horizons", "quantiles") if name in document}
        return cls(**{**document, **lists, "data": DataCard.of(document.get("data", {}))})

    @property
    def best_epochs(self) -> list[int]:
        """The epoch by which each network is the best on validation; 0 is the untrained one."""
        return list(self.metrics.get("member_epochs", [self.epoch]))

    @property
    def context(self) -> int:
        """Bars of the network's window."""
        return int(self.model["context"])

    @property
    def spacing(self) -> Spacing:
        """The spacing of the bars that it was trained on."""
        return Spacing(int(self.model.get("bar_minutes", Spacing().minutes)))

    def to_json(self) -> Json:
        """All fields as JSON values."""
        return asdict(self) | {"data": self.data.to_json()}


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on: tensors ("optimizer.…", "rng.…") and the state of the loop as JSON values."""

    tensors: Tensors
    state: Json


@dataclass(frozen=True)
class Checkpoint:
    """Tensors "model.…", "scale.…" and perhaps "trailing.…", what they are, and what training can go on from."""

    tensors: Tensors
    metadata: Metadata = field(default_factory=Metadata)
    training: TrainingState | None = None

    @classmethod
    def of(cls, artifact: Checkpoint | Mapping[str, Any]) -> Checkpoint:
        """A checkpoint, also from the {"tensors", "metadata"} of earlier versions.

        Raises:
            ValueError: it is neither, or a tensor is no numeric array.
        """
        if not isinstance(artifact, Checkpoint):
            if not isinstance(artifact, Mapping) or set(artifact) != {"tensors", "metadata"}:
                found = sorted(map(str, artifact)) if isinstance(artifact, Mapping) else type(artifact).__name__
                raise ValueError(f'expected a Checkpoint, or {{"tensors": …, "metadata": …}}, found {found}')
            artifact = cls(dict(artifact["tensors"]), Metadata.of(artifact["metadata"]))
        for name, array in artifact.tensors.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"expected a numeric NumPy array as tensor {name!r}, found "
                    f"{getattr(array, 'dtype', type(array).__name__)}: use tensor.detach().cpu().numpy()"
                )
        return artifact

    def part(self, prefix: str) -> Tensors:
        """The tensors named "<prefix>.…" without the prefix; ValueError where there is none."""
        found = {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}
        if not found:
            raise ValueError(
                f"expected tensors named {prefix}.… in the checkpoint, found none: run the train pipeline again, which "
                "reads a finished run back"
            )
        return found

    @property
    def members(self) -> int:
        """Networks whose mean it forecasts by, named "model.members.0.…" and on; 0 where it is one without a number."""
        numbers = {name.split(".")[2] for name in self.tensors if name.startswith(MEMBERS)}
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    def member(self, number: int) -> Checkpoint:
        """The checkpoint of one of its networks; itself where it is one."""
        if not self.members:
            return self
        own = f"{MEMBERS}{number}."
        if not any(name.startswith(own) for name in self.tensors):
            raise ValueError(
                f"expected {number + 1} networks or more in the checkpoint, found {self.members}: set train.members to "
                "that, or start cold"
            )
        kept = {f"model.{k.removeprefix(own)}": v for k, v in self.tensors.items() if k.startswith(own)}
        others = {name: array for name, array in self.tensors.items() if not name.startswith(MEMBERS)}
        return replace(self, tensors=kept | others)

    def without_training(self) -> Checkpoint:
        """What forecasts, without what training goes on from."""
        return replace(self, training=None)

    @property
    def trailing(self) -> Tensors:
        """The rows of the latest sessions that it keeps for its scale (`nqcast.data.trailing`), by column."""
        return {k.removeprefix(KEPT): v for k, v in self.tensors.items() if k.startswith(KEPT)}

    def with_trailing(self, rows: Tensors) -> Checkpoint:
        """The same forecaster with these rows instead of those that it keeps."""
        own = {name: array for name, array in self.tensors.items() if not name.startswith(KEPT)}
        return replace(self, tensors=own | {f"{KEPT}{name}": array for name, array in rows.items()})

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 of weights and scale by name, type and shape: what a calibration is fitted for."""
        own = sorted((name, array) for name, array in self.tensors.items() if not name.startswith(KEPT))
        arrays = ((name, _storable(array)) for name, array in own)
        return digest(repr((name, one.dtype.str, one.shape)).encode() + one.tobytes() for name, one in arrays)


def checkpoint_files(checkpoint: Checkpoint | Mapping[str, Any]) -> dict[str, bytes]:
    """The content of a checkpoint's files by name; ValueError where it is no checkpoint."""
    checkpoint = Checkpoint.of(checkpoint)
    document: Json = {"format": FORMAT, **checkpoint.metadata.to_json()}
    files = {WEIGHTS: _bytes(checkpoint.tensors)}
    if checkpoint.training is not None:
        document["training"] = checkpoint.training.state
        files[TRAINING] = _bytes(checkpoint.training.tensors)
    text = json.dumps(plain(document, "metadata"), indent=1, ensure_ascii=False) + "\n"
    return {**files, DOCUMENT: text.encode()}


def read_checkpoint(path: Place | str) -> Checkpoint:
    """The verified checkpoint in a folder.

    Raises:
        CheckpointError: there is none, it is broken, a pickle, or of a later format; says what to do.
    """
    folder = place(path)
    _refuse_what_is_none(folder)
    try:
        return _read_first_format(folder) if (folder / OLD_MANIFEST).exists() else _read(folder)
    except (VerificationError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"expected a whole checkpoint in {folder}, found it incomplete, changed or of another kind: {error}; "
            "use another one"
        ) from error


def verify_checkpoint(folder: Place) -> None:
    """Raise VerificationError unless the files of a checkpoint folder are those that were written."""
    refuse_pickle_inside(folder)
    verify(folder / MANIFEST)


def training_state_in(folder: Place) -> Json:
    """The state of the loop in a working checkpoint, unverified: a look, for choosing which one to read."""
    if (folder / _OLD_STATE).exists():
        return read_object((folder / _OLD_STATE).read_bytes(), folder / _OLD_STATE)
    return dict(read_object((folder / DOCUMENT).read_bytes(), folder / DOCUMENT)["training"])


def metadata_in(folder: Place) -> Metadata:
    """What the weights in a checkpoint folder are, unverified: a look."""
    document = read_object((folder / DOCUMENT).read_bytes(), folder / DOCUMENT)
    return Metadata.of({name: value for name, value in document.items() if name not in ("format", "training")})


def refuse_pickle(path: Place) -> None:
    """Raise CheckpointError for a file name of the pickle family: reading such a file runs the code inside it."""
    if path.suffix.lower() in _PICKLED:
        raise CheckpointError(
            f"expected a checkpoint folder with {WEIGHTS} and {DOCUMENT}, found {path.name}: {path.suffix} files are "
            "pickles, which can run code when they are read, and are never opened here. Convert the weights with "
            "safetensors.torch.save_file where you trust the file"
        )


def refuse_pickle_inside(folder: Place) -> None:
    """Raise CheckpointError where a pickle lies in the place of the weights."""
    if not (folder / WEIGHTS).exists() and folder.is_dir():
        for inside in folder.iterdir():
            refuse_pickle(inside)


def _refuse_what_is_none(folder: Place) -> None:
    refuse_pickle(folder)
    if folder.is_file():
        raise CheckpointError(f"expected a checkpoint folder with {WEIGHTS} and {DOCUMENT}, found the file {folder}")
    if not folder.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found nothing at {folder}; check the path")
    refuse_pickle_inside(folder)


def _read(folder: Place) -> Checkpoint:
    manifest = folder / MANIFEST
    document = read_object(read_verified(folder / DOCUMENT, manifest), DOCUMENT)
    number, state = document.pop("format", 1), document.pop("training", None)
    if number not in (1, FORMAT):
        raise ValueError(f"expected format {FORMAT} or 1, found {number!r}, which a later version of nqcast wrote")
    if number == 1:
        log.info("checkpoint %s is of an earlier format and is read as it is", folder)
    tensors = tensors_from_bytes(read_verified(folder / WEIGHTS, manifest))
    training = None if state is None else tensors_from_bytes(read_verified(folder / TRAINING, manifest))
    return Checkpoint(tensors, Metadata.of(document), None if training is None else TrainingState(training, state))


def _read_first_format(folder: Place) -> Checkpoint:
    """A working checkpoint of earlier versions: it goes on training; without its scale it forecasts nothing."""
    log.info("checkpoint %s is of an earlier format and is read as it is", folder)
    listed = read_object((folder / OLD_MANIFEST).read_bytes(), OLD_MANIFEST)["files"]
    files = {}
    for name in (WEIGHTS, _OLD_OPTIMIZER, _OLD_STATE):
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise VerificationError(f"{name} cannot be read ({error.strerror})") from error
        if digest(files[name]) != listed[name]["sha256"]:
            raise VerificationError(f"expected {name} as its manifest describes it, found other content")
    weights, moments = tensors_from_bytes(files[WEIGHTS]), tensors_from_bytes(files[_OLD_OPTIMIZER])
    state = read_object(files[_OLD_STATE], _OLD_STATE)
    metadata = Metadata(model=state.pop("model_config", None) or {}, train=state.pop("train_config", {}))
    named = {name if name.startswith("rng.") else f"optimizer.{name}": array for name, array in moments.items()}
    return Checkpoint({f"model.{k}": v for k, v in weights.items()}, metadata, TrainingState(named, state))


def _bytes(tensors: Tensors) -> bytes:
    return bytes_from_tensors({name: _storable(array) for name, array in tensors.items()})


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.array(native, order="C", copy=None)
