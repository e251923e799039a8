"""Checks that a catalog entry asks for by `validator:`; Kedro calls them where data are loaded or saved."""

import pandas as pd


class FeatureTable:
    """A feature table: every column, stamps with a zone in rising order, features finite on every row."""

    def validate(self, data: pd.DataFrame) -> pd.DataFrame:
        """The table itself; ValueError where it is none."""
        from nqcast.data.features import check_features

        return check_features(data)
