"""What was typed, and what Hydra's config groups offer: the facts that error messages are made of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode


@dataclass(frozen=True)
class CommandLine:
    """Where the configs are, and the overrides as they were typed."""

    conf: Path
    config_name: str
    overrides: tuple[str, ...]

    def typed(self, full_key: str) -> str | None:
        """Return the override that sets `full_key`, else one below it, else the nearest above it.

        >>> line = CommandLine(Path("conf"), "config", ("model=vit", "model.width=8", "seed=1"))
        >>> line.typed("model.width"), line.typed("model.depth"), line.typed("epochs")
        ('model.width=8', 'model=vit', None)
        """
        exact = [override for override in self.overrides if _key(override) == full_key]
        below = [override for override in self.overrides if _key(override).startswith(f"{full_key}.")]
        above = [o for o in self.overrides if full_key.startswith((f"{_key(o)}.", f"{_key(o)}["))]
        above.sort(key=lambda override: len(_key(override)), reverse=True)
        return next(iter(exact + below + above), None)

    def choices(self, group: str) -> list[list[str]]:
        """Return the lists of options typed for a group: one, several in a sweep, none where not typed."""
        typed = [override for override in self.overrides if _key(override) == group]
        return option_lists(typed[-1].partition("=")[2]) if typed else []

    def options(self, group: str) -> list[str]:
        """Return a group's options, those with a file (in lower case) first."""
        with self._loader() as loader:
            return sorted(loader.get_group_options(group), key=lambda name: (name[0].isupper(), name))

    def groups(self, parent: str = "") -> list[str]:
        """Return the groups of `parent`, by default the top-level ones."""
        with self._loader() as loader:
            return [f"{parent}/{name}".lstrip("/") for name in loader.list_groups(parent)]

    def schemas_of(self, group: str, option: str) -> list[str]:
        """Return what an option mounts of the group `schema`: `optimizer/SGD` for the mixin sgd."""
        with self._loader() as loader:
            defaults = loader.compute_defaults_list(self.config_name, [f"{group}={option}"], RunMode.RUN)
        paths = [str(default.config_path) for default in defaults.defaults]
        return [path.removeprefix("schema/") for path in paths if path.startswith("schema/")]

    @contextmanager
    def _loader(self) -> Iterator[ConfigLoader]:
        """Give the loader of the running Hydra, or a new one where none is running."""
        if GlobalHydra.instance().is_initialized():
            yield GlobalHydra.instance().config_loader()
            return
        with initialize_config_dir(str(self.conf.resolve()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def option_lists(value: str) -> list[list[str]]:
    """Read the value of a group override: an option, a list of options, or a sweep over either.

    >>> option_lists("[sgd],[sgd,amp]"), option_lists("sgd,adamw")
    ([['sgd'], ['sgd', 'amp']], [['sgd'], ['adamw']])
    """
    if not value:
        return []
    found = re.findall(r"\[([^\]]*)\]", value) or value.split(",")
    return [[option.strip() for option in text.split(",") if option.strip()] for text in found]


def as_typed(options: list[str]) -> str:
    """Write a list of options as a command line does, a single one without brackets.

    >>> as_typed(["sgd"]), as_typed(["sgd", "amp"])
    ('sgd', '[sgd,amp]')
    """
    return options[0] if len(options) == 1 else f"[{','.join(options)}]"
