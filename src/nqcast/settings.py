"""Kedro settings: hooks, the configuration loader and its environments."""

import os
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf.resolvers import oc

from nqcast.hooks.mistakes import MistakesHook, show_bad_input_in_one_line
from nqcast.hooks.parameters import ParameterHook
from nqcast.hooks.signals import SignalHook
from nqcast.hooks.storage import StorageHook
from nqcast.hooks.terminal import AlarmHook, ProgressHook, SummaryHook
from nqcast.hooks.unchanged import KeepingSession
from nqcast.parameters import with_defaults
from nqcast.storage.place import data_place
from nqcast.tracking.hook import TrackingHook

show_bad_input_in_one_line()  # an unknown environment is met before any hook is

# Our own hook tracks runs: kedro-mlflow stops every command while the store is down.
_TRACKING = TrackingHook(with_defaults)
HOOKS = (
    ParameterHook(),
    MistakesHook(),
    _TRACKING,
    ProgressHook(),
    SummaryHook(),
    AlarmHook(),
    SignalHook(close=_TRACKING.close_as_killed),
    StorageHook(),
)


class LayeredConfigLoader(OmegaConfigLoader):
    """Kedro's loader, by which conf/local holds in every environment; Kedro reads it only where none is named."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A kind of configuration: base, over it the run's environment, over both conf/local."""
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


def _variable(name: str, *default: str | None) -> str | None:
    """OmegaConf's `oc.env`, but that the catalog asks where NQCAST_DATA lies as all code does."""
    if name == "NQCAST_DATA":
        return str(data_place(*filter(None, default)))
    value: str | None = oc.env(name, *default)
    return value


SESSION_CLASS = KeepingSession

CONFIG_LOADER_CLASS = LayeredConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    # The user's own files, read last in every environment; the tests name base here, to see none of them.
    "default_run_env": os.environ.get("NQCAST_LOCAL", "local"),
    # An environment changes single parameters, it does not replace whole groups.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {"oc.env": _variable},
}
