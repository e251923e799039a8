"""A Trainer from a model, a configuration and a data module."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from nqcast.batches import Batches
from nqcast.training.config import TrainConfig
from nqcast.training.distributed.ranks import Ranks
from nqcast.training.distributed.trainer import SharedTrainer
from nqcast.training.loggers import Logger, Loggers, start_wandb
from nqcast.training.trainer import Trainer


class DataModule(Protocol):
    """What a Trainer is made from beside the model, as NQDataModule has it."""

    unit_quantiles_HQ: np.ndarray
    feature_mean_F: np.ndarray
    feature_std_F: np.ndarray

    @property
    def train_loader(self) -> Batches:
        """The batches of an epoch."""

    @property
    def val_loader(self) -> Batches:
        """The batches of validation, in time order."""

    def setup(self) -> object:
        """Make the above, where it is not yet."""


def create_trainer(
    model: nn.Module,
    config: TrainConfig,
    data_module: DataModule,
    output_dir: Path | str,
    use_wandb: bool = False,
    logger: Logger | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """Trainer over a data module's loaders, with the model's base set from its training anchors.

    Args:
        use_wandb: start a run of Weights & Biases and log to it (`wandb.finish()` ends it).
        logger: anything with log(dict, step=…), beside wandb where both are given.
        ranks: the processes that share each step; None means this one alone.

    Raises:
        ValueError: use_wandb is set and wandb is not installed.
    """
    if use_wandb:
        run = start_wandb(config.model_dump(mode="json"))
        logger = run if logger is None else Loggers([run, logger])
    if getattr(data_module, "train_loader", None) is None:
        data_module.setup()
    set_base: Any = getattr(model, "set_base", None)
    if set_base is not None:
        set_base(data_module.unit_quantiles_HQ, data_module.feature_mean_F, data_module.feature_std_F)
    own = (model, config, data_module.train_loader, data_module.val_loader, output_dir, config.device, logger)
    return Trainer(*own) if ranks is None else SharedTrainer(ranks, *own)
