"""From bars to the feature table: features, clock and targets.

bars → features.
"""

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig
from nqcast.data.fingerprint import product_of
from nqcast.fields import changed
from nqcast.market.config import IngestConfig


def make_features(
    bars: pd.DataFrame, config: FeaturesConfig, horizons: list[str], ingest: IngestConfig
) -> pd.DataFrame:
    """One row per bar: what a model may see at its end, and the returns that follow."""
    from nqcast.data.features import build_features
    from nqcast.symbols.foreign import own_features

    ingest.spacing.check(bars["ts"])
    ingest = ingest.of_product(**product_of(bars), by="the bars were made", cure="run ingest")
    config = changed(config, {"tick": ingest.tick})
    return build_features(bars, config, own_features(config.own, ingest), horizons)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                make_features,
                inputs=["bars", "params:features", "params:horizons", "params:ingest"],
                outputs="features",
                name="make_features",
            )
        ]
    )
