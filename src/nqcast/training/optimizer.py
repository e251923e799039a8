"""AdamW with decay on matrices only. Loshchilov & Hutter (2019), "Decoupled weight decay regularization"."""

import torch
from torch import nn

from nqcast.training.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Two groups, matrices with decay and vectors (biases, norms) without, in the order of named_parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("expected a model with trainable parameters, found none; unfreeze some")
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    fused = all(parameter.device.type in ("cuda", "cpu") for parameter in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=fused)
