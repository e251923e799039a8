"""What may stand in a JSON document, and how one is read."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Json = dict[str, Any]
"""A JSON object. What stands in it is said by whoever makes it; what comes from a file is asked where it is read."""


def plain(value: Any, where: str = "the document") -> Any:
    """`value` made of dicts, lists, text, numbers, booleans and None only.

    Raises:
        ValueError: something else, or a key that is not text, is in it; says where.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(
                    f"expected text as every key of {where}, found {key!r} ({type(key).__name__}): "
                    "JSON would turn it into text, so use str(key)"
                )
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ValueError(
        f"expected JSON values, found {type(value).__name__} at {where}: "
        "use isoformat() for times, tolist() for arrays, to_dict('records') for frames"
    )


def finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which strict JSON lacks, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def read_object(content: bytes | str, where: object, cure: str = "write it anew") -> Json:
    """The JSON object that is the content of `where`; `cure` ends the sentence where it is none.

    Raises:
        ValueError: it is none: cut short, no JSON, of another kind, or nested without end.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        found, reason = None, f" ({error})"
    else:
        reason = ""
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object in {where}, found {content[:40]!r}{reason}: {cure}")
    return found
