"""The network of a checkpoint as a torch.export program (.pt2), without the samples that torch would pickle into it."""

import io
import logging
import zipfile
from pathlib import Path

import torch

from nqcast.forecast.export.network import TOLERANCE, ExportedNetwork, window_inputs, worst_gap
from nqcast.forecast.predictor import load_model
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.verified import replace_verified_file

log = logging.getLogger(__name__)


def export_network(checkpoint: Checkpoint, path: Path) -> float:
    """Write the exported program and its manifest, FILE.sha256; returns its largest difference from the eager model.

    Raises:
        ValueError: the program read back differs by more than 1e-5 of the scale (then nothing is written).
    """
    network = ExportedNetwork(load_model(checkpoint)).eval()
    example = window_inputs(network.model, 4, seed=0)
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(network, example, dynamic_shapes=[{0: batch}] * len(example), strict=False)
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    gaps: list[float] = []

    def fill(temporary: Path) -> None:
        _without_samples(buffer, temporary)
        gaps.append(largest_difference(network, temporary))
        if gaps[0] > TOLERANCE:
            raise ValueError(
                f"expected the exported network within {TOLERANCE:g} of the eager one, found {gaps[0]:.2g} scales: "
                "export it with the version of torch that trained it"
            )

    replace_verified_file(path, fill)
    log.info("%s: %d bytes, within %.1e scales of the eager model", path, path.stat().st_size, gaps[0])
    return gaps[0]


def largest_difference(network: ExportedNetwork, path: Path) -> float:
    """Largest difference of the program in `path` from `network` over batches of 1, 3 and 64, in scales."""
    return worst_gap(network, torch.export.load(path).module())


def _without_samples(archive: io.BytesIO, path: Path) -> None:
    """Copy an exported program with empty sample inputs: torch writes a pickle there, even where there are none."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = b"" if "/data/sample_inputs/" in name else source.read(name)
            target.writestr(zipfile.ZipInfo(name), content)
