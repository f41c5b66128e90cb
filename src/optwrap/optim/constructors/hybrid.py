"""Several optimizers behind one wrapper, split by kind of parameter: Muon with AdamW."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import plain
from optwrap.optim.assignment.head import embedding_weights, head_layers
from optwrap.optim.assignment.params import NamedParam, check_trainable, walk
from optwrap.optim.assignment.paramwise import ParamwiseRules
from optwrap.optim.assignment.rules import assign, check_matches
from optwrap.optim.assignment.table import Assignment, param_groups
from optwrap.optim.assignment.type_matches import check_types
from optwrap.optim.constructors.default import DefaultOptimWrapperConstructor, build_optimizer
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.wrapper import OptimWrapper


class HybridOptimizer(Optimizer):
    """Several optimizers that step together; its param groups are theirs, in their order.

    >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> hybrid = HybridOptimizer({
    ...     "a": torch.optim.SGD(first.parameters(), lr=0.1), "b": torch.optim.Adam(second.parameters(), lr=0.2)
    ... })
    >>> [group["lr"] for group in hybrid.param_groups]
    [0.1, 0.2]
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        self._kernels = [FusedKernel(each) for each in self.optimizers.values()]
        super().__init__([group for each in self.optimizers.values() for group in each.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for kernel in self._kernels:
            kernel.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused once the optimizers are there: which of them should step the group is not said.

        Raises:
            NotImplementedError: always, after the construction.
        """
        if any(param_group is group for each in self.optimizers.values() for group in each.param_groups):
            super().add_param_group(param_group)
            return
        raise NotImplementedError(
            f"Add the group to one of {', '.join(self.optimizers)}, then build a new wrapper."
        )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"optimizers": self.optimizers, "_kernels": self._kernels}

    def compile_step(self, **kwargs: Any) -> None:
        """Compile the step of every optimizer."""
        for kernel in self._kernels:
            kernel.compile(**kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' state dicts by name."""
        return {name: each.state_dict() for name, each in self.optimizers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load every optimizer's state.

        Raises:
            KeyError: the names are not those of the optimizers.
        """
        if set(state_dict) != set(self.optimizers):
            raise KeyError(
                f"The state dict holds {sorted(state_dict)}, the optimizers are {sorted(self.optimizers)}."
            )
        for name, kernel in zip(self.optimizers, self._kernels, strict=True):
            kernel.load_state_dict(state_dict[name])
        # Loading gave the optimizers new dicts as groups.
        self.param_groups = [group for each in self.optimizers.values() for group in each.param_groups]


def optimizers_of(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimizers that it is made of: itself, or those of a HybridOptimizer."""
    return list(optimizer.optimizers.values()) if isinstance(optimizer, HybridOptimizer) else [optimizer]


class HybridOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds one wrapper around two optimizers: `hidden_optimizer` for hidden matrices, `optimizer` for the rest.

    Hidden matrices are the two-dimensional weights of layers, other than embeddings and the head, under whatever
    name; the head is what `head` lists (parts of names), or is found (see `head_layers`). One backward pass, one
    accumulation count, one clip norm over all. `paramwise_cfg` applies to both, each with its own base values.

    Source: Jordan et al., Muon, 2024, for the split.

    Raises:
        ConfigError: `hidden_optimizer` is missing, a part in `head` matches no name, the head is not clear, or one
            of the two optimizers gets no parameter.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        cfg = dict(optim_wrapper_cfg)
        hidden = cfg.pop("hidden_optimizer", None)
        self.head: Sequence[str] = cfg.pop("head", None) or ()
        super().__init__(cfg, paramwise_cfg)
        if hidden in (None, "???"):
            raise ConfigError(
                "optim_wrapper.hidden_optimizer is not set: name the optimizer of hidden matrices, such as "
                "{_target_: torch.optim.Muon, lr: 0.02}."
            )
        self.optimizer_cfgs = {
            "hidden": plain(hidden, "optim_wrapper.hidden_optimizer"),
            "rest": self.optimizer_cfg,
        }

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the wrapper for the trainable parameters of `model`."""
        params = walk(model)
        check_trainable(params)
        rules = ParamwiseRules.from_config(self.paramwise_cfg)
        check_matches(params, rules)
        check_types(params, rules)
        hidden = {param.name for param in self.hidden(model)}
        parts = {
            "hidden": [param for param in params if param.name in hidden],
            "rest": [param for param in params if param.name not in hidden],
        }
        assignments: list[Assignment] = []
        optimizers: dict[str, Optimizer] = {}
        for part, its_params in parts.items():
            its_assignments = self._assign_part(part, its_params, rules)
            optimizers[part] = self._build_part(part, param_groups(its_assignments))
            assignments += its_assignments
        wrapper = self.build_wrapper(HybridOptimizer(optimizers))
        wrapper.assignments = assignments
        return wrapper

    def hidden(self, model: nn.Module) -> list[NamedParam]:
        """Return the parameters of `hidden_optimizer`; override it for a split of your own."""
        return hidden_matrices(model, self.head)

    def _assign_part(self, part: str, params: Sequence[NamedParam], rules: ParamwiseRules) -> list[Assignment]:
        trainable = [param.tensor for param in params if param.tensor.requires_grad]
        if not trainable:
            what = "hidden matrix (two-dimensional, no embedding or head)" if part == "hidden" else "other one"
            raise ConfigError(
                f"{_key(part)}: no trainable parameter of the model is for it, no {what}. Use one optimizer, such "
                "as optim_wrapper=adamw."
            )
        base = self._build_part(part, [{"params": trainable}]).defaults
        own_keys = {
            key: options
            for key, options in rules.custom_keys.items()
            if any(key in param.name and param.tensor.requires_grad for param in params)
        }
        name = self.optimizer_cfgs[part]["_target_"]
        name = getattr(name, "__name__", str(name)).rpartition(".")[2]
        try:
            assignments = assign(params, base, replace(rules, custom_keys=own_keys))
        except ConfigError as error:  # which of the two has no such option?
            raise ConfigError(str(error).replace("the optimizer has no", f"{name} has no")) from error
        return [replace(each, rule=f"{name}: {each.rule}") for each in assignments]

    def _build_part(self, part: str, groups: list[dict[str, Any]]) -> Optimizer:
        return build_optimizer(self.optimizer_cfgs[part], _key(part), groups)


def hidden_matrices(model: nn.Module, head: Sequence[str] = ()) -> list[NamedParam]:
    """Return the two-dimensional weights of layers, other than embeddings and the head.

    Tokens and positions that a model holds as bare parameters are none, nor are the gains of weight_norm.

    Raises:
        ConfigError: a part in `head` matches no name, or the head is not clear.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9))
    >>> [param.name for param in hidden_matrices(model)]
    ['1.weight']
    """
    params = walk(model)
    for part in head:
        if not any(_is_called(param, part) for param in params):
            names = (param.name.rpartition(".")[0] or param.name for param in params)
            raise ConfigError(f"optim_wrapper.head: {part!r} matches no parameter.{did_you_mean(part, names)}")
    embeddings = embedding_weights(model)
    matrices = [param for param in params if _is_weight_matrix(param) and id(param.tensor) not in embeddings]
    if head:
        return [param for param in matrices if not any(_is_called(param, part) for part in head)]
    of_head = {id(param) for layer in head_layers(model) for param in layer.parameters()}
    return [param for param in matrices if id(param.tensor) not in of_head]


def _is_called(param: NamedParam, part: str) -> bool:
    return any(part in name for name in (param.name, *param.aliases))


def _is_weight_matrix(param: NamedParam) -> bool:
    return param.tensor.ndim == 2 and min(param.tensor.shape) > 1 and "weight" in param.attribute


def _key(part: str) -> str:
    return "optim_wrapper.hidden_optimizer" if part == "hidden" else "optim_wrapper.optimizer"
