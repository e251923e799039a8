"""A log of records that only grows, one JSON object a line."""

from kedro_datasets._typing import JSONPreview

from nqcast.datasets.placed import PlacedDataset, in_words_of_kedro
from nqcast.datasets.previews import json_preview
from nqcast.storage.append_only import append_record, read_records
from nqcast.storage.json_values import Json


class AppendOnlyLogDataset(PlacedDataset):
    """save(record) appends one durable line, an empty record none; load() gives all, oldest first, [] before any."""

    def load(self) -> list[Json]:
        with in_words_of_kedro():
            return read_records(self.path)

    def save(self, data: Json) -> None:
        if data != {}:
            with in_words_of_kedro():
                append_record(self.path, data)

    def preview(self) -> JSONPreview:
        """The last twenty records for kedro-viz."""
        return json_preview(read_records(self.path)[-20:])
