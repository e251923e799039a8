"""Configuration files are read only after a look at their size when written out: YAML aliases can multiply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader

MOST_VALUES = 100_000
"""Values that a configuration file may hold once its aliases are written out."""


class AliasBombError(ValueError):
    """A configuration file grows beyond all reason when its aliases are written out."""


class GuardedConfigLoader(OmegaConfigLoader):
    """Kedro's loader, which knows no tags that make objects; here it knows no alias bombs either."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folder = Path(self.conf_source)
        for env in {self.base_env, self.env, self.default_run_env}:
            for file in sorted((folder / env).rglob("*.y*ml")) if env else ():
                check_size(file)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Base, then the environment of the run, then conf/local: what a user keeps there holds in every environment.

        Kedro itself reads conf/local only where no environment is named.
        """
        own = {} if key in self else self._own(key)
        try:
            config = super().__getitem__(key)
        except MissingConfigException:
            if not own:
                raise
            return own
        return self._merge_configs(config, own, key, self.default_run_env) if own else config

    def _own(self, key: str) -> dict[str, Any]:
        """What conf/local holds of `key`, where Kedro itself does not read it; nothing in a packaged configuration."""
        if self.default_run_env in (self.base_env, self.env or self.default_run_env):
            return {}
        folder = self._get_conf_env_path(self.default_run_env)
        try:
            self._register_runtime_params_resolver()
            return self.load_and_merge_dir_config(folder, self.config_patterns[key], key, set(), key == "credentials")
        except MissingConfigException:
            return {}


def check_size(file: Path) -> None:
    """Raise AliasBombError where `file` holds more than MOST_VALUES values with every alias written out.

    A file that is no YAML passes: the loader itself says what is wrong with it.
    """
    try:
        size = written_out(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return
    if size > MOST_VALUES:
        raise AliasBombError(
            f"expected at most {MOST_VALUES:,} values in {file}, found {float(size):.3g} once its aliases (*name) are "
            "written out: write the values instead"
        )


def written_out(text: str) -> int:
    """Number of values in a YAML text with its aliases written out, counted without writing them out."""
    anchored: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            continue
        if isinstance(event, yaml.AliasEvent):
            size = anchored.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                anchored[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor:
                anchored[anchor] = size
        else:
            continue
        name, total = open_.pop()
        open_.append((name, total + size))
    return open_[0][1]
