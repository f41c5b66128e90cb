"""Whether the replicas of a model are still one model: nothing that sets them apart shall stay unnoticed."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from optwrap.errors import ConfigError
from optwrap.optim.assignment.params import walk
from optwrap.optim.parallel.sync import parallel_modules
from optwrap.plan.ranks import Ranks

_TOLERANCE = 1e-4  # relative: far below what one update on other gradients does


def check_replicas(model: nn.Module, ranks: Ranks) -> None:
    """Compare the norm of each parameter between ranks that hold the whole of it: two small reductions.

    Raises:
        ConfigError: they differ, as where a task changes weights of one rank, or steps without averaged gradients.
    """
    replicated = [each for each in parallel_modules(model) if isinstance(each, DistributedDataParallel)]
    params = [param for module in replicated for param in walk(module) if param.tensor.numel()]
    if ranks.size == 1 or not params:
        return
    norms = torch.stack(
        [norm.double() for norm in torch._foreach_norm([param.tensor.detach() for param in params])]
    )
    least, most = norms.clone(), norms
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    apart = (most - least) > _TOLERANCE * most
    if not apart.any():
        return
    names = [param.name for param, is_apart in zip(params, apart.tolist(), strict=True) if is_apart]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    raise ConfigError(
        f"strategy=ddp: the ranks hold different weights in {shown}. Call each data-parallel module itself (not a "
        "method of it, nor a submodule; strategy.modules names those that the task calls), inside "
        "optim_context(module), and change weights on all ranks alike."
    )
