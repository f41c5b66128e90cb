"""Numbers that go bad: NaN and inf in losses, gradients and weights, found without waiting in each step."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.optim.parallel.sharding import shards_of
from optwrap.optim.step.clip import ClipNorm, total_norm
from optwrap.optim.step.layout import params_of
from optwrap.plan.plan import Plan
from optwrap.plan.ranks import ALONE, Ranks
from optwrap.run.buffers import WindowBuffers, scales_loss

logger = logging.getLogger(__name__)

POLICIES = ("error", "skip", "rollback")
MOST_SKIPPED = 100
"""Updates in a row that may be skipped: beyond that, every later one would be too."""
MOST_SEEN = 1024
"""Losses kept for the next check: beyond that, they are looked at without it."""
MOST_ROLLBACKS = 5
"""Times in a row that a run may be taken back: beyond that, it would go bad each time."""

_ADVICE = (
    "Try a lower optim_wrapper.optimizer.lr, clipping (add clip to the optim_wrapper list), a schedule with "
    "warm-up (schedule=warmup_cosine) or, with float16, amp_bf16 instead of amp. "
    "debug.find_nonfinite=true names the module."
)


class NonFiniteWatch:
    """Watches losses, gradient norms and weights under a policy.

    - `error`: the run stops, and its last checkpoint is from before.
    - `rollback`: model and optimizer go back to the last checkpoint, the data and the schedule go on.
    - `skip`: an update whose gradients are not finite is dropped and counted in `skipped_steps`, and the buffers
      of `model` are those from before its window. To know before the step, this one waits for the device once an
      update.

    Wrappers with loss scaling skip overflowed updates by themselves; under `skip`, buffers that such an update has
    made NaN or inf are those from before it, too.
    """

    def __init__(
        self,
        policy: str,
        wrappers: Mapping[str, OptimWrapper],
        plan: Plan,
        roll_back: Callable[[int], None],
        ranks: Ranks = ALONE,
        model: nn.Module | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"on_nonfinite={policy}: it is one of {', '.join(POLICIES)}.")
        self._policy, self._plan, self._roll_back, self._ranks = policy, plan, roll_back, ranks
        self._wrappers = {name: each for name, each in wrappers.items() if not scales_loss(each)}
        self._buffers = WindowBuffers(model, wrappers.values()) if model is not None and policy == "skip" else None
        groups = [group for each in wrappers.values() for group in each.param_groups]
        self._params = [param for group in groups for param in group["params"]]
        self._skipping = (
            [_Skipping(each, self._buffers) for each in self._wrappers.values()] if policy == "skip" else []
        )
        self._seen: dict[str, list[tuple[int, Tensor]]] = {}  # since the last check: micro-batches and numbers
        self._norms = self._last_norms()  # a resumed run's is of an update from before
        self._checked = 0
        self.rollbacks = 0
        self.needs_checkpoint = policy == "rollback"

    def step(self, stats: Mapping[str, Tensor], count: int) -> None:
        """Take in micro-batch `count`; check where a training row is due, which waits for the device anyway."""
        self.add(stats, count)
        if self._plan.logs_after(count):
            self.check(count)

    def add(self, stats: Mapping[str, Tensor], count: int) -> None:
        """Keep the loss of micro-batch `count` and new gradient norms, on the device, for the next check."""
        if "loss" in stats:
            self._see("loss", stats["loss"], count)
        for name, wrapper in self._wrappers.items():
            norm = wrapper.last_grad_norm
            if norm is not None and norm is not self._norms.get(name):
                self._see(f"{name}gradient norm", norm, count)
            self._norms[name] = norm
        if self._buffers is not None:
            self._buffers.end_micro_batch()

    def check(self, count: int) -> None:
        """Wait for the device, and act where something was NaN or inf since the last check.

        Raises:
            ConfigError: there was something, and the policy is `error` or has been tried in vain.
        """
        if count == self._checked:
            return
        self._checked = count
        bad = {what: first for what, seen in self._seen.items() if (first := _first_bad(seen))}
        self._seen.clear()
        if not bad and not _all_finite(self._params):
            bad = {"weights": count}
        bad = self._ranks.all_of(bad)  # what one rank finds, each acts on
        if not bad:
            self.rollbacks = 0
            return
        what, first = min(bad.items(), key=lambda item: item[1])
        place = (
            f"epoch {self._plan.epoch_of(first)}, update {-(-first // self._plan.accumulative_counts)} "
            f"(micro-batch {first})"
        )
        verb = "are" if what == "weights" else "is"
        if self._policy == "skip" and what != "weights":
            logger.warning("The %s is NaN or inf in %s; such updates are skipped.", what, place)
            return
        if self._policy != "rollback":
            raise ConfigError(f"the {what} {verb} NaN or inf since {place}. {_ADVICE}")
        self.rollbacks += 1
        if self.rollbacks > MOST_ROLLBACKS:
            raise ConfigError(
                f"the {what} {verb} NaN or inf since {place}, after {MOST_ROLLBACKS} rollbacks in a row. {_ADVICE}"
            )
        logger.warning("The %s %s NaN or inf since %s: back to the last checkpoint.", what, verb, place)
        self._roll_back(count)
        self._norms = self._last_norms()

    def state(self) -> list[Tensor] | None:
        """Return what a checkpoint inside a window needs: the buffers from before it."""
        return None if self._buffers is None else self._buffers.state()

    def load_state(self, state: Any) -> None:
        """Take what `state` returned."""
        if self._buffers is not None:
            self._buffers.load(state)

    def close(self) -> None:
        """Take hooks off the optimizers."""
        for each in self._skipping:
            each.close()

    def _last_norms(self) -> dict[str, Tensor | None]:
        return {name: each.last_grad_norm for name, each in self._wrappers.items()}

    def _see(self, what: str, value: Tensor, count: int) -> None:
        # A copy, which may be looked at later: the next micro-batch may write to the same place.
        seen = self._seen.setdefault(what, [])
        seen.append((count, value.detach().clone()))
        if len(seen) == MOST_SEEN:
            first = _first_bad(seen)
            seen[:] = [each for each in seen if each[0] == first]


class _Skipping:
    """A hook that leaves an optimizer no gradient to step with where one is not finite."""

    def __init__(self, wrapper: OptimWrapper, buffers: WindowBuffers | None) -> None:
        self._wrapper, self._buffers = wrapper, buffers
        self._in_a_row = 0
        self._hook = wrapper.optimizer.register_step_pre_hook(self._drop)

    def close(self) -> None:
        self._hook.remove()

    def _drop(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        params = params_of(optimizer)
        norm = self._wrapper.last_grad_norm if isinstance(self._wrapper.clip_grad, ClipNorm) else None
        if bool(torch.isfinite(total_norm(params) if norm is None else norm)):
            self._in_a_row = 0
            if self._buffers is not None:
                self._buffers.step_taken()
            return
        for param in params:
            param.grad = None
        if self._buffers is not None:
            self._buffers.step_dropped()
        self._wrapper.skipped_steps += 1
        self._wrapper.updates -= 1  # the wrapper counts this step as one
        self._in_a_row += 1
        if self._in_a_row > MOST_SKIPPED:
            raise ConfigError(f"on_nonfinite=skip: {MOST_SKIPPED} updates in a row were skipped. {_ADVICE}")


def _first_bad(seen: list[tuple[int, Tensor]]) -> int | None:
    """Return the first micro-batch whose number is NaN or inf: one wait for the device."""
    # A norm of no gradients lies on the CPU, whichever device the others are on.
    device = next((value.device for _, value in seen if value.device.type != "cpu"), seen[0][1].device)
    finite = torch.isfinite(torch.stack([value.to(device) for _, value in seen])).flatten().tolist()
    return next((count for (count, _), is_finite in zip(seen, finite, strict=True) if not is_finite), None)


def _all_finite(params: Iterable[Tensor]) -> bool:
    """Whether every weight is finite: one wait for the device."""
    local = shards_of(list(params))
    norms = torch._foreach_norm([param for param in local if param.numel()], float("inf"))
    if not norms:  # this rank holds no weight of a model that is smaller than the ranks are many
        return True
    return bool(torch.isfinite(torch.stack([norm.to(norms[0].device) for norm in norms])).all())
