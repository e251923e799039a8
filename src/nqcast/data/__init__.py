"""From bars to windows: features, clock, targets, splits, scale, and the data module that needs no Kedro.

Names are loaded on first use, so that `nqcast.data.config` can be imported without torch.
"""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    config="FeaturesConfig ScaleConfig SplitConfig LoaderConfig",
    features="build_features check_features",
    splits="make_splits positions check_no_overlap",
    scale="Scale",
    seasonal_har="SeasonalHAR ConstantScale make_scale scale_from_state",
    windows="WindowTable WindowLoader",
    data_module="NQDataModule",
)
