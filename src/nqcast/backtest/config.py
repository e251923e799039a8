"""Parameters of the backtest; imports neither torch nor matplotlib."""

from typing import Literal

from pydantic import Field

from nqcast.fields import Configuration


class BacktestConfig(Configuration):
    """When a position is opened, how large it is, and what it costs."""

    forecast: str = Field(
        default="model",
        description="Whose rows are traded where the frame holds several (column `forecast`): model, model_conformal, "
        "model_online, or a baseline's name.",
    )
    positions: Literal["non_overlapping", "netted"] = Field(
        default="non_overlapping",
        description="non_overlapping: the next position of a horizon opens when the one before has ended. netted: "
        "every anchor opens one of the size divided by the horizon's bars, and only the net position is traded.",
    )
    min_edge: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Least size of the median at which a position is opened (share of the 80 % interval's width). "
        "A value that is chosen by looking at results makes them worth nothing.",
    )
    width_at_one: float = Field(
        default=0.005,
        gt=0,
        description="Width of the 80 % interval at which a position is worth the capital (log return); twice the "
        "width, half the position.",
    )
    max_exposure: float = Field(default=2.0, gt=0, description="Largest position (multiples of the capital).")
    commission_ticks: float = Field(
        default=0.5, ge=0, description="Commission and fees per contract and side (ticks; of NQ one is 5 USD)."
    )
    slippage_ticks: float = Field(
        default=1.0, ge=0, description="How much worse than the bar's open every fill is, per side (ticks)."
    )
    random_books: int = Field(
        default=200, ge=20, le=10_000, description="Books of the same trades with random signs (count)."
    )

    @property
    def side_ticks(self) -> float:
        """What one side of one contract costs (ticks)."""
        return self.commission_ticks + self.slippage_ticks
