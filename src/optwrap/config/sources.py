"""Two kinds of groups that Hydra's own sources do not offer: `experiment`, and a wrapper inside `optim_wrapper`.

Hydra makes a config source from a scheme and a path; the path of both is the folder that a program composes
from. What they do not know stays with Hydra's own sources, which are asked first.
"""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

EXPERIMENT = "experiment"
WRAPPER = "optim_wrapper"


def register() -> None:
    """Let Hydra find both kinds of groups; calling it again changes nothing."""
    for plugin in (ExperimentSource, SubWrapperSource, ProjectSearchPath):
        Plugins.instance().register(plugin)


def experiments_folder(conf: Path) -> Path:
    """Return the folder whose YAML files are the options of the group `experiment`."""
    return conf.parent / "experiments"


def experiment_names(conf: Path) -> list[str]:
    """Return the options of the group `experiment`: `digits`, `quick/digits`, those in folders last."""
    folder = experiments_folder(conf)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted(names, key=lambda name: (name.count("/"), name))


class ProjectSearchPath(SearchPathPlugin):
    """Adds both sources to the search path of every program that composes from a folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them; Hydra calls this before it composes."""
        for element in list(search_path.get_path()):
            folder = element.path.removeprefix("file://")
            if element.provider == "main" and "://" not in folder:
                search_path.append("optwrap", f"{ExperimentSource.scheme()}://{folder}")
                search_path.append("optwrap", f"{SubWrapperSource.scheme()}://{folder}")


class _FlatSource(ConfigSource):
    """A source of groups without groups inside; `options` says what a path holds."""

    def options(self, group: str) -> list[str]:
        """Return the options of a group; empty where it is none of this source."""
        raise NotImplementedError

    def is_group(self, config_path: str) -> bool:
        """Tell whether the path is one of the groups."""
        return bool(self.options(config_path.strip("/")))

    def is_config(self, config_path: str) -> bool:
        """Tell whether the path is an option of one of the groups."""
        raise NotImplementedError

    def available(self) -> bool:
        """Tell whether the source can be used; without its groups it is just empty."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the options of a group."""
        return [] if results_filter == ObjectType.GROUP else self.options(config_path.strip("/"))


class ExperimentSource(_FlatSource):
    """Group `experiment`: the YAML files of `experiments/` beside the folder of configs, those in folders too.

    They merge at the top of the config, whether or not they say so with `# @package _global_`.
    """

    @staticmethod
    def scheme() -> str:
        """Return the scheme of this source in a search path."""
        return "optwrap-experiments"

    def is_group(self, config_path: str) -> bool:
        """Tell whether the path is the group, or what holds it."""
        return config_path.strip("/") in ("", EXPERIMENT) and bool(self.options(EXPERIMENT))

    def options(self, group: str) -> list[str]:
        """Return the names of the files."""
        return experiment_names(Path(self.path)) if group == EXPERIMENT else []

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such a file."""
        return config_path.startswith(f"{EXPERIMENT}/") and self._file(config_path).is_file()

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file."""
        config = OmegaConf.load(self._file(config_path))
        return ConfigResult(self.provider, self.full_path(), config, header={"package": "_global_"})

    def _file(self, config_path: str) -> Path:
        name = self._normalize_file_name(config_path.removeprefix(f"{EXPERIMENT}/"))
        return experiments_folder(Path(self.path)) / name

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the options of the group, or the group at the top."""
        if config_path.strip("/") == "":
            return [] if results_filter == ObjectType.CONFIG else [EXPERIMENT]
        return super().list(config_path, results_filter)


class SubWrapperSource(_FlatSource):
    """Group `optim_wrapper/NAME` for any NAME: the options of `optim_wrapper`, merged at `optim_wrapper.NAME`."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of this source in a search path."""
        return "optwrap-sub-wrappers"

    def options(self, group: str) -> list[str]:
        """Return the names of the files and of the stored options."""
        parent, _, name = group.rpartition("/")
        if parent != WRAPPER or not name:
            return []
        files = [path.stem for path in self._folder().glob("*.yaml")]
        return sorted({*files, *(stored.removesuffix(".yaml") for stored in ConfigStore.instance().list(WRAPPER))})

    def is_config(self, config_path: str) -> bool:
        """Tell whether `optim_wrapper` has the option."""
        group, _, option = config_path.rpartition("/")
        return option.removesuffix(".yaml") in self.options(group)

    def load_config(self, config_path: str) -> ConfigResult:
        """Read the file of the option, or the stored option."""
        name = self._normalize_file_name(config_path.rpartition("/")[2])
        file = self._folder() / name
        config = OmegaConf.load(file) if file.is_file() else ConfigStore.instance().load(f"{WRAPPER}/{name}").node
        return ConfigResult(self.provider, self.full_path(), config, header={"package": None})

    def _folder(self) -> Path:
        return Path(self.path) / WRAPPER
