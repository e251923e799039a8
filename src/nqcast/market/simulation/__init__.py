"""The embedded market: drawn from a seed, with true quantiles that a forecast can be held against."""
