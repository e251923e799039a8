"""The user's folder of bars by symbol: one vendor file each. Read-only."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

SUFFIXES = (
    ".dbn",
    ".dbn.zst",
    ".parquet",
    ".pq",
    ".csv",
    ".txt",
    *(f".csv.{z}" for z in ("gz", "zst", "bz2", "xz", "zip")),
)


class SymbolFilesDataset(AbstractDataset):
    """load() maps each symbol to the path of its file: `NQ.parquet` and `ES.csv.gz` are NQ and ES.

    Whoever builds a symbol opens its file, in a process of its own. A relative path counts from the current folder.
    """

    def __init__(self, *, source: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            source: path of the folder; `~` is expanded. None or empty: an error at load.
            metadata: anything for plugins; ignored here.
        """
        self._source = str(source) if source else None
        self.metadata = metadata

    def load(self) -> dict[str, Path]:
        folder = self._folder()
        if folder is None or not folder.is_dir():
            raise DatasetError(
                f"expected a folder with one file of bars per symbol, found {folder or 'none'}: give one with "
                f"--params bars=FOLDER; a relative path counts from the current folder, {Path.cwd()}"
            )
        files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
                continue
            symbol = path.name.partition(".")[0]
            if symbol in files:
                raise DatasetError(
                    f"expected one file per symbol, found {files[symbol].name} and {path.name} in {folder}: "
                    "join them, or move one away"
                )
            files[symbol] = path
        if not files:
            raise DatasetError(
                f"expected files of bars ({', '.join(SUFFIXES[:5])}, …) in {folder}, found none: name the folder that "
                "holds them with --params bars=FOLDER"
            )
        return files

    def save(self, data: Any) -> None:
        raise DatasetError("SymbolFilesDataset is a source and cannot be written: give the node another output")

    def preview(self) -> JSONPreview:
        """Symbols and their files for kedro-viz; None where there is no folder."""
        if not self._exists():
            return None
        return JSONPreview(json.dumps({symbol: path.name for symbol, path in self.load().items()}))

    def _folder(self) -> Path | None:
        return Path(self._source).expanduser().absolute() if self._source else None

    def _exists(self) -> bool:
        folder = self._folder()
        return folder is not None and folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._source}
