"""A Trainer from a model, a configuration and a data module."""

import importlib
from pathlib import Path
from typing import Any

from torch import nn

from nqcast.training.config import TrainConfig
from nqcast.training.trainer import Trainer


def create_trainer(
    model: nn.Module, config: TrainConfig, data_module: Any, output_dir: Path | str, use_wandb: bool = False
) -> Trainer:
    """Trainer over a data module's loaders, with the model's base set from its training anchors.

    Raises ValueError when use_wandb is set and wandb is not installed.
    """
    if getattr(data_module, "train_loader", None) is None:
        data_module.setup()
    set_base: Any = getattr(model, "set_base", None)
    if set_base is not None:
        set_base(data_module.unit_quantiles_HQ, data_module.feature_mean_F, data_module.feature_std_F)
    wandb = None
    if use_wandb:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise ValueError(
                "expected wandb to be installed, found it missing; install it or leave use_wandb off"
            ) from error
        wandb.init(project="nqcast", config=config.model_dump(mode="json"))
    return Trainer(model, config, data_module.train_loader, data_module.val_loader, output_dir, config.device, wandb)
