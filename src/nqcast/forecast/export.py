"""The network of a checkpoint as one file: `python -m nqcast.forecast.export CHECKPOINT FILE.pt2`, or FILE.onnx.

The program takes what a window is made of, by name: features (batch, bars, variables), clock (batch, bars, 4; int64),
scale (batch, horizons), unit_quantiles (batch, horizons, levels) and, where the network was trained with the scale's
own predictors, volatility (batch, predictors). It returns quantiles (batch, horizons, levels) in log-return units, for
any batch size, without this package. The scale itself comes from thousands of bars and stays outside. An ONNX file says
in its metadata, as JSON, what the axes mean: features, clock, horizons, levels, context.
"""

import argparse
import importlib.util
import io
import json
import logging
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nqcast.constants import CLOCK
from nqcast.forecast.loading import checkpoint_in
from nqcast.forecast.predictor import load_model
from nqcast.model.members import Network, first_of
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import Checkpoint, Metadata
from nqcast.storage.place import place
from nqcast.storage.verified import replace_verified_file

log = logging.getLogger("nqcast.forecast.export")  # as a command, too

TOLERANCE = 1e-5  # of the scale
_CALENDAR_RANGES = ((0, 7), (1, 32), (1, 367))


class ExportedNetwork(nn.Module):
    """The model with positional tensors in and one tensor out, as other runtimes want it."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs in their order."""
        names = ("features", "clock", "scale", "unit_quantiles")
        return (*names, "volatility") if self.model.config.n_volatility else names

    def forward(
        self,
        features_BTF: Tensor,
        clock_BTC: Tensor,
        scale_BH: Tensor,
        unit_quantiles_BHQ: Tensor,
        volatility_BK: Tensor | None = None,
    ) -> Tensor:
        """Quantiles (B, H, Q) in return units; `clock_BTC` holds the four integer clocks in the order of CLOCK."""
        clock = {name: clock_BTC[..., i] for i, name in enumerate(CLOCK)}
        return self.model(features_BTF, None, clock, scale_BH, unit_quantiles_BHQ, volatility_BK)["quantiles"]


def export_network(checkpoint: Checkpoint, path: Path) -> float:
    """Write the exported program and its manifest, FILE.sha256; returns its largest difference from the eager model.

    Raises:
        ValueError: the program read back differs by more than 1e-5 of the scale (then nothing is written).
    """
    network = ExportedNetwork(load_model(checkpoint)).eval()
    example, shapes = example_of(network)
    program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    content = _without_samples(buffer)
    gap = largest_difference(network, io.BytesIO(content))
    return write_if_close(path, content, gap, "export it with the version of torch that trained it")


def largest_difference(network: ExportedNetwork, program: Path | io.BytesIO) -> float:
    """Largest difference of a program from `network` over batches of 1, 3 and 64, in scales."""
    return worst_gap(network, torch.export.load(program).module())


