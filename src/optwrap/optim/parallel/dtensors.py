"""DTensors and modules of FSDP told from plain ones, without loading what makes them.

That takes a second, and there is none of them where nobody has loaded it: in a run of one process.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import DTensor
    from typing_extensions import TypeIs


def is_dtensor(value: Any) -> "TypeIs[DTensor]":
    """Whether something is a tensor that is spread over processes.

    >>> is_dtensor([1.0])
    False
    """
    return is_dtensor_type(type(value))


def is_dtensor_type(kind: type) -> bool:
    """Whether tensors of a class are spread over processes."""
    return _is_of(kind, "torch.distributed.tensor", "DTensor")


def may_have_dtensors() -> bool:
    """Whether a tensor could be one."""
    return "torch.distributed.tensor" in sys.modules


def is_fsdp2(module: Any) -> "TypeIs[FSDPModule]":
    """Whether `fully_shard` was called on a module."""
    return _is_of(type(module), "torch.distributed.fsdp", "FSDPModule")


def is_fsdp1(module: Any) -> "TypeIs[FullyShardedDataParallel]":
    """Whether a module is wrapped in FSDP1."""
    return _is_of(type(module), "torch.distributed.fsdp", "FullyShardedDataParallel")


def _is_of(kind: type, module: str, name: str) -> bool:
    loaded = getattr(sys.modules.get(module), name, None)
    return loaded is not None and issubclass(kind, loaded)
