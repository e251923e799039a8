"""JSON, text and HTML as verified files."""

import html
import json
import math
from typing import Any

import numpy as np
from kedro.io import DatasetError
from kedro_datasets._typing import HTMLPreview, JSONPreview

from nqcast.datasets.base import VerifiedFileDataset


class VerifiedJSONDataset(VerifiedFileDataset[Any]):
    """Dicts, lists, text, numbers, booleans and None as JSON.

    NaN and infinities are written as Python's json does (`NaN`, `Infinity`), so that they come back. NumPy scalars
    become numbers and tuples lists; anything else is refused with the place where it stands.
    """

    def _encode(self, data: Any) -> bytes:
        return (json.dumps(plain(data), indent=2, ensure_ascii=False) + "\n").encode()

    def _decode(self, content: bytes) -> Any:
        return json.loads(content)

    def preview(self) -> JSONPreview:
        """The document with null for NaN, for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        return None if content is None else JSONPreview(json.dumps(finite(json.loads(content))))


class VerifiedTextDataset(VerifiedFileDataset[str]):
    """A text as UTF-8."""

    def _encode(self, data: str) -> bytes:
        if not isinstance(data, str):
            raise DatasetError(f"expected text, found {type(data).__name__}: return a str from the node")
        return data.encode()

    def _decode(self, content: bytes) -> str:
        return content.decode()

    def preview(self) -> HTMLPreview:
        """The text in a fixed-width font for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        return None if content is None else HTMLPreview(f"<pre>{html.escape(content.decode())}</pre>")


class VerifiedHTMLDataset(VerifiedTextDataset):
    """An HTML page as UTF-8."""

    def preview(self) -> HTMLPreview:
        """The page for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        return None if content is None else HTMLPreview(content.decode())


def plain(value: Any, where: str = "the document") -> Any:
    """`value` made of dicts, lists, text, numbers, booleans and None only.

    Raises:
        DatasetError: something else, or a key that is not text, is in it; says where.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise DatasetError(
                    f"expected text as every key of {where}, found {key!r} ({type(key).__name__}): "
                    "JSON would turn it into text, so use str(key)"
                )
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise DatasetError(
        f"expected JSON values, found {type(value).__name__} at {where}: "
        "use isoformat() for times, tolist() for arrays, to_dict('records') for frames"
    )


def finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which strict JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value
