"""Windows per second that pytorch-forecasting's TFT trains; run by a Python that has it: `… peer_….py '{…}'`.

The loop is plain PyTorch, without Lightning; the decoder has five steps, one for each of our horizons.
"""

from __future__ import annotations

import json
import sys
import warnings
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytorch_forecasting
import torch
from peer_timing import LEVELS, STEPS, Step, count, nearest, trained_per_second
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

warnings.filterwarnings("ignore")


def dataset(context: int, variables: int) -> Any:
    """A table of `variables` unknown and four known reals, as a TimeSeriesDataSet."""
    rng = np.random.default_rng(0)
    n = context + 4096
    names = [f"x{i}" for i in range(variables)]
    frame = pd.DataFrame(rng.normal(size=(n, variables)), columns=names)
    known = {f"clock{i}": rng.normal(size=n) for i in range(4)}
    frame = frame.assign(time_idx=np.arange(n), series="NQ", y=rng.normal(size=n), **known)
    return TimeSeriesDataSet(
        frame, time_idx="time_idx", target="y", group_ids=["series"], max_encoder_length=context,
        min_encoder_length=context, max_prediction_length=5, min_prediction_length=5,
        time_varying_unknown_reals=names, time_varying_known_reals=list(known), target_normalizer=None,
    )  # fmt: skip


def main(context: int, variables: int, batch: int, parameters: int, seconds: float) -> dict[str, Any]:
    data, loss = dataset(context, variables), QuantileLoss(LEVELS)

    def make(width: int) -> torch.nn.Module:
        return TemporalFusionTransformer.from_dataset(
            data, hidden_size=width, hidden_continuous_size=max(width // 2, 1), attention_head_size=2, lstm_layers=1,
            dropout=0.1, output_size=len(LEVELS), loss=QuantileLoss(LEVELS), log_interval=-1,
        )  # fmt: skip

    model = nearest(make, range(4, 33, 2), parameters).train()
    step = Step(model, lambda pair: (loss(model(pair[0])["prediction"], pair[1]), len(pair[1][0])))
    loader = data.to_dataloader(train=True, batch_size=batch, num_workers=0)
    ready = list(islice(loader, STEPS))
    rates = {"step": trained_per_second(lambda: step.over(ready), seconds)}
    rates["loop"] = trained_per_second(lambda: step.over(loader), seconds)
    return {**rates, "parameters": count(model), "version": pytorch_forecasting.__version__}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
