"""Any Kedro dataset made durable: written whole or not at all, with a manifest and, by choice, in versions."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError, generate_timestamp
from kedro_datasets._typing import JSONPreview

from nqcast.datasets.placed import in_words_of_kedro, placed
from nqcast.datasets.previews import json_preview, preview_of
from nqcast.storage.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    checkpoint_files,
    read_checkpoint,
    refuse_pickle,
    verify_checkpoint,
)
from nqcast.storage.errors import StorageError
from nqcast.storage.json_values import plain
from nqcast.storage.place import Place, place
from nqcast.storage.verified import (
    VerificationError,
    content_hash,
    manifest_of,
    replace_verified_file,
    verified_copy,
    verify,
    write_folder,
)
from nqcast.storage.versions import newest_verified, version_after_all, version_paths

log = logging.getLogger(__name__)


class VerifiedDataset(AbstractVersionedDataset):
    """Another dataset, whose artifact counts only when it verifies: `dataset: pandas.ParquetDataset`.

    The inner dataset writes under a temporary name; what it has made, a file or with versions also a folder, is synced,
    hashed and renamed. With `versioned: true` every save makes the folder `<filepath>/<version>/` in one rename, newer
    than all others, and loads of the same session give what it has saved. Otherwise the latest version is the newest
    one that verifies; newer broken ones are named in a warning. A load that does not verify is an error.
    """

    def __init__(
        self,
        *,
        filepath: str,
        dataset: str | dict[str, Any] | None = None,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            filepath: local path, or the URL of a store; with versions, the folder that holds them.
            dataset: type of the inner dataset, or its definition without filepath and versions.
            version: set by Kedro for `versioned: true`.
            metadata: anything for plugins, such as kedro-viz's layer; ignored here.
        """
        for name in version or ():
            if name is not None and (Path(name).name != name or name.startswith(".")):
                raise DatasetError(f"expected a version such as 2026-01-31T08.00.00.000Z, found {name!r}")
        super().__init__(placed(filepath), version, exists_function=lambda path: place(path).exists())
        self._definition = {"type": dataset} if isinstance(dataset, str) else dict(dataset or {})
        if unwelcome := {"filepath", "versioned", "version"} & self._definition.keys():
            raise DatasetError(
                f"expected {', '.join(sorted(unwelcome))} beside `dataset` of {filepath}, found it within: move it out"
            )
        self._saved: str | None = None
        self._cached_load_version: str | None = None
        self._cached_save_version: str | None = None
        self.metadata = metadata

    @property
    def preview(self) -> Callable[..., Any]:
        """A function that shows the artifact in kedro-viz, by the ending of its name; it gives None before a save."""
        return preview_of(self._filepath.suffix, lambda: self._get_load_path() if self.exists() else None)

    def inner(self, path: Path) -> AbstractDataset:
        """The inner dataset at `path`; DatasetError where its definition is none."""
        return AbstractDataset.from_config(self._filepath.name, {**self._definition, "filepath": path.as_posix()})

    def check_definition(self) -> None:
        """Raise DatasetError where the inner dataset cannot be made; asked before a run, not after its hours."""
        self.inner(Path(self._filepath.name))

    def provenance(self, saved: bool) -> dict[str, str]:
        """Path, version (where there are versions) and content hash of what was last saved, or would be loaded."""
        versioned = self._version and saved
        path = self._get_versioned_path(self._saved) if versioned and self._saved else self._get_load_path()
        facts = {"path": str(path), "sha256": content_hash(self._manifest(path))}
        return {**facts, "version": path.parent.name} if self._version else facts

    def content(self) -> str:
        """The content hash of what would be loaded, once it is verified; DatasetError where it does not verify."""
        path = self._existing_load_path()
        try:
            self._verify(path)
            return content_hash(self._manifest(path))
        except VerificationError as error:
            raise DatasetError(self._broken(error)) from error

    def resolve_save_version(self) -> str | None:
        """The session's version, or one past the newest where the clock or another session has been ahead of it."""
        if not self._version:
            return None
        if self._cached_save_version is None:
            wanted = self._version.save or generate_timestamp()
            with in_words_of_kedro():
                self._cached_save_version = version_after_all(self._filepath, wanted)
            if self._cached_save_version != wanted:
                log.info("%s: saved as version %s, after the newest", self._filepath.name, self._cached_save_version)
        return self._cached_save_version

    def _manifest(self, path: Place) -> Place:
        return manifest_of(path)

    def _verify(self, path: Place) -> None:
        verify(self._manifest(path))

    def _read(self, path: Place) -> Any:
        """The verified artifact at `path`; VerificationError where it is not what was written."""
        with verified_copy(path) as here:
            return self.inner(here).load()

    def _write(self, path: Place, data: Any) -> None:
        """Make the artifact at `path`, whole or not at all; raises OSError where it cannot be written."""
        if self._filepath.suffix == ".json":
            data = plain(data)

        def fill(temporary: Path) -> None:
            try:
                self.inner(temporary).save(data)
            except DatasetError as error:
                raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from error

        if self._version:
            write_folder(path.parent, lambda temporary: fill(temporary / path.name), manifest_of(path).name)
        else:
            replace_verified_file(path, fill)

    # Kedro wraps `_load` and `_save` once in every subclass; `load` and `save` would be wrapped at every level, and
    # an inner wrapper asks for a second save version.
    def _load(self) -> Any:
        try:
            return self._read(self._existing_load_path())
        except StorageError as error:
            raise DatasetError(str(error)) from error
        except VerificationError as error:
            raise DatasetError(self._broken(error)) from error

    def _save(self, data: Any) -> None:
        path = self._get_save_path()
        try:
            self._write(path, data)
        except OSError as error:
            raise DatasetError(f"{self} was not saved: {error.strerror or error}") from error
        self._saved = path.parent.name if self._version else None

    def _broken(self, error: VerificationError) -> str:
        cure = (
            f"load another version (--load-versions NAME:VERSION; there are {', '.join(self._version_names())}) "
            "or run the pipeline that makes it again"
            if self._version
            else "restore it from a copy or run the pipeline that makes it again"
        )
        return f"{self} does not verify: {error}. The file was changed or damaged after it was written: {cure}"

    def _version_names(self) -> list[str]:
        return [path.parent.name for path in version_paths(self._filepath)] or ["no versions"]

    def _existing_load_path(self) -> Place:
        path: Place = self._get_load_path()
        if not path.exists():
            have = f"; there are {', '.join(self._version_names())}" if self._version else ""
            raise DatasetError(
                f"expected {path}, found nothing there{have}: run the pipeline that makes it, or check the version"
            )
        return path

    def _get_versions(self) -> list[str]:
        """Paths of all versions, newest first; Kedro's own search takes brackets in a folder's name for a pattern."""
        return [str(path) for path in version_paths(self._filepath)]

    def _fetch_latest_load_version(self) -> str:
        """What this session has saved, or the newest version that verifies; VersionNotFoundError without any."""
        if self._saved is not None:
            return self._saved
        if self._cached_load_version is None:
            newest, broken = newest_verified(self._filepath, self._verify)
            if newest is None:
                found = f"only broken ones ({', '.join(broken)})" if broken else "none"
                raise VersionNotFoundError(
                    f"expected a version in {self._filepath}, found {found}: run the pipeline that makes it"
                )
            self._cached_load_version = newest.parent.name
        return self._cached_load_version

    def _exists(self) -> bool:
        path = self._get_load_path()
        return path.exists() and self._manifest(path).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


