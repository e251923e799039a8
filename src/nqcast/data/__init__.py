"""From bars to windows: features, clock, targets, splits, scale, and the data module that needs no Kedro.

Names are loaded on first use, so that `nqcast.data.config` can be imported without torch.
"""

from nqcast.lazy import lazily

_HOME = {
    "FeaturesConfig": "config",
    "ScaleConfig": "config",
    "SplitConfig": "config",
    "LoaderConfig": "config",
    "build_features": "features",
    "check_features": "features",
    "make_splits": "splits",
    "positions": "splits",
    "check_no_overlap": "splits",
    "Scale": "scale",
    "SeasonalHAR": "seasonal_har",
    "ConstantScale": "seasonal_har",
    "make_scale": "seasonal_har",
    "scale_from_state": "seasonal_har",
    "WindowTable": "windows",
    "WindowLoader": "windows",
    "NQDataModule": "data_module",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
