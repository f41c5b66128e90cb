"""Dataclasses of the configuration of wrappers: the fields, their types, their defaults and what each is for.

`None` in a node's fields means off; a node itself is never None, or nothing below it could be set.
"""

from abc import ABCMeta
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import II, MISSING, DictConfig, OmegaConf


def open_mapping(**content: Any) -> Any:
    """Return a mapping that takes new keys from the command line without `+`."""
    return DictConfig(content, flags={"struct": False})


def _constructor(name: str) -> Any:
    """Return a mapping that takes the arguments of a constructor of one's own too."""
    return open_mapping(_target_=f"optwrap.optim.{name}OptimWrapperConstructor")


@dataclass
class ClipGradConfig:
    """Gradient clipping, by total norm (`max_norm`) or by value (`clip_value`); off while both are null."""

    type: str | None = None
    """`norm` or `value`; inferred from the fields below where null."""
    max_norm: float | None = None
    """Scale the gradients so that their total norm is at most this."""
    norm_type: float = 2.0
    """The p of the p-norm."""
    error_if_nonfinite: bool = False
    """Raise where the total norm is NaN or infinite."""
    clip_value: float | None = None
    """Clamp each gradient element to [-clip_value, clip_value]."""


@dataclass
class AveragingConfig:
    """Averages of the weights, evaluated in place of them; off while `kind` is null."""

    kind: str | None = None
    """`ema` (exponential) or `swa` (equal)."""
    decay: float = 0.999
    """Of ema: what an average keeps of itself at an update."""
    warmup: float = 10.0
    """Of ema: the n-th average keeps at most (1 + n) / (warmup + n); 0: none."""
    every: int = 1
    """Updates from one average to the next."""
    begin: float = 0.0
    """The first update that is averaged; below 1, that part of all updates is left out."""
    batch_norm: str = "copy"
    """Running statistics in an evaluation: `copy` (training's), `average` or `recompute`."""


@dataclass
class AutoScaleConfig:
    """An lr that follows the number of samples in an update; off while `base_batch_size` is null."""

    base_batch_size: int | None = None
    """Samples of an update that the lr is right for."""
    batch_size: int | None = II("batch_size")
    """Samples of a micro-batch, over all processes."""
    rule: str | None = None
    """`linear` or `sqrt`; null: the root for Adam and the like, else linear."""


@dataclass
class SamConfig:
    """Sharpness-aware minimisation: two passes over each micro-batch; off while `rho` is null."""

    rho: float | None = None
    """How far the weights are moved between the passes."""
    adaptive: bool = False
    """In proportion to the size of each weight."""


@dataclass
class ParamwiseConfig:
    """Factors on the lr and weight decay of single parameters; null leaves them alone."""

    lr_mult: float | None = None
    """Factor on the lr of every parameter."""
    decay_mult: float | None = None
    """Factor on the weight decay of every parameter."""
    bias_lr_mult: float | None = None
    """Factor on the lr of biases, those of norm layers and offset convs excepted."""
    bias_decay_mult: float | None = None
    """Factor on the weight decay of biases, those of norm layers and offset convs excepted."""
    norm_decay_mult: float | None = None
    """Factor on the weight decay of norm layers, weight and bias."""
    flat_decay_mult: float | None = None
    """Factor on the weight decay of one-dimensional parameters that no other rule decides."""
    dwconv_decay_mult: float | None = None
    """Factor on the weight decay of depthwise convolutions."""
    dcn_offset_lr_mult: float | None = None
    """Factor on the lr of the offset conv of a deformable convolution."""
    no_decay_1d: bool | None = None
    """No weight decay on norm layers, biases, vectors, nor on what the model's `no_weight_decay()` names."""
    norm_classes: list[str] | None = None
    """Names of further classes that are norm layers."""
    bypass_duplicate: bool = False
    """A parameter reached under two names: let the first name decide instead of raising."""
    custom_keys: dict[str, Any] = field(default_factory=open_mapping)
    """Part of a parameter name -> lr_mult, decay_mult or options of the optimizer; open to any key."""
    strict: bool = True
    """A custom key that matches nothing is an error (true) or a warning (false)."""


@dataclass
class LayerDecayParamwiseConfig(ParamwiseConfig):
    """What layer-wise lr decay adds to ParamwiseConfig."""

    decay_factor: float = 0.75
    """Factor of one layer on the lr, above 0 and at most 1."""
    decay_by: str = "block"
    """`block`: by blocks, as in fine-tuning; `stage`: by stages of blocks; `depth`: by the nesting of modules."""
    blocks: list[Any] | None = None
    """Prefixes of the blocks in order, `encoder.layer.*` for every child, a list for one block; null: found."""
    head: list[str] | None = None
    """Prefixes that count as head wherever the model defines them."""


