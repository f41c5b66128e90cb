"""Which code a config from elsewhere may name: the project's own, and what a run is made of in libraries."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optwrap.config.parser_errors import PARSER_ERRORS
from optwrap.errors import ConfigError, first_line
from optwrap.import_paths import is_import_path

PACKAGES = ("experiments",)
"""What is trusted whole, where it is defined in it: the project's own code."""

_MODULE = "torch.nn.modules.module.Module"
_OPTIM = frozenset(
    {
        *("OptimWrapper", "AmpOptimWrapper", "OptimWrapperDict", "HybridOptimizer", "ParamwiseRules"),
        *("DefaultOptimWrapperConstructor", "LayerDecayOptimWrapperConstructor", "MultiOptimWrapperConstructor"),
        *("HybridOptimWrapperConstructor", "multi_step", "warmup_cosine"),
    }
)
# Not image, text and the like, whose metrics load a network from where an argument says.
_METRICS = re.compile(
    r"torchmetrics\.(aggregation|classification|clustering|collections|detection|nominal|regression|retrieval"
    r"|segmentation|wrappers)(\.|$)"
)


def only_trusted(cfg: DictConfig, nodes: Sequence[str], packages: Sequence[str] = PACKAGES) -> DictConfig:
    """Return `cfg` resolved, after checking all code that its `nodes` name.

    That is each `_target_`, and any other text that is an import path: what is built may look it up. It must be
    a layer, an optimizer, a scheduler or a metric, a model builder of torchvision, of `optwrap.vision`,
    `optwrap.models` and `optwrap.optim` what they offer, or be written as a path into one of `packages` and
    defined in one: so `optwrap.vision.data.os` is none. Nothing else is imported. Hydra's own list of dangerous
    targets holds too.

    Raises:
        ConfigError: something is not trusted, or is not there.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
    except PARSER_ERRORS as error:
        raise ConfigError(f"The run's config cannot be read: {first_line(error)}") from error
    for node in nodes:
        check_code(plain.get(node), node, packages, "If you trust this run, add its package: allow={package}.")
    return OmegaConf.create(plain)


def check_code(node: Any, key: str, packages: Sequence[str], remedy: str) -> None:
    """Check all code that `node` names, which stands at `key`, as `only_trusted` does.

    Raises:
        ConfigError: something is not trusted, or is not there; `remedy` ends the message.
    """
    for place, path, is_target in named_code(node, key):
        _check(place, path, is_target, packages, remedy)


def named_code(node: Any, key: str) -> Iterator[tuple[str, Any, bool]]:
    """Yield where a node at `key` names code, what it names, and whether that is a `_target_`."""
    if isinstance(node, dict):
        for name, item in node.items():
            if name == "_target_":
                yield f"{key}._target_", item, True
            else:
                yield from named_code(item, f"{key}.{name}")
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from named_code(item, f"{key}[{i}]")
    elif isinstance(node, str) and is_import_path(node):
        yield key, node, False


def _check(key: str, path: Any, is_target: bool, packages: Sequence[str], remedy: str) -> None:
    refusal = ConfigError(
        f"{key}={path}: the config of a run is data, and may name models, layers, optimizers and metrics of "
        f"torch, torchvision, torchmetrics and optwrap, and what is in {', '.join(packages)}. "
        + remedy.format(package=str(path).partition(".")[0])
    )
    if not _is_in(str(path), (*packages, *_PARTS)):
        raise refusal
    found = _resolve(str(path))
    if found is None or (isinstance(found, ModuleType) and not is_target):
        if is_target:
            raise ConfigError(f"{key}={path}: there is no such class or function.")
        return  # a text that leads nowhere
    home = str(getattr(found, "__module__", None) or "")
    parts = [test for part, test in _PARTS.items() if _is_in(str(path), [part]) and _is_in(home, [part])]
    whole = _is_in(str(path), packages) and _is_in(home, packages)
    if isinstance(found, ModuleType) or not (whole or any(test(found) for test in parts)):
        raise refusal


def _is_in(path: str, packages: Sequence[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _is_a(*bases: str) -> Callable[[Any], bool]:
    """Return what tells the classes with one of these bases, which need not be imported."""

    def test(found: Any) -> bool:
        mro = found.__mro__ if isinstance(found, type) else ()
        return any(f"{base.__module__}.{base.__qualname__}" in bases for base in mro)

    return test


def _is_layer(found: Any) -> bool:
    """Whether it is a module, or a public function on tensors."""
    if isinstance(found, FunctionType):
        return found.__module__ in ("torch.nn.functional", "torch.nn.init") and not found.__name__.startswith("_")
    return _is_a(_MODULE)(found)


def _is_model(found: Any) -> bool:
    """Whether it is a module, or builds a model that torchvision lists."""
    models: Any = importlib.import_module("torchvision.models")  # here, since completion answers without torch
    if found is models.get_model:
        return True
    if isinstance(found, type):
        return _is_a(_MODULE)(found)
    name = getattr(found, "__name__", None)
    return name in models.list_models() and models.get_model_builder(name) is found


def _is_metric(found: Any) -> bool:
    metric = _is_a("torchmetrics.metric.Metric", "torchmetrics.collections.MetricCollection")
    return bool(_METRICS.match(found.__module__)) and metric(found)


def _is_transform(found: Any) -> bool:
    return isinstance(found, type) and _is_offered(found, "torchvision.transforms", "torchvision.transforms.v2")


def _is_offered(found: Any, *packages: str) -> bool:
    """Whether one of the packages has it under its own name, as public."""
    name = getattr(found, "__name__", "_")
    offers = [importlib.import_module(package) for package in packages]
    return any(
        getattr(package, name, None) is found and name in getattr(package, "__all__", [name]) for package in offers
    ) and not name.startswith("_")


_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "torch.nn": _is_layer,
    "torch.optim": _is_a(_MODULE, "torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "torchvision.models": _is_model,
    "torchvision.ops": lambda found: _is_offered(found, "torchvision.ops"),
    "torchvision.transforms": _is_transform,
    "torchmetrics": _is_metric,
    "optwrap.loggers": lambda found: _is_offered(found, "optwrap.loggers"),
    "optwrap.vision": lambda found: _is_offered(found, "optwrap.vision"),
    "optwrap.models": lambda found: _is_offered(found, "optwrap.models"),
    "optwrap.hooks": lambda found: isinstance(found, type) and _is_offered(found, "optwrap.hooks"),
    "optwrap.optim": lambda found: _is_offered(found, "optwrap.optim") and found.__name__ in _OPTIM,
}
"""Package -> what tells those of its objects that are trusted. Others load weights or run code that is given."""


def _resolve(path: str) -> Any:
    """Import the longest part of `path` that is a module, and look the rest up in it; None: it is not there."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except (ImportError, ValueError):
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
        return found
    return None
