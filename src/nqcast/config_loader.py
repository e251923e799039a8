"""The layers of the configuration: base, the environment of the run, conf/local, the command line."""

from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader


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
