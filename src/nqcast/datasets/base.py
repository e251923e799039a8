"""The base of every written catalog entry: atomic, verified and, by choice, versioned."""

import logging
from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError

from nqcast.storage.verified import (
    VerificationError,
    read_verified,
    replace_verified_file,
    write_folder,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


def local_path(filepath: str) -> PurePosixPath:
    """The path of a catalog entry; only local ones can be renamed atomically.

    Raises:
        DatasetError: the path names another protocol, such as s3:// or http://.
    """
    text = str(filepath).removeprefix("file://")
    if "://" in text:
        raise DatasetError(f"expected a local path, found {filepath!r}: copy the file here and give its local path")
    return PurePosixPath(text)


class VerifiedDataset(AbstractVersionedDataset, Generic[T]):
    """What single files and checkpoint folders share: versions that count only when they verify.

    With `versioned: true` every save makes the folder `<filepath>/<version>/` in one rename, and the latest version
    is the newest one that verifies; newer broken ones are named in a warning. A load that does not verify is an
    error.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """
        Args:
            filepath: local path; with versions, the folder that holds them.
            version: set by Kedro for `versioned: true`.
            metadata: anything for plugins, such as kedro-viz's layer; ignored here.
        """
        for name in version or ():
            if name is not None and (Path(name).name != name or name.startswith(".")):
                raise DatasetError(f"expected a version such as 2026-01-31T08.00.00.000Z, found {name!r}")
        super().__init__(local_path(filepath), version)
        self._cached_load_version: str | None = None
        self.metadata = metadata

    @abstractmethod
    def _manifest(self, path: Path) -> Path:
        """Where the hashes of the artifact at `path` stand."""

    @abstractmethod
    def _read(self, path: Path) -> T:
        """The artifact at `path`; raises VerificationError where it is not what was written."""

    @abstractmethod
    def _write(self, path: Path, data: T) -> None:
        """Make the artifact at `path`, whole or not at all; raises OSError where it cannot be written."""

    @abstractmethod
    def _verify(self, path: Path) -> None:
        """Raise VerificationError unless the artifact at `path` is what was written."""

    # Kedro wraps `_load` and `_save` once in every subclass; `load` and `save` would be wrapped at every level, and
    # an inner wrapper asks for a second save version.
    def _load(self) -> T:
        path = self._existing_load_path()
        try:
            return self._read(path)
        except VerificationError as error:
            raise DatasetError(self._broken(error)) from error

    def _save(self, data: T) -> None:
        try:
            self._write(Path(self._get_save_path()), data)
        except OSError as error:
            raise DatasetError(f"{self} was not saved: {error.strerror or error}") from error

    def _broken(self, error: VerificationError) -> str:
        cure = (
            f"load another version (--load-versions NAME:VERSION; there are {', '.join(self._version_names())}) "
            "or run the pipeline that makes it again"
            if self._version
            else "restore it from a copy or run the pipeline that makes it again"
        )
        return f"{self} does not verify: {error}. The file was changed or damaged after it was written: {cure}"

    def _version_names(self) -> list[str]:
        return [Path(path).parent.name for path in self._get_versions()] or ["no versions"]

    def provenance(self, saved: bool) -> dict[str, str]:
        """Path, version (where there are versions) and content hash of what was last saved, or would be loaded."""
        if saved and self._version:
            path = Path(self._get_versioned_path(self.resolve_save_version()))
        else:
            path = Path(self._get_load_path())
        facts = {"path": str(path), "sha256": self._content_hash(path)}
        return {**facts, "version": path.parent.name} if self._version else facts

    @abstractmethod
    def _content_hash(self, path: Path) -> str:
        """The SHA-256 by which the artifact at `path` is known, read from its manifest."""

    def _existing_load_path(self) -> Path:
        path = Path(self._get_load_path())
        if not path.exists():
            have = f"; there are {', '.join(self._version_names())}" if self._version else ""
            raise DatasetError(f"{path} does not exist{have}: run the pipeline that makes it, or check the version")
        return path

    def _get_versions(self) -> list[str]:
        """Paths of all versions, newest first; Kedro's own search takes brackets in a folder's name for a pattern."""
        root = Path(self._filepath)
        folders = [item for item in root.iterdir() if not item.name.startswith(".")] if root.is_dir() else []
        paths = (folder / root.name for folder in sorted(folders, key=lambda item: item.name, reverse=True))
        return [str(path) for path in paths if path.exists()]

    def _fetch_latest_load_version(self) -> str:
        """The newest version that verifies.

        Raises:
            VersionNotFoundError: there is none; broken ones are named.
            DatasetError: the version saved in this session no longer verifies (an older one would be another run's).
        """
        if self._cached_load_version is not None:
            return self._cached_load_version
        broken: list[str] = []
        for name in self._get_versions():
            path = Path(name)
            try:
                self._verify(path)
            except VerificationError as error:
                if self._version and path.parent.name == self._version.save:
                    raise DatasetError(self._broken(error)) from error
                log.warning("%s: version %s skipped: %s", self._filepath.name, path.parent.name, error)
                broken.append(path.parent.name)
                continue
            self._cached_load_version = path.parent.name
            return path.parent.name
        found = f"only broken ones ({', '.join(broken)})" if broken else "none"
        raise VersionNotFoundError(
            f"expected a version in {self._filepath}, found {found}: run the pipeline that makes it"
        )

    def _exists(self) -> bool:
        path = Path(self._get_load_path())
        return path.exists() and self._manifest(path).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


class VerifiedFileDataset(VerifiedDataset[T]):
    """One file with its manifest `<name>.sha256` beside it; without versions it is replaced in one step."""

    @abstractmethod
    def _encode(self, data: T) -> bytes:
        """The file's content; raises DatasetError where `data` would not come back equal."""

    @abstractmethod
    def _decode(self, content: bytes) -> T:
        """The inverse of `_encode`."""

    def _manifest(self, path: Path) -> Path:
        return path.with_name(f"{path.name}.sha256")

    def _read(self, path: Path) -> T:
        return self._decode(read_verified(path, self._manifest(path)))

    def _write(self, path: Path, data: T) -> None:
        content = self._encode(data)
        if self._version:
            write_folder(path.parent, {path.name: content}, self._manifest(path).name)
        else:
            replace_verified_file(path, content, self._manifest(path))

    def _verify(self, path: Path) -> None:
        read_verified(path, self._manifest(path))

    def _content_hash(self, path: Path) -> str:
        return self._manifest(path).read_text(encoding="utf-8").split(maxsplit=1)[0]

    def _preview_bytes(self) -> bytes | None:
        """Verified bytes for a preview, or None while nothing has been saved."""
        path = Path(self._get_load_path()) if self.exists() else None
        return read_verified(path, self._manifest(path)) if path else None
