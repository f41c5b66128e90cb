"""Several optimizers behind one wrapper, split by kind of parameter: Muon with AdamW."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optwrap.errors import ConfigError
from optwrap.instantiate import plain
from optwrap.optim.assignment.hidden.cut import Cuts, Hidden, shapes
from optwrap.optim.assignment.hidden.matrices import hidden_matrices
from optwrap.optim.assignment.params import NamedParam, check_trainable, walk
from optwrap.optim.assignment.paramwise import ParamwiseRules
from optwrap.optim.assignment.rules import assign, check_matches
from optwrap.optim.assignment.table import Assignment, param_groups
from optwrap.optim.assignment.type_matches import check_types
from optwrap.optim.constructors.default import DefaultOptimWrapperConstructor, build_optimizer
from optwrap.optim.matrices.on_matrices import on_matrices
from optwrap.optim.step.fused import FusedKernel
from optwrap.optim.wrapper import OptimWrapper

logger = logging.getLogger(__name__)


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

    Hidden matrices are the weights of layers other than embeddings and the head, under whatever name (see
    `hidden_matrices`): convolutions too unless `hidden_convolutions` is false, experts one by one, and what
    `split_fused` names in its parts. The head is what `head` lists (parts of names), or is found (see
    `head_layers`). One backward pass, one accumulation count, one clip norm over all. `paramwise_cfg` applies to
    both, each with its own base values.

    Source: Jordan et al., Muon, 2024, for the split.

    Raises:
        ConfigError: `hidden_optimizer` is missing, a part in `head` or `split_fused` matches no name, the head is
            not clear, or one of the two optimizers gets no parameter.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        cfg = dict(optim_wrapper_cfg)
        hidden = cfg.pop("hidden_optimizer", None)
        self.head: Sequence[str] = cfg.pop("head", None) or ()
        self.hidden_convolutions = cfg.pop("hidden_convolutions", True)
        self.split_fused = cfg.pop("split_fused", None)
        super().__init__(cfg, paramwise_cfg)
        if hidden in (None, "???"):
            raise ConfigError(
                "optim_wrapper.hidden_optimizer is not set: name the optimizer of hidden matrices, such as "
                "{_target_: torch.optim.Muon, lr: 0.02}."
            )
        if not isinstance(self.hidden_convolutions, bool):
            raise ConfigError(
                f"optim_wrapper.hidden_convolutions={self.hidden_convolutions!r}: it is true or false."
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
        cuts = _cuts(self.hidden(model))
        parts = {
            "hidden": [param for param in params if param.tensor in cuts],
            "rest": [param for param in params if param.tensor not in cuts],
        }
        assignments: list[Assignment] = []
        optimizers: dict[str, Optimizer] = {}
        for part, its_params in parts.items():
            its_assignments = self._assign_part(part, its_params, rules, cuts)
            optimizers[part] = self._build_part(part, param_groups(its_assignments), cuts)
            assignments += its_assignments
        self._say(assignments, cuts)
        wrapper = self.build_wrapper(HybridOptimizer(optimizers))
        wrapper.assignments = assignments
        return wrapper

    def hidden(self, model: nn.Module) -> Sequence[NamedParam | Hidden]:
        """Return the parameters of `hidden_optimizer`; override it for a split of your own.

        A Hidden says how to cut the parameter into matrices; others are given to the optimizer as they are.
        """
        return hidden_matrices(model, self.head, self.hidden_convolutions, self.split_fused)

    def _assign_part(
        self, part: str, params: Sequence[NamedParam], rules: ParamwiseRules, cuts: Cuts
    ) -> list[Assignment]:
        trainable = [param.tensor for param in params if param.tensor.requires_grad]
        if not trainable:
            raise self._nothing_for(part)
        base = self._build_part(part, [{"params": trainable}], cuts).defaults
        own_keys = {
            key: options
            for key, options in rules.custom_keys.items()
            if any(key in param.name and param.tensor.requires_grad for param in params)
        }
        name = self._class_of(part)
        try:
            assignments = assign(params, base, replace(rules, custom_keys=own_keys))
        except ConfigError as error:  # which of the two has no such option?
            raise ConfigError(str(error).replace("the optimizer has no", f"{name} has no")) from error
        return [replace(each, rule=f"{name}: {each.rule}") for each in assignments]

    def _nothing_for(self, part: str) -> ConfigError:
        what = "hidden matrix (two-dimensional, no embedding or head)" if part == "hidden" else "other one"
        remedy = "Use one optimizer, such as optim_wrapper=adamw."
        if part == "hidden" and not self.hidden_convolutions:
            remedy = f"optim_wrapper.hidden_convolutions=true gives it the convolutions. {remedy}"
        return ConfigError(f"{_key(part)}: no trainable parameter of the model is for it, no {what}. {remedy}")

    def _build_part(self, part: str, groups: list[dict[str, Any]], cuts: Cuts) -> Optimizer:
        build = partial(build_optimizer, self.optimizer_cfgs[part], _key(part))
        return on_matrices(build, groups, cuts) if part == "hidden" else build(groups)

    def _class_of(self, part: str) -> str:
        target = self.optimizer_cfgs[part]["_target_"]
        return str(getattr(target, "__name__", str(target))).rpartition(".")[2]

    def _say(self, assignments: Sequence[Assignment], cuts: Cuts) -> None:
        tensors = [each.tensor for each in assignments]
        held = [tensor for tensor in tensors if tensor in cuts]
        share = sum(tensor.numel() for tensor in held) / sum(tensor.numel() for tensor in tensors)
        count = sum(len(shapes(cuts[tensor], tensor)) for tensor in held)
        name = self._class_of("hidden")
        logger.info("%s holds %.0f %% of the weights, %d %s.", name, 100 * share, count, _matrices(count))


def _matrices(count: int) -> str:
    return "matrix" if count == 1 else "matrices"


def _cuts(hidden: Sequence[NamedParam | Hidden]) -> Cuts:
    return {
        (each.param.tensor if isinstance(each, Hidden) else each.tensor): getattr(each, "cut", None)
        for each in hidden
    }


def _key(part: str) -> str:
    return "optim_wrapper.hidden_optimizer" if part == "hidden" else "optim_wrapper.optimizer"
