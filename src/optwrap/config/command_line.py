"""What was typed, and what Hydra's config groups offer: the facts that error messages are made of."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode

from optwrap.config.sources import WRAPPER
from optwrap.errors import ConfigError
from optwrap.hydra_versions import VERSION_BASE


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

    def chosen(self, group: str) -> list[str]:
        """Return a group's options as typed (the first list of a sweep), else as the config files have them."""
        if typed := self.choices(group):
            return typed[0]
        listed = [item for item in self._defaults(self.overrides) if not str(item.parent).startswith(f"{group}/")]
        paths = [str(item.config_path) for item in listed]
        options = [path.removeprefix(f"{group}/") for path in paths if path.startswith(f"{group}/")]
        return [option for option in options if group != WRAPPER or "/" not in option]

    def sub_wrappers(self) -> list[str]:
        """Return the names of the wrappers inside `optim_wrapper`: generator and discriminator for gan."""
        # Less the choices for one of them: a misspelt one would have Hydra refuse the whole list.
        overrides = [override for override in self.overrides if not override.startswith(f"{WRAPPER}/")]
        paths = [str(item.config_path).split("/") for item in self._defaults(overrides)]
        return list(dict.fromkeys(path[1] for path in paths if path[0] == WRAPPER and len(path) == 3))

    def schemas_of(self, option: str) -> list[tuple[str, str]]:
        """Return what an option of optim_wrapper mounts of the group `schema`, and where in the wrapper.

        For sgd that is `("optimizer/SGD", "optimizer")`.
        """
        mounted = [(str(item.config_path), str(item.package)) for item in self._defaults([f"{WRAPPER}={option}"])]
        return [
            (path.removeprefix("schema/"), package.removeprefix(WRAPPER).lstrip("."))
            for path, package in mounted
            if path.startswith("schema/")
        ]

    def _defaults(self, overrides: Iterable[str]) -> list[ResultDefault]:
        """Return what Hydra would compose, in order; empty where it refuses the list."""
        with self._loader() as loader, suppress(HydraException):
            return loader.compute_defaults_list(self.config_name, list(overrides), RunMode.MULTIRUN).defaults
        return []

    @contextmanager
    def _loader(self) -> Iterator[ConfigLoader]:
        """Give the loader of the running Hydra, or a new one where none is running."""
        if GlobalHydra.instance().is_initialized():
            yield GlobalHydra.instance().config_loader()
            return
        with initialize_config_dir(str(self.conf.resolve()), **VERSION_BASE):
            yield GlobalHydra.instance().config_loader()


def asks_for_sweep(arguments: Iterable[str]) -> bool:
    """Tell whether the command line asks for a sweep, by a flag or by Hydra's key."""
    return bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))


def check_swept_once(arguments: Sequence[str]) -> None:
    """Check that nothing is swept and named twice: Hydra would keep the last of the two, and say nothing.

    Raises:
        ConfigError: something is.

    >>> check_swept_once(["-m", "seed=1", "seed=2", "epochs=1,2"])
    """
    if not asks_for_sweep(arguments):
        return
    typed: dict[str, str] = {}
    for argument in arguments:
        key = _key(argument)
        if "=" not in argument or argument.startswith("-"):
            continue
        if key in typed and any(_sweeps(each) for each in (typed[key], argument)):
            raise ConfigError(f"{key} is there twice, {typed[key]} and {argument}: a sweep takes one list of it.")
        typed[key] = argument


def _sweeps(override: str) -> bool:
    value, before = override.partition("=")[2], ""
    if re.match(r"(choice|range|glob|interval|shuffle|sort|tag)\(", value):
        return True
    while value != before:  # less what stands in brackets and quotes
        value, before = re.sub(r"""[\[{(][^\[\]{}()]*[\]})]|'[^']*'|"[^"]*\"""", "", value), value
    return "," in value


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def as_override(key: str, value: str) -> str:
    """Return the override that gives a key this text, quoted where Hydra would read something else.

    >>> print(as_override("hydra.sweep.dir", "outputs/a"), as_override("resume", "a,b"))
    hydra.sweep.dir=outputs/a resume="a,b"
    """
    plain = f"{key}={value}"
    with suppress(HydraException):
        if OverridesParser.create().parse_override(plain).value() == value and "${" not in value:
            return plain
    return f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """Return the text as Hydra reads it back, character for character.

    >>> print(quoted("a,b"), quoted('say "x"'))
    "a,b" "say \\"x\\""
    """
    # Backslashes count where a quote follows only, and before an interpolation, which OmegaConf would resolve.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', r"\""), text)
    return '"' + re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", escaped) + '"'


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
