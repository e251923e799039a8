"""Baselines: what a forecast has to beat, fitted on the same train anchors and scored on the same test anchors.

One file per baseline: ``baselines/<name>.py`` holds the class of that name in capitals (``time_of_day`` ->
``TimeOfDay``), a subclass of `base.Baseline`. Adding one is adding a file and asking for it by name
(``evaluate.baselines``); the profiles are lists of names in `nqcast.evaluation.config`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from nqcast.evaluation.baselines.base import Baseline


def make_baseline(name: str, levels: Sequence[float], horizons: Sequence[str], seed: int = 0) -> Baseline:
    """An unfitted baseline by its name; ValueError for an unknown one."""
    if not name.isidentifier() or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise ValueError(f"expected the name of a baseline, found {name!r}: there is no file baselines/{name}.py")
    module = importlib.import_module(f"{__name__}.{name}")
    return getattr(module, "".join(part.title() for part in name.split("_")))(levels, horizons, seed)


def make_baselines(
    names: Sequence[str], levels: Sequence[float], horizons: Sequence[str], seed: int = 0
) -> dict[str, Baseline]:
    """Unfitted baselines by name, in the order asked for."""
    return {name: make_baseline(name, levels, horizons, seed) for name in names}
