"""The network of a checkpoint as one file: `python -m nqcast.forecast.export CHECKPOINT FILE.pt2`, or FILE.onnx.

The program takes what a window is made of (features, clock, scale, unit quantiles, and the scale's own predictors where
the network was trained with them) and returns quantiles in log-return units, for any batch size, without this package.
The scale itself comes from thousands of bars and stays outside.
"""

import argparse
import logging
import sys
from pathlib import Path

from nqcast.forecast.export.network import export_network
from nqcast.forecast.export.onnx_file import export_onnx
from nqcast.forecast.loading import checkpoint_in
from nqcast.storage.place import place

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
