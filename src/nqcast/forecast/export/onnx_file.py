"""The network of a checkpoint as one ONNX file: `python -m nqcast.forecast.export CHECKPOINT FILE.onnx`.

Inputs are those of the torch.export program, by name: features (batch, bars, variables), clock (batch, bars, 4; int64),
scale (batch, horizons), unit_quantiles (batch, horizons, levels) and, where the network was trained with the scale's
own predictors, volatility (batch, predictors); out come quantiles (batch, horizons, levels) in log-return units. What
the axes mean stands in the file's metadata as JSON: features, clock, horizons, levels, context.
"""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nqcast.constants import CLOCK
from nqcast.forecast.export.network import ExportedNetwork, example_of, worst_gap, write_if_close
from nqcast.forecast.predictor import load_model
from nqcast.storage.checkpoint import Checkpoint, Metadata

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
