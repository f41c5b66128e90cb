"""Several wrappers for the parts of one model, such as a GAN's generator and discriminator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.constructors import build_optim_wrapper
from optwrap.optim.params import walk
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict


class MultiOptimWrapperConstructor:
    """Builds an OptimWrapperDict: one wrapper config for each named submodule (dotted paths allowed).

    Each is a whole config for `build_optim_wrapper`, with its own wrapper type, optimizer, accumulation,
    clipping, `paramwise_cfg` (over names inside the submodule) and constructor.

    Raises:
        ConfigError: a name is no submodule; a trainable parameter is in two of them, or in none.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        if paramwise_cfg and any(value not in (None, {}) for value in _settings(paramwise_cfg)):
            raise ConfigError("optim_wrapper.paramwise_cfg: give it below the wrapper that it is for.")
        self.configs = {
            str(name): cfg
            for name, cfg in optim_wrapper_cfg.items()
            if isinstance(cfg, Mapping) and name not in ("clip_grad", "optimizer")
        }
        if not self.configs:
            raise ConfigError(
                "optim_wrapper: MultiOptimWrapperConstructor needs a config a submodule, as in "
                "{generator: {optimizer: ...}, discriminator: {optimizer: ...}}."
            )

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Return the wrappers of the submodules of `model`, by their names in the config."""
        modules = {name: _submodule(model, name) for name in self.configs}
        _check_coverage(model, modules)
        wrappers: dict[str, OptimWrapper] = {}
        for name, module in modules.items():
            wrapper = _build(name, module, self.configs[name])
            wrapper.assignments = [replace(each, name=f"{name}.{each.name}") for each in wrapper.assignments]
            wrappers[name] = wrapper
        return OptimWrapperDict(**wrappers)


def _settings(paramwise_cfg: Mapping[str, Any]) -> list[Any]:
    defaults = {"bypass_duplicate": False, "strict": True}
    return [value for name, value in paramwise_cfg.items() if defaults.get(name) is not value]


def _build(name: str, module: nn.Module, cfg: Any) -> OptimWrapper:
    try:
        wrapper = build_optim_wrapper(module, cfg)
    except ConfigError as error:
        text = str(error).replace("optim_wrapper.", f"optim_wrapper.{name}.")
        raise ConfigError(text) from error
    if not isinstance(wrapper, OptimWrapper):
        raise ConfigError(f"optim_wrapper.{name}: wrappers nest one level deep only; name its submodules here.")
    return wrapper


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        names = [path for path, _ in model.named_modules() if path]
        raise ConfigError(
            f"optim_wrapper.{name}: the model has no submodule {name!r}.{did_you_mean(name, names)} "
            f"Its children: {', '.join(child for child, _ in model.named_children())}."
        ) from error


def _check_coverage(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    owner: dict[int, str] = {}
    for name, module in modules.items():
        for param in walk(module):
            other = owner.setdefault(id(param.tensor), name)
            if other != name and param.tensor.requires_grad:
                raise ConfigError(
                    f"Parameter {name}.{param.name} is in two wrappers, optim_wrapper.{other} and "
                    f"optim_wrapper.{name}: give it to one of them."
                )
    for param in walk(model):
        if param.tensor.requires_grad and id(param.tensor) not in owner:
            raise ConfigError(
                f"Parameter {param.name} is in no wrapper (there are {', '.join(modules)}): add one for its "
                "module, or freeze it."
            )
