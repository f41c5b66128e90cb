"""Words for errors in `optim_wrapper`: options that clash, a field without its mixin, several wrappers."""

import dataclasses
import re
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from optwrap.config import schemas
from optwrap.config.command_line import CommandLine, as_typed
from optwrap.config.sources import WRAPPER
from optwrap.errors import did_you_mean

_ADDITIONS = {
    "amp": schemas.AmpOptimWrapperConfig,
    "hybrid_muon": schemas.HybridOptimWrapperConfig,
    "layer_decay": schemas.LayerDecayParamwiseConfig,
}

_TWICE = {"amp": "AMP twice", "hybrid": "hidden_optimizer twice", "averaging": "two averages", "sam": "SAM twice"}


def explain_clash(message: str, line: CommandLine) -> str | None:
    """Explain options of one list that mount the same schema: two optimizers, or AMP twice."""
    found = re.search(r"schema/(\w+)@(\w+(?:\.\w+)*)", message)
    if found is None:
        return None
    kind, package = found.groups()
    what = _TWICE.get(kind, f"two {kind}s")
    # What adds fields to the wrapper is mounted at the wrapper itself, the rest one level below.
    wrapper, _, below = (package, "", "") if kind in ("amp", "hybrid") else package.rpartition(".")
    group = wrapper.replace(".", "/")
    for options in line.choices(group):
        mounted = [(option, *mount) for option in options for mount in line.schemas_of(option)]
        both = [
            f"{option} ({name.partition('/')[2]})"
            for option, name, where in mounted
            if where == below and name.startswith(f"{kind}/")
        ]
        if len(both) > 1:
            return f"{group}={as_typed(options)}: the list has {what}: {' and '.join(both)}. Keep one."
    return f"The options that the config files choose for {group} have {what}. Keep one."


def explain_no_group(message: str, line: CommandLine, place: str) -> str | None:
    """Explain a choice for a wrapper inside `optim_wrapper` that is not there; `place` is the file with it."""
    # As Hydra says it of a command line, 1.3 of a file too; 1.4 of a file.
    found = re.search(rf"(?:Could not override|No earlier Group Default for) '{WRAPPER}/([^']+)'", message)
    if found is None:
        return None
    name = found[1]
    typed = line.typed(f"{WRAPPER}/{name}")
    start = f"{typed}: " if typed and not place else place
    if names := line.sub_wrappers():
        return f"{start}there is no wrapper {name!r}.{did_you_mean(name, names)} The wrappers: {', '.join(names)}."
    if place and (chosen := line.typed(WRAPPER)):  # the file was right, until this took the place of its choice
        file = place.removeprefix("In ").rstrip(": ")
        return (
            f"{chosen}: this is a single wrapper, and {file} chooses options for {name!r} among several. Leave it "
            f"out, or choose for one of them: '{WRAPPER}/{name}={as_typed(line.chosen(WRAPPER))}'."
        )
    return (
        f"{start}there is no wrapper {name!r} inside {WRAPPER}: it is a single one, or has others. "
        f"{WRAPPER}=gan has generator and discriminator."
    )


def explain_misplaced(
    error: BaseException, node: OmegaConfBaseException, line: CommandLine, place: str
) -> str | None:
    """Explain a mixin or a field of a single wrapper where `optim_wrapper` holds several."""
    full_key = str(node.full_key or "")
    below_wrapper = full_key.removeprefix(f"{WRAPPER}.").partition(".")[0] if "." in full_key else ""
    refused = re.search(r"is not a subclass of (Multi)?OptimWrapperConfig", str(node))
    if not refused and below_wrapper not in _fields_of_one():
        return None
    names = line.sub_wrappers()
    if not names or below_wrapper in names:
        return None
    said = f"{WRAPPER} holds a wrapper each for {' and '.join(names)}"
    override = re.search(r"Error merging override (\S+)", str(error))
    if override is None:
        typed = line.typed(WRAPPER)
        start = f"{typed}: " if typed and not place.startswith("In experiments/") else place
        example = f"'{WRAPPER}/{names[0]}=[adam,amp,clip]'"
        return f"{start}{said}; what is for one of them goes into its own list: {example}."
    path = override[1].removeprefix(f"{WRAPPER}.").partition("=")[0]
    head, _, below = path.partition(".")
    nearest = did_you_mean(head, names)
    example = f"{WRAPPER}.{names[0]}.{below if nearest and below else path}=..."
    return f"{override[1]}: {said}.{nearest} Name one: {example}"


def needs_mixin(key: str, above: str, owner: Any, line: CommandLine) -> str | None:
    """Explain a field that only a mixin brings, with the list that has it."""
    if not isinstance(owner, type):
        return None
    mixins = [name for name, cls in _ADDITIONS.items() if key in cls.__annotations__ and owner in cls.__mro__]
    if not mixins and key in schemas.AmpOptimWrapperConfig.__annotations__:
        mixins = ["amp"] if issubclass(owner, schemas.OptimWrapperConfig) else []
    if not mixins:
        return None
    group = _group_of(above, line)
    chosen = line.chosen(group)
    if mixins[0] == "hybrid_muon":  # it brings its own optimizer
        chosen = [name for name in chosen if "optimizer" not in dict(line.schemas_of(name)).values()]
    add = f"{group}={as_typed([*chosen, mixins[0]])}"
    return f"{key} is a field of {mixins[0]}; add {mixins[0]} to the list: '{add}'."


def no_optimizer(key: str, line: CommandLine) -> str | None:
    """Say how to choose the optimizer of a wrapper, where `key` is that of a missing optimizer."""
    found = re.fullmatch(rf"({WRAPPER}(?:\.([^.]+))?)\.optimizer", key)
    if found is None:
        return None
    path, name = found.groups()
    names = line.sub_wrappers()
    if name and name not in names:
        others = f" The wrappers with one: {', '.join(names)}." if names else ""
        return f"{path} has no optimizer.{did_you_mean(name, names)}{others}"
    group = path.replace(".", "/")
    chosen = line.chosen(group)
    return (
        f"{group}={as_typed(chosen)} chooses no optimizer; add one to the list, for example "
        f"'{group}={as_typed(['sgd', *chosen])}', or give a class of your own: "
        f"'{path}.optimizer={{_target_: package.Class, lr: 0.1}}'."
    )


def _group_of(path: str, line: CommandLine) -> str:
    """Return the group whose options make up the wrapper that `path` is in."""
    name = path.removeprefix(f"{WRAPPER}.").partition(".")[0]
    return f"{WRAPPER}/{name}" if name in line.sub_wrappers() else WRAPPER


def _fields_of_one() -> set[str]:
    own = (schemas.OptimWrapperConfig, schemas.AmpOptimWrapperConfig, schemas.HybridOptimWrapperConfig)
    return {item.name for cls in own for item in dataclasses.fields(cls)} - {"constructor"}
