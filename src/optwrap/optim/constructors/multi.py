"""Several wrappers for the parts of one model, such as a GAN's generator and discriminator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.params import unwrap, walk
from optwrap.optim.constructors.default import build_optim_wrapper
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

# Settings of a single wrapper: no names of submodules, and without effect here, so they must be off.
_OF_ONE_WRAPPER = ("clip_grad", "paramwise_cfg", "optimizer")
_OFF = {
    "_target_": "optwrap.optim.OptimWrapper",
    "accumulative_counts": 1,
    "calls_per_batch": 1,
    "clip_grad.norm_type": 2.0,
    "clip_grad.error_if_nonfinite": False,
    "paramwise_cfg.bypass_duplicate": False,
    "paramwise_cfg.strict": True,
}


class MultiOptimWrapperConstructor:
    """Builds an OptimWrapperDict: one wrapper config for each named submodule or parameter (dotted paths allowed).

    A parameter is one that a module holds by itself, as CLIP its `logit_scale`. Each is a whole config for
    `build_optim_wrapper`, with its own wrapper type, optimizer, accumulation, clipping, `paramwise_cfg` (over
    names inside the submodule) and constructor.

    Raises:
        ConfigError: a name is neither submodule nor parameter; a trainable parameter is in two of them, or in
            none; a setting of a single wrapper stands beside them.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.configs = {
            str(name): cfg
            for name, cfg in optim_wrapper_cfg.items()
            if isinstance(cfg, Mapping) and name not in _OF_ONE_WRAPPER
        }
        rest = {name: value for name, value in optim_wrapper_cfg.items() if name not in self.configs}
        _check_off({**rest, "paramwise_cfg": paramwise_cfg}, next(iter(self.configs), "generator"))
        if not self.configs:
            raise ConfigError(
                "optim_wrapper: MultiOptimWrapperConstructor needs a config a submodule, as in "
                "{generator: {optimizer: ...}, discriminator: {optimizer: ...}}."
            )

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Return the wrappers of the submodules of `model`, by their names in the config."""
        model = unwrap(model)
        modules = {name: _submodule(model, name) for name in self.configs}
        _check_coverage(model, modules)
        wrappers: dict[str, OptimWrapper] = {}
        for name, module in modules.items():
            wrapper = _build(name, module, self.configs[name])
            is_lone = isinstance(module, _LoneParameter)
            for group in wrapper.param_groups if is_lone else ():
                group["param_names"] = [""]  # behind the wrapper's name comes nothing
            wrapper.assignments = [
                replace(each, name=name if is_lone else f"{name}.{each.name}") for each in wrapper.assignments
            ]
            wrappers[name] = wrapper
        return OptimWrapperDict(**wrappers)


class _LoneParameter(nn.Module):
    """Holds a parameter of another module under its name there."""

    def __init__(self, name: str, param: nn.Parameter) -> None:
        super().__init__()
        self.register_parameter(name.rpartition(".")[2], param)


def _check_off(settings: Mapping[str, Any], example: str, prefix: str = "") -> None:
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if key in ("clip_grad", "paramwise_cfg") and isinstance(value, Mapping):
            _check_off(value, example, f"{key}.")
        elif value not in (None, "???", {}) and _OFF.get(key) != value:
            raise ConfigError(
                f"optim_wrapper.{key}={value!r}: several wrappers do not share it. Give it below the wrapper that "
                f"it is for, such as optim_wrapper.{example}.{key}."
            )


def _build(name: str, module: nn.Module, cfg: Any) -> OptimWrapper:
    try:
        wrapper = build_optim_wrapper(module, cfg)
    except ConfigError as error:
        text = str(error).replace("optim_wrapper.", f"optim_wrapper.{name}.")
        text = text.replace("optim_wrapper=", f"optim_wrapper/{name}=")
        raise ConfigError(text if text.startswith("optim_wrapper") else f"optim_wrapper.{name}: {text}") from error
    if not isinstance(wrapper, OptimWrapper):
        raise ConfigError(f"optim_wrapper.{name}: wrappers nest one level deep only; name its submodules here.")
    return wrapper


def _submodule(model: nn.Module, name: str) -> nn.Module:
    params = {param.name: param.tensor for param in walk(model)}
    if name in params:
        return _LoneParameter(name, params[name])
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        names = [*params, *(path for path, _ in model.named_modules() if path)]
        own = [child for child, _ in (*model.named_children(), *model.named_parameters(recurse=False))]
        raise ConfigError(
            f"optim_wrapper.{name}: the model has no submodule {name!r}, and no parameter."
            f"{did_you_mean(name, names)} Its children: {', '.join(own) or 'none'}."
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
                "module, or for the parameter itself under this name, or freeze it."
            )
