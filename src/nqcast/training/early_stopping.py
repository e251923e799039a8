"""Stop when the validation loss no longer falls."""

import math
from typing import Any


class EarlyStopping:
    """Stops after `patience` epochs in a row without a fall of more than `min_delta` below the best value.

    `min_delta` is in the loss's own units: give it a loss of order one. NaN never counts as improvement.
    """

    def __init__(self, patience: int = 10, min_delta: float = 1e-5) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self.best = math.inf
        self.bad_epochs = 0

    @property
    def should_stop(self) -> bool:
        """True once `patience` epochs in a row brought nothing."""
        return self.bad_epochs >= self.patience

    def step(self, value: float) -> bool:
        """Take in one epoch's loss; True means stop."""
        if value < self.best - self.min_delta:
            self.best = value
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        return self.should_stop

    __call__ = step

    def state_dict(self) -> dict[str, Any]:
        """Best value (None before the first finite one) and the number of epochs since."""
        return {"best": self.best if math.isfinite(self.best) else None, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue counting from a saved state."""
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.bad_epochs = int(state["bad_epochs"])
