"""Versions of an artifact: `<root>/<version>/<name of root>`, of which the latest is the newest one that verifies.

The order of versions is that of their names. A name that is not newer than all others, as a clock set back or two
runs at once make it, is moved past them when it is saved: the last one saved is the newest one.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator

from nqcast.storage.place import Place
from nqcast.storage.verified import VerificationError

log = logging.getLogger(__name__)

_STAMP = "%Y-%m-%dT%H.%M.%S.%f"


def version_paths(root: Place) -> Iterator[Place]:
    """The artifacts of all versions below `root`, newest first, each looked for when it is asked for."""
    folders = [item for item in root.iterdir() if not item.name.startswith(".")] if root.is_dir() else []
    paths = (folder / root.name for folder in sorted(folders, key=lambda item: item.name, reverse=True))
    return (path for path in paths if path.exists())


def newest_verified(root: Place, verify: Callable[[Place], None]) -> tuple[Place | None, list[str]]:
    """The artifact of the newest version that verifies, and the names of newer, broken ones, each told in a warning."""
    broken: list[str] = []
    for path in version_paths(root):
        try:
            verify(path)
        except VerificationError as error:
            log.warning("%s: version %s skipped: %s", root.name, path.parent.name, error)
            broken.append(path.parent.name)
            continue
        return path, broken
    return None, broken


def version_after_all(root: Place, wanted: str) -> str:
    """`wanted`, or the next millisecond after the newest version below `root` where that is not older.

    Raises:
        ValueError: the newest version's name is no time that a later one could be made from.
    """
    newest = next((path.parent.name for path in version_paths(root)), "")
    if wanted > newest:
        return wanted
    try:
        later = dt.datetime.strptime(newest.removesuffix("Z"), _STAMP) + dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"expected a version newer than {newest} in {root}, found {wanted}: move {newest} away, or save another"
        ) from error
    return f"{later:%Y-%m-%dT%H.%M.%S}.{later.microsecond // 1000:03d}Z"
