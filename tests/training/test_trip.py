"""How many files one optimiser step passes: what somebody has to read who wants to know what happens in it."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest
from tests.data.conftest import random_bars
from tests.model.test_fused import needs_compiler

import nqcast
from nqcast.data import LoaderConfig, NQDataModule, SplitConfig
from nqcast.data.features import build_features
from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training import TrainConfig, create_trainer

HOME = Path(nqcast.__file__).parent
MOST = 12


@pytest.fixture(scope="module")
def data() -> NQDataModule:
    features = build_features(random_bars(pd.bdate_range("2016-02-22", "2016-03-18")))
    loader = LoaderConfig(windows_per_epoch=8 * 6)
    return NQDataModule.from_frames(features, SplitConfig(warmup_bars=300), None, 8, loader)


def files_of_a_step(data: NQDataModule, model: MIGT_TVDT, folder: Path) -> set[str]:
    """Files of nqcast whose functions are called from the gathering of one step's windows to that of the next's."""
    config = TrainConfig(epochs=1, batch_size=8, accumulation=2, device="cpu")
    trainer = create_trainer(model, config, data, folder)
    trainer.model.train()
    seen: set[str] = set()

    def look(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and HOME in path.parents:
            seen.add(str(path.relative_to(HOME)))

    steps = trainer._steps()
    next(steps)  # what is found out once is no part of the trip
    sys.setprofile(look)
    try:
        trainer._count(*next(steps))
        trainer._asked_to_stop()
        trainer._save_by_time()
    finally:
        sys.setprofile(None)
    return seen


@needs_compiler
@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_a_step_on_one_process_passes_few_files_and_no_ranks(data: NQDataModule, kernels: str, tmp_path: Path) -> None:
    files = files_of_a_step(data, fuse(MIGT_TVDT(ModelConfig(kernels=kernels), seed=0)), tmp_path)
    assert {"training/trainer.py", "training/step.py", "model/migt_tvdt.py", "data/windows.py"} <= files
    assert len(files) <= MOST, sorted(files)
    assert not [name for name in files if "distributed" in name]
