"""Averages of the weights over updates, beside training, which they do not change."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.averaging.buffers import buffers_beside
from optwrap.optim.averaging.fields import FIELDS, check_fields
from optwrap.optim.parallel.sharded_state import placed_as
from optwrap.optim.parallel.sharding import shards_of

logger = logging.getLogger(__name__)


class WeightAverage:
    """A running average of a wrapper's parameters, taken after updates and not after skipped steps.

    Args:
        kind: `ema`, exponential (Polyak and Juditsky 1992), or `swa`, equal (Izmailov et al. 2018).
        decay: of `ema`; the n-th average is taken with min(decay, (1 + n) / (warmup + n)), n from 0.
        warmup: 1 or less: `decay` from the start.
        every: updates from one to the next.
        begin: the first update (from 1) that is averaged, or, below 1, that part of the planned updates is not.
        batch_norm: running statistics in an evaluation: training's own (`copy`), averaged as the weights are
            (`average`), or those of training data under the averaged weights (`recompute`, which a run does).

    The first one is a copy of the weights, as in torch.optim.swa_utils. Averages of half-precision weights are
    float32.

    >>> average = WeightAverage("ema", decay=0.5, warmup=1)
    >>> weight = torch.zeros(1)
    >>> for value in (1.0, 2.0):
    ...     average.step([weight.fill_(value)], skipped=False)
    >>> average.averages[0]
    tensor([1.5000])
    """

    def __init__(
        self,
        kind: str = "ema",
        decay: float = 0.999,
        warmup: float = 10.0,
        every: int = 1,
        begin: float = 0.0,
        batch_norm: str = "copy",
    ) -> None:
        check_fields(kind=kind, decay=decay, warmup=warmup, every=every, begin=begin, batch_norm=batch_norm)
        self.kind, self.decay, self.warmup, self.every, self.begin = kind, decay, warmup, every, begin
        self.batch_norm = batch_norm
        self.averages: list[Tensor] = []  # of the parameters, in their order; empty before the first
        self.buffers: dict[str, Tensor] = {}  # averages of the model's buffers, where they are averaged
        self._own_buffers: dict[str, Tensor] = {}
        self._start = 0  # updates that were made before there was an average
        self._seen: int | Tensor = 0  # updates; a tensor where the device alone knows which were skipped

    @property
    def updates(self) -> int:
        """Updates seen; waits for the device where it decides which steps are skipped."""
        return int(self._seen)

    def start_after(self, updates: int) -> None:
        """Begin in the middle of a run, after so many updates that were not averaged."""
        self._start = self._seen = updates

    def follow(self, old: list[Tensor], new: list[Tensor]) -> None:
        """Go on with the averages of `old` for `new`; where some have none, begin anew."""
        kept = dict(zip(map(id, old), self.averages, strict=False))
        if self.averages and all(id(param) in kept for param in new):
            self.averages = [kept[id(param)] for param in new]
        elif self.averages:
            logger.warning("The optimizer was replaced by one of other parameters: averages begin anew.")
            self.averages = []
            self.start_after(self.updates)

    def see(self, model: nn.Module, params: list[Tensor]) -> None:
        """Learn which buffers of `model` to average beside `params`."""
        self._own_buffers = buffers_beside(model, params) if self.batch_norm == "average" else {}

    @torch.no_grad()
    def step(self, params: list[Tensor], skipped: bool | Tensor, planned: int | None = None) -> None:
        """Take in `params` after a step; a tensor is 1 where it was skipped, which the host need not know.

        Args:
            planned: updates of the whole run, where they are known.

        Raises:
            ConfigError: `begin` is a part of a number that is not known.
        """
        first = self._first(planned)
        if isinstance(skipped, Tensor) or isinstance(self._seen, Tensor):
            self._step_on_device(params, torch.as_tensor(skipped, device=params[0].device), first)
            return
        if skipped:
            return
        self._seen += 1
        count, rest = divmod(self._seen - first, self.every)
        if count < 0 or rest:
            return
        self._prepare(params)
        averages, values = self._pairs(params)
        if self.kind == "swa":
            get_swa_multi_avg_fn()(averages, values, count)
        else:
            get_ema_multi_avg_fn(self._decay(count))(averages, values, count)

    def _step_on_device(self, params: list[Tensor], skipped: Tensor, first: int) -> None:
        """Do the same with a weight that is 0 where nothing is to be averaged."""
        made = 1.0 - skipped.to(torch.float32)
        self._seen = torch.as_tensor(self._seen, device=made.device) + made
        count = torch.div(self._seen - first, self.every, rounding_mode="floor")
        due = (count >= 0) & (self._seen - first == count * self.every)
        least = count if self.kind == "swa" else ((1 + count) / (self.warmup + count)).clamp(max=self.decay)
        weight = 1 / (least + 1) if self.kind == "swa" else torch.where(count == 0, 1.0, 1 - least)
        self._prepare(params)
        averages, values = self._pairs(params)
        differences = torch._foreach_sub(values, averages)
        torch._foreach_mul_(differences, torch.where(due, weight * made, 0.0))
        torch._foreach_add_(averages, differences)

    def _decay(self, count: int) -> float:
        if count == 0:
            return 0.0
        return min(self.decay, (1 + count) / (self.warmup + count))

    def _first(self, planned: int | None) -> int:
        if self.begin >= 1 or self.begin == 0:
            return max(self._start + 1, int(self.begin))
        if planned is None:
            raise ConfigError(
                f"averaging.begin={self.begin}: a part of how many updates? Tell the wrapper by "
                "initialize_count_status(model, 0, max_counts), or give the first update, as a whole number."
            )
        return max(self._start, int(self.begin * planned)) + 1

    def _prepare(self, params: list[Tensor]) -> None:
        if not self.averages:
            self.averages = [_copy(param) for param in params]
        if self.buffers.keys() != self._own_buffers.keys():
            self.buffers = {name: self.buffers.get(name, _copy(each)) for name, each in self._own_buffers.items()}

    def _pairs(self, params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return averages and what they are of: this rank's part of each; whole numbers are copied at once."""
        averages, values = list(self.averages), [_wide(param) for param in params]
        for name, average in self.buffers.items():
            if average.is_floating_point():
                averages.append(average)
                values.append(self._own_buffers[name])
            else:
                average.copy_(self._own_buffers[name])
        return shards_of(averages), shards_of(values)

    @contextmanager
    def in_place_of(self, params: list[Tensor]) -> Iterator[None]:
        """Put the averages into the model inside; afterwards the weights are what they were, to the bit."""
        own = [*params, *(self._own_buffers[name] for name in self.buffers)]
        averages = [*self.averages, *self.buffers.values()]
        if not averages:
            yield
            return
        before = _put(own, averages)
        try:
            yield
        finally:
            _put(own, before)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and which updates they have seen."""
        return {
            "kind": self.kind,
            "updates": self.updates,
            "start": self._start,
            "averages": list(self.averages),
            "buffers": dict(self.buffers),
            "batch_norm": self.batch_norm,
        }

    def load_state_dict(self, state: Mapping[str, Any], params: list[Tensor]) -> None:
        """Take copies of what `state_dict` returned; a parameter without an average (None) begins with itself.

        An average of another kind is no beginning of this one, which then begins here.
        """
        if state["kind"] != self.kind:
            logger.warning("averaging.kind=%s: it was %s before, and begins anew.", self.kind, state["kind"])
            self.averages, self.buffers = [], {}
            self.start_after(int(state["updates"]))
            return
        self._seen, self._start = int(state["updates"]), int(state["start"])
        pairs = zip(params, state["averages"], strict=True) if state["averages"] else ()
        self.averages = [_copy(param, average) for param, average in pairs]
        own = self._own_buffers
        self.buffers = {name: _copy(own[name], each) for name, each in state["buffers"].items() if name in own}


def parse_averaging(config: Mapping[str, Any] | None) -> WeightAverage | None:
    """Return the average that a config asks for; None where its `kind` is None.

    Raises:
        ConfigError: a field is unknown or out of range.
    """
    config = dict(config or {})
    for name, value in config.items():
        if config.get("kind") is None and name in FIELDS and value != FIELDS[name]:
            raise ConfigError(f"averaging.{name}={value!r}: nothing is averaged. Set averaging.kind, or add ema.")
        if name not in FIELDS:
            raise ConfigError(
                f"averaging.{name}={config[name]!r}: there is no such field.{did_you_mean(name, FIELDS)} "
                f"It has {', '.join(FIELDS)}."
            )
    return None if config.get("kind") is None else WeightAverage(**config)


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor in a dtype in which small steps are not lost."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _copy(own: Tensor, saved: Tensor | None = None) -> Tensor:
    """Return a copy of the model's own tensor, or of one that was saved for it, wide enough to average in."""
    copy = _wide(own.detach()).clone()
    if saved is not None:
        copy.copy_(placed_as(own, saved.to(own.device)))
    return copy


@torch.no_grad()
def _put(targets: Iterable[Tensor], values: Iterable[Tensor]) -> list[Tensor]:
    """Write values into tensors; return copies of what they were."""
    before = []
    for target, value in zip(targets, values, strict=True):
        before.append(target.detach().clone())
        target.copy_(value)
    return before
