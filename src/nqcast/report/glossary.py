"""What every number of the report means, in words for someone who has not read the code."""

from __future__ import annotations

TERMS = {
    "Forecast": (
        "Seven quantiles (5, 10, 25, 50, 75, 90, 95 %) of the log return from the close of a 5-minute bar to the "
        "close 15 minutes to 4 hours later by the clock, inside the same session. It uses that bar and earlier "
        "ones only."
    ),
    "Anchor": (
        "The bar at which a forecast is made. All forecasts of this page are scored on the same anchors; an "
        "outcome that does not exist (the session ends first) counts for nobody."
    ),
    "Pinball loss": (
        "Of a quantile q of level τ for outcome y: τ·(y − q) where y is above q, (1 − τ)·(q − y) where it is "
        "below. Its mean over anchors and levels is least for the true quantiles. In log return."
    ),
    "Skill": (
        "1 − loss / loss of a reference: 0 % no better, 100 % perfect. Skill over constants depends on the anchor "
        "set, because constants know neither the clock nor the market; skill over time of day is beside it."
    ),
    "Mean": ("The plain mean of the five horizons' figures."),
    "Gain, points": ("Skill of the model over constants less that of the other forecast, in percentage points."),
    "Constants": ("The quantiles of the train returns of each horizon."),
    "Time of day": ("The diurnal volatility profile times train quantiles."),
    "Time of day × EWMA": ("The same times one exponential average of squared returns with a half-life of an hour."),
    "Log-HAR": ("The same with a fitted blend of averages of squared 5-minute returns."),
    "SeasonalHAR": ("The same from 1-minute realised variance and ranges: the scale on which the model is built."),
    "GARCH": ("GJR-GARCH(1,1)-t on deseasonalised returns with filtered historical simulation (full profile only)."),
    "LightGBM": ("Gradient-boosted quantile regression on the features and the scale (full profile only)."),
    "Interval of an estimate": (
        "95 % unless stated otherwise, from a stationary bootstrap over whole sessions with a mean block of five, "
        "so that neighbouring forecasts do not count as independent."
    ),
    "Diebold–Mariano": (
        "Test that two forecasts lose the same: on session sums (Newey–West lag 5) and on bars (lag at least the "
        "horizon). The larger p-value counts."
    ),
    "Coverage": (
        "Share of outcomes at or below a quantile; its level when calibrated. Inside an interval: between its ends."
    ),
    "Model, model conformal, model online": (
        "Raw, and calibrated in two ways. Conformal: each pair of quantiles moved outward by a number of scales fitted "
        "once on the validation outcomes. Online: a small step after every outcome, from the first validation outcome "
        "on; an outcome counts only once its horizon has passed."
    ),
    "Weighted interval score": (
        "Mean of the interval scores of all pairs of quantiles and of the median's error (Bracher et al. 2021); less "
        "is better."
    ),
    "Kupiec, Christoffersen, dynamic quantile": (
        "Tests that outcomes fall below a quantile with its probability; also without clusters; also whatever was "
        "known before. Made on every h-th anchor, whose outcomes do not overlap; the first quartile of the "
        "phases' p-values counts. A small p-value speaks against calibration."
    ),
    "Effective number": ("As many independent outcomes would fix the coverage as well as the overlapping ones do."),
    "CRPS": (
        "Twice the pinball loss, each level weighted by the part of 0…1 nearest to it: close to the integral over all."
    ),
    "Winkler score": ("Width of the interval plus 2/α times the distance of outcomes outside it (α = 20 %)."),
    "Information coefficient": (
        "Rank correlation of the median forecast with the outcome. Directional accuracy means something only "
        "beside the share of up-moves, which forecasting 'up' always would reach."
    ),
    "Wild, calm": ("Thirds of the anchors by the width of the reference's interval when the forecast was made."),
    "Test uses": (
        "How often any configuration was scored on this test split; each look makes a chance winner likelier."
    ),
}