@dataclass
class OptimWrapperConfig(metaclass=ABCMeta):  # noqa: B024 -- for __subclasshook__
    """What builds an OptimWrapper; `optimizer` is filled in by a mixin such as sgd, or by a `_target_`."""

    _target_: str = "optwrap.optim.OptimWrapper"
    """The wrapper class."""
    optimizer: Any = MISSING
    """The optimizer: `_target_` and its arguments, less the parameters."""
    accumulative_counts: int = 1
    """Micro-batches to an update."""
    calls_per_batch: float = 1.0
    """How often the task calls update_params for a batch of data: 2, or 0.2 where at every fifth."""
    clip_grad: ClipGradConfig = field(default_factory=ClipGradConfig)
    """Gradient clipping."""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """Averages of the weights."""
    sam: SamConfig = field(default_factory=SamConfig)
    """Sharpness-aware minimisation."""
    freeze: dict[str, Any] = field(default_factory=open_mapping)
    """Part of a parameter name -> updates for which it is frozen, part of the run, {epochs: n} or null: always."""
    auto_scale_lr: AutoScaleConfig = field(default_factory=AutoScaleConfig)
    """The lr follows the samples of an update."""
    constructor: Any = field(default_factory=lambda: _constructor("Default"))
    """What turns (model, this config) into the wrapper; other keys are arguments of a class of your own."""
    paramwise_cfg: ParamwiseConfig = field(default_factory=ParamwiseConfig)
    """Factors on the lr and weight decay of single parameters."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        """Count what adds to this class as a subclass of all else that does.

        OmegaConf merges a schema only into one that it is a subclass of; `[amp,hybrid_muon]` has neither order.
        """
        return OptimWrapperConfig in other.__mro__[1:] or NotImplemented


@dataclass
class AmpOptimWrapperConfig(OptimWrapperConfig):
    """What AMP adds to OptimWrapperConfig."""

    _target_: str = "optwrap.optim.AmpOptimWrapper"
    """The wrapper class."""
    loss_scale: Any = "dynamic"
    """`dynamic`, a number (a scale that never moves) or a mapping of GradScaler's arguments."""
    dtype: str | None = None
    """Compute dtype, float16 or bfloat16; null: autocast's own for the device."""
    device_type: str | None = None
    """Device type of autocast; null: that of the parameters."""
    cache_enabled: bool = True
    """Let autocast cache the casts of weights within one forward."""


@dataclass
class HybridOptimWrapperConfig(OptimWrapperConfig):
    """What a second optimizer, for hidden matrices, adds to OptimWrapperConfig."""

    hidden_optimizer: Any = MISSING
    """The optimizer of hidden matrices: `_target_` and its arguments, less the parameters."""
    head: list[str] | None = None
    """Parts of the names of the head, which `optimizer` takes; null: found by ties, use and names."""
    hidden_convolutions: bool = True
    """Whether convolutions are hidden matrices, their output channels as rows; false: `optimizer` takes them."""
    split_fused: Any = None
    """Projections to cut into equal matrices, such as qkv: true, parts of names, or names with sizes."""


@dataclass
class MultiOptimWrapperConfig:
    """Several wrappers: every other key names a submodule of the model and holds its OptimWrapperConfig."""

    constructor: Any = field(default_factory=lambda: _constructor("Multi"))
    """What turns (model, this config) into the wrappers."""


def addition(cls: type) -> DictConfig:
    """Return the schema `cls` with every inherited field MISSING.

    Merging it leaves what is there and only adds what is new, so that a mixin such as `amp` gives the same
    config wherever it stands in a list. Inherited defaults would undo what stands before it.

    >>> amp = addition(AmpOptimWrapperConfig)
    >>> amp.loss_scale, OmegaConf.is_missing(amp, "optimizer")
    ('dynamic', True)
    """
    node = OmegaConf.structured(cls)
    for item in fields(cls):
        if item.name not in cls.__annotations__:
            node[item.name] = MISSING
    return node


def several_wrappers() -> DictConfig:
    """Return the schema MultiOptimWrapperConfig, open to new keys, the value of each an OptimWrapperConfig."""
    node = DictConfig(MultiOptimWrapperConfig(), flags={"struct": False})
    # Given as an argument, OmegaConf 2.4 takes it for the type of `constructor` too.
    node._metadata.element_type = OptimWrapperConfig
    return node


def open_to_files(cls: type) -> DictConfig:
    """Return the schema `cls`, to which a file may add keys at the top, not below; a command line needs `+`.

    Hydra closes the top after it has merged all files.
    """
    node = DictConfig(cls(), flags={"struct": False})
    for name in node:
        child = node._get_node(name)
        if isinstance(child, DictConfig) and is_dataclass(OmegaConf.get_type(child)):
            OmegaConf.set_struct(child, True)
    return node
