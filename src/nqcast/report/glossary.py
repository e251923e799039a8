"""What every number of the report means, in words for someone who has not read the code."""

TERMS = {
    "Forecast": (
        "Seven quantiles (5, 10, 25, 50, 75, 90, 95 %) of the log return from the close of a bar to the "
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
    "Truth": (
        "The true quantiles of a simulated market, by which it draws: the ceiling of any forecast. The share of the "
        "learnable skill is 0 % for constants and 100 % for the truth."
    ),
    "Constants": ("The quantiles of the train returns of each horizon."),
    "Time of day": ("The diurnal volatility profile times train quantiles."),
    "Time of day × EWMA": ("The same times one exponential average of squared returns with a half-life of an hour."),
    "Log-HAR": ("The same with a fitted blend of averages of squared 5-minute returns."),
    "SeasonalHAR": ("The same from 1-minute realised variance and ranges: the scale on which the model is built."),
    "GARCH": ("GJR-GARCH(1,1)-t on deseasonalised returns with filtered historical simulation (full profile only)."),
    "LightGBM": ("Gradient-boosted quantile regression on the features and the scale (full profile only)."),
    "Band": (
        "Where the coverage of a calibrated forecast would lie by chance alone, from the same resampling of sessions; "
        "widened by one point before a level counts as outside."
    ),
    "PIT": (
        "Probability integral transform: the share of outcomes that fell between two neighbouring quantiles over what "
        "was forecast. Flat at 1 when calibrated, humped when the forecast is too wide, U-shaped when too narrow."
    ),
    "Interval of an estimate": (
        "95 % unless stated otherwise, from a stationary bootstrap over whole sessions with a mean block of five, "
        "so that neighbouring forecasts do not count as independent."
    ),
    "Diebold–Mariano": (
        "Test that two forecasts lose the same: on session sums (Newey–West lag 5) and on bars (lag at least the "
        "horizon and an hour). The larger p-value counts: the smaller it is, the less the difference looks like chance."
    ),
    "Holm": (
        "A correction of p-values for having asked five horizons at once: the smallest counts five times, the next "
        "four times, and so on. The chance that any of them is a false find stays below the level."
    ),
    "Sessions won": (
        "In how many sessions the model lost less, and how often a fair coin would be as one-sided. The trimmed gain "
        "leaves out the twentieth of the sessions that helped most and the twentieth that hurt most."
    ),
    "Model confidence set": (
        "The forecasts of the table that cannot be told from the best of them, by resampled sessions (Hansen, Lunde "
        "and Nason 2011). Many members mean that the test period is too short to tell them apart."
    ),
    "Perfect volatility": (
        "An oracle, no forecast: the realized volatility that came over the horizon, times the train quantiles of "
        "return / that. It is the most that knowing how wide could give."
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

ALIASES = {
    **dict.fromkeys(("anchor", "anchors"), "Anchor"),
    **dict.fromkeys(("pinball loss", "pinball"), "Pinball loss"),
    **{"skill": "Skill", "points": "Gain, points", "truth": "Truth", "learnable skill": "Truth"},
    **{"constants": "Constants", "time of day": "Time of day", "time of day ewma": "Time of day × EWMA"},
    **{
        "log har": "Log-HAR",
        "seasonal har": "SeasonalHAR",
        "SeasonalHAR": "SeasonalHAR",
        "garch fhs": "GARCH",
        "lightgbm": "LightGBM",
    },
    **dict.fromkeys(("session-bootstrap", "bootstrap"), "Interval of an estimate"),
    **dict.fromkeys(("Diebold–Mariano", "p-value", "p-values"), "Diebold–Mariano"),
    **{"Holm": "Holm", "sessions won": "Sessions won", "trimmed gain": "Sessions won"},
    **{"model confidence set": "Model confidence set", "perfect volatility": "Perfect volatility"},
    **dict.fromkeys(("coverage", "calibrated", "in the 80 % interval", "80 % interval"), "Coverage"),
    **dict.fromkeys(("conformal", "online", "model conformal"), "Model, model conformal, model online"),
    **dict.fromkeys(("Kupiec", "Christoffersen", "dynamic quantile"), "Kupiec, Christoffersen, dynamic quantile"),
    **{"weighted interval score": "Weighted interval score", "effective number": "Effective number", "CRPS": "CRPS"},
    **{"Winkler score": "Winkler score", "band": "Band", "PIT": "PIT"},
    **dict.fromkeys(("information coefficient", "directional accuracy"), "Information coefficient"),
    **dict.fromkeys(("calm third", "middle third", "wild third"), "Wild, calm"),
    **dict.fromkeys(("test split", "scored"), "Test uses"),
}
"""Words of the report, each with the term above that explains it."""
