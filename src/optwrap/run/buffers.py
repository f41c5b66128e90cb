"""Buffers, such as the running statistics of batch norm, as they were before an update that is dropped."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.optim import OptimWrapper


class WindowBuffers:
    """The buffers in a model's state dict as they were before the accumulation windows that its wrappers are in.

    A forward pass changes buffers, so that no optimizer can leave them as they were.
    """

    def __init__(self, model: nn.Module, wrappers: Iterable[OptimWrapper]) -> None:
        saved = {id(value) for value in model.state_dict(keep_vars=True).values()}
        self._places = [
            (module, name)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if id(buffer) in saved
        ]
        self._wrappers = list(wrappers) if self._places else []
        self._copy = [buffer.clone() for buffer in self._now()]
        self._scaled = [each for each in self._wrappers if scales_loss(each)]
        self._skipped = self._skipped_so_far()

    def step_taken(self) -> None:
        """Note that a wrapper is about to step, with good gradients."""
        if not self._scaled:  # else what its forward passes saw is known at the end of the micro-batch
            self._keep()

    def step_dropped(self) -> None:
        """Make the buffers what they were before the windows."""
        now = self._now()
        if [each.shape for each in now] == [each.shape for each in self._copy]:
            _copy_all(self._copy, now)
            return
        for (module, name), copy in zip(self._places, self._copy, strict=True):
            setattr(module, name, copy.clone())

    def end_micro_batch(self) -> None:
        """Look whether loss scaling has skipped a step that made buffers NaN or inf, and undo that."""
        if self._scaled and (skipped := self._skipped_so_far()) != self._skipped:
            self._skipped = skipped
            if self._went_bad():
                self.step_dropped()
        self._keep()

    def state(self) -> list[Tensor] | None:
        """Return the copy where a checkpoint needs it: inside a window."""
        return None if self._between_windows() else self._copy

    def load(self, state: Any) -> None:
        """Take what `state` returned for the copy, where it is of these buffers."""
        whole = isinstance(state, list) and all(isinstance(each, Tensor) for each in state)
        if whole and [each.shape for each in state] == [each.shape for each in self._copy]:
            _copy_all(state, self._copy)

    def _keep(self) -> None:
        if not self._between_windows():
            return
        now = self._now()
        if [each.shape for each in now] == [each.shape for each in self._copy]:
            _copy_all(now, self._copy)
        else:
            self._copy = [buffer.clone() for buffer in now]

    def _between_windows(self) -> bool:
        return all(each.should_update() for each in self._wrappers)

    def _skipped_so_far(self) -> int:
        return sum(each.skipped_steps for each in self._scaled)

    def _went_bad(self) -> bool:
        pairs = zip(self._now(), self._copy, strict=True)
        return any(bool(copy.isfinite().all()) and not bool(now.isfinite().all()) for now, copy in pairs)

    def _now(self) -> list[Tensor]:
        # `data`: a graph that is still to go backward, as a GAN's generator's, shall not count this as a change.
        return [getattr(module, name).data for module, name in self._places]


def scales_loss(wrapper: OptimWrapper) -> bool:
    """Whether the wrapper skips overflowed steps by itself."""
    return getattr(wrapper, "loss_scaler", None) is not None


def _copy_all(sources: list[Tensor], targets: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