class CheckpointDataset(VerifiedDataset):
    """A `nqcast.storage.checkpoint.Checkpoint` in `<filepath>/<version>/<name>/`; always versioned."""

    versioned = True  # Kedro's flag: every entry of this type gets a version

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """
        Args:
            filepath: folder that holds the versions, here or in a store.
            version: set by Kedro; None loads the latest and saves a new one.
            metadata: anything for plugins; ignored here.
        """
        refuse_pickle(placed(filepath))
        super().__init__(filepath=filepath, version=version or Version(None, None), metadata=metadata)

    def preview(self) -> JSONPreview:
        """The metadata for kedro-viz, or None while nothing has been saved."""
        return json_preview(self.load().metadata.to_json()) if self.exists() else None

    def check_definition(self) -> None:
        """Nothing is checked, since no other dataset lies inside this one."""

    def _manifest(self, path: Place) -> Place:
        return path / MANIFEST

    def _verify(self, path: Place) -> None:
        verify_checkpoint(path)

    def _read(self, path: Place) -> Checkpoint:
        try:
            return read_checkpoint(path)  # verifies what it reads
        except CheckpointError as error:
            raise (error.__cause__ if isinstance(error.__cause__, VerificationError) else error) from None

    def _write(self, path: Place, data: Checkpoint) -> None:
        inside = {f"{path.name}/{name}": content for name, content in checkpoint_files(data).items()}
        write_folder(path.parent, inside, f"{path.name}/{MANIFEST}")