def _without_samples(archive: io.BytesIO) -> bytes:
    """An exported program with empty sample inputs: torch writes a pickle there, even where there are none."""
    stripped = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(stripped, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = b"" if "/data/sample_inputs/" in name else source.read(name)
            target.writestr(zipfile.ZipInfo(name), content)
    return stripped.getvalue()


def write_if_close(path: Path, content: bytes, gap: float, cure: str) -> float:
    """Write an exported network and its manifest; returns `gap`, its largest difference from the eager one, in scales.

    Raises:
        ValueError: it is larger than TOLERANCE; the sentence ends with `cure`.
    """
    if gap > TOLERANCE:
        raise ValueError(
            f"expected the exported network within {TOLERANCE:g} of the eager one, found {gap:.2g} scales: {cure}"
        )
    replace_verified_file(path, content)
    log.info("%s: %d bytes, within %.1e scales of the eager model", path, len(content), gap)
    return gap


def worst_gap(network: ExportedNetwork, program: Callable[..., Tensor]) -> float:
    """Largest difference of `program` from `network` over random windows in batches of 1, 3 and 64.

    In scales, or as a share of the quantile where that is larger than the scale: float32 carries seven digits.
    """
    worst = 0.0
    with torch.no_grad():
        for seed, size in enumerate((1, 3, 64), 1):
            inputs = window_inputs(network.model, size, seed)
            eager_BHQ = network(*inputs)
            unit_BHQ = torch.maximum(eager_BHQ.abs(), inputs[2][:, :, None])
            worst = max(worst, float(((program(*inputs) - eager_BHQ).abs() / unit_BHQ).max()))
    return worst


def example_of(network: ExportedNetwork) -> tuple[tuple[Tensor, ...], list[dict[int, Any]]]:
    """Windows that an exporter traces the network by, and its free axis, the batch, of each input."""
    example = window_inputs(network.model, 4, seed=0)
    return example, [{0: torch.export.Dim("batch", min=1, max=65536)}] * len(example)


def window_inputs(model: Network, size: int, seed: int) -> tuple[Tensor, ...]:
    """A batch of random windows around the training set's moments, with all that `ExportedNetwork.inputs` names."""
    generator = torch.Generator().manual_seed(seed)
    c, one = model.config, first_of(model)
    noise_BTF = torch.randn(size, c.context, c.n_features, generator=generator)
    features_BTF = one.norm.feature_mean_F + noise_BTF * one.norm.feature_std_F
    ranges = ((0, Spacing(c.bar_minutes).slots), *_CALENDAR_RANGES)
    clock_BTC = torch.stack(
        [torch.randint(low, high, (size, c.context), generator=generator) for low, high in ranges], dim=-1
    )
    scale_BH = 1e-3 * (0.5 + torch.rand(size, c.n_horizons, generator=generator))
    inputs = (features_BTF, clock_BTC, scale_BH, one.head.base_HQ.expand(size, -1, -1).clone())
    return (*inputs, torch.randn(size, c.n_volatility, generator=generator)) if c.n_volatility else inputs


OUTPUT = "quantiles"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(checkpoint: Checkpoint, path: Path) -> float:
    """Write the ONNX file and its manifest, FILE.sha256; returns its largest difference from the eager one, in scales.

    Raises:
        ValueError: ONNX's packages are missing, or what onnxruntime computes differs by more than 1e-5 of the scale
            (then nothing is written).
    """
    _need_onnx()
    network = ExportedNetwork(load_model(checkpoint)).eval()
    content = _onnx_bytes(network, _metadata(checkpoint.metadata, network))
    cure = "use the versions of torch and onnxruntime that the requirements lock names"
    return write_if_close(path, content, onnx_difference(network, content), cure)


def onnx_difference(network: ExportedNetwork, content: bytes) -> float:
    """Largest difference of an ONNX file, run by onnxruntime, from `network` over batches of 1, 3 and 64, in scales."""
    session = importlib.import_module("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        named = {name: tensor.numpy() for name, tensor in zip(network.inputs, inputs, strict=True)}
        return torch.from_numpy(session.run([OUTPUT], named)[0])

    return worst_gap(network, run)


def _onnx_bytes(network: ExportedNetwork, metadata: dict[str, str]) -> bytes:
    """One self-contained file with a free batch axis."""
    example, shapes = example_of(network)
    with _quiet_exporter():
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(network.inputs),
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    program.model.metadata_props.update(metadata)
    proto = program.model_proto
    _forget_origin(proto)
    return bytes(proto.SerializeToString())


def _forget_origin(proto: Any) -> None:
    """Drop the exporter's notes on every node: stack traces with the paths of the machine that exported."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _metadata(metadata: Metadata, network: ExportedNetwork) -> dict[str, str]:
    facts = {
        "features": metadata.features,
        "clock": list(CLOCK),
        "horizons": metadata.horizons,
        "levels": metadata.quantiles,
        "context": network.model.config.context,
        "fingerprint": metadata.fingerprint,
        "unit": "log return; unit_quantiles are quantiles of return / scale",
    }
    return {f"nqcast.{name}": json.dumps(value) for name, value in facts.items()}


def _need_onnx() -> None:
    """Raise ValueError with the cure where a package for ONNX is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"expected {', '.join(_NEEDED)} to be installed, found no {' and no '.join(missing)}: "
            "pip install 'nqcast[onnx]', or export to a .pt2 file, which needs torch alone"
        )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks on itself quiet (deprecated classes of its own, packages that it does not find)."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        registration.setLevel(level)


_BY_ENDING = {".pt2": export_network, ".onnx": export_onnx}


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of a folder."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.forecast.export", description=__doc__)
    parser.add_argument("checkpoint", type=place, help="data/06_models/checkpoint, or one version in it")
    parser.add_argument("file", type=Path, help="FILE.pt2 for torch.export, FILE.onnx for ONNX runtimes")
    chosen = parser.parse_args(arguments)
    export = _BY_ENDING.get(chosen.file.suffix)
    if export is None:
        parser.error(f"expected a file that ends in .pt2 or .onnx, found {chosen.file}: the ending chooses the format")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nqcast").setLevel(logging.INFO)  # the exporter has dozens of remarks on itself
    export(checkpoint_in(chosen.checkpoint), chosen.file)


if __name__ == "__main__":
    main(sys.argv[1:])
