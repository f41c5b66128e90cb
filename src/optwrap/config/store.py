"""Puts the structured configs into Hydra's ConfigStore, under the group names that conf/ refers to."""

import functools
from collections.abc import Callable, Iterator, KeysView, Mapping
from dataclasses import field, make_dataclass, replace
from typing import Any, Self

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import MISSING, OmegaConf

from optwrap import pretrained_input
from optwrap.config import resuming, schemas, sources, train_schema
from optwrap.config.signatures import Argument, Signature, optimizer_signatures, scheduler_signatures


def register() -> None:
    """Register every schema and every option that has no file; calling it again changes nothing.

    - `schema/train`: the top-level keys;
    - `schema/wrapper/OptimWrapper` or `MultiOptimWrapper`: the wrapper, which stands below the mixins;
    - `schema/amp/AmpOptimWrapper`, `schema/hybrid/...`, `schema/paramwise/...`, `schema/averaging/...`,
      `schema/sam/...`: what mixins add to it;
    - `schema/constructor/...`: what builds it. A schema group may appear only once in a defaults list, which
      is what makes two optimizers, or two constructors, an error;
    - `schema/optimizer/SGD`, `schema/scheduler/StepLR`, ...: the arguments of each class of torch;
    - `optim_wrapper/Adagrad`, ...: a mixin for every optimizer of torch, with torch's defaults;
    - `schedule/StepLR`, ...: an option for every scheduler of torch, which moves the lr.
    """
    sources.register()
    resuming.register_resolver()
    pretrained_input.register()
    store = ConfigStore.instance()
    if "schema" in store.repo:
        return
    for group, name, node in _schemas():
        store.store(name, node, group=f"schema/{group}".rstrip("/"), provider="optwrap")
    # The store has made a copy, to whose `constructor` OmegaConf 2.4 gives the type of the wrappers beside it.
    store.repo["schema"]["wrapper"]["MultiOptimWrapper.yaml"].node = schemas.several_wrappers()
    shared = store.repo["schema"] = _SharedGroup(store.repo["schema"])
    for repo, group, signatures, node in (
        (shared, "optimizer", _optimizers, schema),
        (shared, "scheduler", _schedulers, schema),
        (store.repo, "optim_wrapper", _optimizers, _mounting("optimizer", "optimizer")),
        (store.repo, "schedule", _schedulers, _mounting("scheduler", "lr")),
    ):
        stored = repo.get(group, {})
        repo[group] = _ClassGroup(signatures, group, node)
        repo[group].update(stored)


def _schemas() -> Iterator[tuple[str, str, Any]]:
    yield "", "train", schemas.open_to_files(train_schema.TrainConfig)
    yield "wrapper", "OptimWrapper", schemas.OptimWrapperConfig
    yield "wrapper", "MultiOptimWrapper", schemas.several_wrappers()
    yield "amp", "AmpOptimWrapper", schemas.addition(schemas.AmpOptimWrapperConfig)
    yield "hybrid", "HybridOptimWrapper", schemas.addition(schemas.HybridOptimWrapperConfig)
    yield "paramwise", "LayerDecay", schemas.addition(schemas.LayerDecayParamwiseConfig)
    # Mounted once at most, so that two averages, or two kinds of SAM, are an error.
    for kind in ("ema", "swa"):
        yield "averaging", kind, {"kind": kind}
    for kind in ("sam", "asam"):
        yield "sam", kind, {"adaptive": kind == "asam"}
    for name, arguments in _SCHEDULE_FREE.items():
        common = {"weight_decay": 0.0, "warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0}
        yield "optimizer", name, {"_target_": f"schedulefree.{name}", **arguments, **common}
    for name in ("LayerDecay", "Hybrid", "Multi"):
        target = f"optwrap.optim.{name}OptimWrapperConstructor"
        yield "constructor", name, {"_target_": target}


_SCHEDULE_FREE: dict[str, dict[str, Any]] = {
    "AdamWScheduleFree": {"lr": 0.0025, "betas": [0.9, 0.999], "eps": 1e-8},
    "SGDScheduleFree": {"lr": 1.0, "momentum": 0.9},
}
"""The optimizers of the package schedulefree, which may not be there, and their arguments."""


class _SharedGroup(dict[str, Any]):
    """A group of the store that copies of the store share.

    Hydra copies the whole store at each composition and each listing of a group, and each node once more
    when it loads it. Only the second copy protects anything; without the first, `--help` takes a third of
    its time.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _ClassGroup(_SharedGroup):
    """A group with an option for each class of torch.

    torch's sources are read when an option is looked for, and that is made when it is taken: all of them took a
    fifth of the time of a short run, which has use for one.
    """

    def __init__(
        self, signatures: Callable[[], Mapping[str, Signature]], group: str, node: Callable[[Signature], Any]
    ) -> None:
        super().__init__()
        self._signatures, self._group, self._node = signatures, group, node

    def __missing__(self, option: str) -> ConfigNode:
        signature = self._signatures()[option.removesuffix(".yaml")]
        node = OmegaConf.structured(self._node(signature))
        self[option] = made = ConfigNode(option, node, group=self._group, package=None, provider="optwrap")
        return made

    def __contains__(self, option: object) -> bool:
        return super().__contains__(option) or str(option).removesuffix(".yaml") in self._signatures()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Return the names of all options, made or not."""
        return ({f"{name}.yaml": None for name in self._signatures()} | dict(self)).keys()


@functools.cache
def _optimizers() -> Mapping[str, Signature]:
    return optimizer_signatures()


@functools.cache
def _schedulers() -> Mapping[str, Signature]:
    return {name: _of_a_run(signature) for name, signature in scheduler_signatures().items()}


def _mounting(kind: str, key: str) -> Callable[[Signature], Any]:
    """Return what makes an option that mounts the schema of a class at `key`."""
    return lambda signature: {"defaults": [{f"/schema/{kind}@{key}": signature.name}]}


def schema(signature: Signature) -> type:
    """Return a dataclass with a `_target_` and the arguments of `signature`, required ones MISSING.

    >>> from omegaconf import OmegaConf
    >>> sgd = OmegaConf.structured(schema(optimizer_signatures()["SGD"]))
    >>> sgd._target_, sgd.momentum
    ('torch.optim.SGD', 0.0)
    """
    fields: list[Any] = [("_target_", str, signature.target)]
    for argument in signature.arguments:
        default = argument.default
        if isinstance(default, list):
            default = field(default_factory=list(default).copy)
        fields.append((argument.name, argument.type, default))
    return make_dataclass(signature.name, fields)


def _of_a_run(signature: Signature) -> Signature:
    """Return a scheduler's signature without the defaults that the run knows better.

    These are its length, and of a ReduceLROnPlateau the direction of the metric; which one, torch does not ask.
    """
    plateau = signature.name == "ReduceLROnPlateau"
    given = {"total_iters", "mode"} if plateau else {"total_iters"}
    arguments = [
        replace(argument, default=MISSING) if argument.name in given else argument
        for argument in signature.arguments
    ]
    if plateau:
        arguments.append(Argument("metric", str | None, None))
    return replace(signature, arguments=tuple(arguments))
