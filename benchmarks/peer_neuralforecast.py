"""Windows per second that neuralforecast's TFT trains; run by a Python that has it: `… peer_….py '{…}'`.

Its network in a plain PyTorch loop on batches at hand, and its own `fit` (Lightning), from the seconds that
further steps take.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from peer_timing import LEVELS, STEPS, Step, clock, count, nearest, trained_per_second

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

import neuralforecast  # noqa: E402
from neuralforecast import NeuralForecast  # noqa: E402
from neuralforecast.losses.pytorch import MQLoss  # noqa: E402
from neuralforecast.models import TFT  # noqa: E402

CLOCK = [f"clock{i}" for i in range(4)]


def network(width: int, context: int, variables: int, batch: int, steps: int = 1) -> Any:
    """Five steps ahead from `variables` historic and four known series."""
    return TFT(
        h=5, input_size=context, hidden_size=width, n_head=2, n_rnn_layers=1, dropout=0.1, max_steps=steps,
        hist_exog_list=[f"x{i}" for i in range(variables)], futr_exog_list=CLOCK, scaler_type="identity",
        loss=MQLoss(quantiles=LEVELS), batch_size=1, windows_batch_size=batch, logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip


def fitted_per_second(width: int, context: int, variables: int, batch: int, steps: int) -> float:
    """Windows per second of `NeuralForecast.fit`: what `steps` further steps take, its start left out."""
    rng = np.random.default_rng(0)
    n = context + 4096
    columns = {name: rng.normal(size=n) for name in ["y", *CLOCK, *(f"x{i}" for i in range(variables))]}
    frame = pd.DataFrame({"unique_id": "NQ", "ds": np.arange(n), **columns})

    def seconds(count: int) -> float:
        begun = clock()
        NeuralForecast([network(width, context, variables, batch, count)], freq=1).fit(frame)
        return clock() - begun

    seconds(1)
    return batch * steps / (seconds(steps + 1) - seconds(1))


def main(context: int, variables: int, batch: int, parameters: int, seconds: float) -> dict[str, Any]:
    sizes = {"context": context, "variables": variables, "batch": batch}
    model = nearest(lambda width: network(width, **sizes), range(4, 33, 2), parameters).train()
    loss = MQLoss(quantiles=LEVELS)
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    ready = [
        {
            "insample_y": drawn(batch, context, 1),
            "hist_exog": drawn(batch, context, variables),
            "futr_exog": drawn(batch, context + 5, len(CLOCK)),
            "stat_exog": None,
            "outsample_y": drawn(batch, 5, 1),
        }
        for _ in range(STEPS)
    ]

    def loss_of(windows: dict[str, Any]) -> tuple[torch.Tensor, int]:
        target = windows["outsample_y"]
        output = loss.domain_map(model(windows))
        return loss(y=target, y_hat=output, mask=torch.ones_like(target)), batch

    step = Step(model, loss_of)
    rates = {"step": trained_per_second(lambda: step.over(ready), seconds)}
    width = int(model.hparams.hidden_size)
    rates["loop"] = fitted_per_second(width, **sizes, steps=max(STEPS, round(seconds * rates["step"] / batch)))
    return {**rates, "parameters": count(model), "version": neuralforecast.__version__}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
