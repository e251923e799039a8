"""The network of a checkpoint as one file: `python -m nqcast.forecast.export CHECKPOINT FILE.pt2`, or FILE.onnx.

The program takes what a window is made of (features, clock, scale, unit quantiles, and the scale's own predictors where
the network was trained with them) and returns quantiles in log-return
units, for any batch size, without this package. The scale itself comes from thousands of bars and stays outside.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nqcast.data.config import CLOCK
from nqcast.evaluation.predict import load_model
from nqcast.model import MIGT_TVDT

log = logging.getLogger(__name__)

TOLERANCE = 1e-5  # of the scale


class ExportedNetwork(nn.Module):
    """The model with positional tensors in and one tensor out, as other runtimes want it."""

    def __init__(self, model: MIGT_TVDT) -> None:
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


def export_network(checkpoint: dict[str, Any], path: Path) -> float:
    """Write the exported program and return its largest difference from the eager model, in scales.

    Raises:
        ValueError: the program read back differs by more than 1e-5.
    """
    network = ExportedNetwork(load_model(checkpoint)).eval()
    example = window_inputs(network.model, 4, seed=0)
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(network, example, dynamic_shapes=[{0: batch}] * len(example), strict=False)
    program.example_inputs = None
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    _without_samples(buffer, path)
    worst = largest_difference(network, path)
    if worst > TOLERANCE:
        raise ValueError(
            f"expected the exported network within {TOLERANCE:g} of the eager one, found {worst:.2g} scales: "
            "export it with the version of torch that trained it"
        )
    log.info("%s: %d bytes, within %.1e scales of the eager model", path, path.stat().st_size, worst)
    return worst


def largest_difference(network: ExportedNetwork, path: Path) -> float:
    """Largest difference of the program in `path` from `network` over batches of 1, 3 and 64, in scales."""
    return worst_gap(network, torch.export.load(path).module())


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


def _without_samples(archive: io.BytesIO, path: Path) -> None:
    """Copy an exported program with empty sample inputs: torch writes a pickle there, even where there are none."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = b"" if "/data/sample_inputs/" in name else source.read(name)
            target.writestr(zipfile.ZipInfo(name), content)


def window_inputs(model: MIGT_TVDT, size: int, seed: int) -> tuple[Tensor, ...]:
    """A batch of random windows around the training set's moments, with all that `ExportedNetwork.inputs` names."""
    generator = torch.Generator().manual_seed(seed)
    c = model.config
    noise_BTF = torch.randn(size, c.context, c.n_features, generator=generator)
    features_BTF = model.norm.feature_mean_F + noise_BTF * model.norm.feature_std_F
    clock_BTC = torch.stack(
        [torch.randint(low, high, (size, c.context), generator=generator) for low, high in _CLOCK_RANGES], dim=-1
    )
    scale_BH = 1e-3 * (0.5 + torch.rand(size, c.n_horizons, generator=generator))
    inputs = (features_BTF, clock_BTC, scale_BH, model.head.base_HQ.expand(size, -1, -1).clone())
    return (*inputs, torch.randn(size, c.n_volatility, generator=generator)) if c.n_volatility else inputs


_CLOCK_RANGES = ((0, 288), (0, 7), (1, 32), (1, 367))


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of a folder."""
    from nqcast.forecast.loading import checkpoint_in

    parser = argparse.ArgumentParser(prog="python -m nqcast.forecast.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="data/06_models/checkpoint, or one version in it")
    parser.add_argument("file", type=Path, help="FILE.pt2 for torch.export, FILE.onnx for ONNX runtimes")
    chosen = parser.parse_args(arguments)
    if chosen.file.suffix not in (".pt2", ".onnx"):
        parser.error(f"expected a file that ends in .pt2 or .onnx, found {chosen.file}: the ending chooses the format")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if chosen.file.suffix == ".onnx":
        from nqcast.forecast.onnx_file import export_onnx as export
    else:
        export = export_network
    export(checkpoint_in(chosen.checkpoint), chosen.file)


if __name__ == "__main__":
    main(sys.argv[1:])
