"""The simple noise scale: up to which batch size more samples make a better gradient."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from optwrap.errors import ConfigError
from optwrap.hooks.given import Run
from optwrap.optim import ClipNorm, OptimWrapper, OptimWrapperDict
from optwrap.optim.parallel.sharding import is_sharded
from optwrap.optim.step.layout import params_of


class GradientNoise:
    """Records, with each training row, the simple noise scale in samples: the trace of the gradient's covariance
    over its squared norm. Batches much smaller than it are noisy, larger ones gain little.

    Both are estimated without bias from the squared norms of gradients of two sizes of batch: those of the
    micro-batches of each rank and that of the update. They are there anyway, but an update has to be made of
    several. Each estimate is smoothed by itself, and then divided.

    Args:
        smoothing: share of the past in the moving averages, 0 up to below 1.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, appendix A.
    """

    def __init__(self, smoothing: float = 0.9) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and below 1, not {smoothing}")
        self._smoothing = smoothing
        self._gradient = self._noise = self._weight = 0.0
        self._begun: int | None = None  # the micro-batches done when the window that is measured began
        self._squares: list[Tensor] = []
        self._scale = 1.0
        self._handles: list[RemovableHandle] = []

    def start(self, run: Run) -> None:
        """Check that there are gradients of two sizes, and that they can be seen."""
        self._wrapper = _one_wrapper(run)
        key = self._key = f"hooks.{run.key}"
        params = params_of(self._wrapper.optimizer)
        if run.plan.accumulative_counts * run.ranks.size == 1:
            raise ConfigError(
                f"{key}: it compares the gradients of micro-batches with that of an update, here the same. "
                "Accumulate (add accum2 to the optim_wrapper list, with half the batch_size), or start more ranks."
            )
        if self._wrapper.sam is not None:
            raise ConfigError(f"{key}: SAM's gradients are of other weights. Leave out sam, or this hook.")
        if is_sharded(params):
            raise ConfigError(f"{key}: under strategy=fsdp2 no rank sees its own gradient. Use strategy=ddp.")
        clip = self._wrapper.clip_grad
        if clip is not None and not (isinstance(clip, ClipNorm) and clip.norm_type == 2):
            raise ConfigError(f"{key}: optim_wrapper.clip_grad hides the norm that it needs. Clip by the 2-norm.")

    def before_update(self, run: Run) -> None:
        """Watch the gradients of each micro-batch where a row is due."""
        self._release()
        if not run.plan.held_after(run.count):
            self._begun, self._squares = (run.count if run.logs_next_update else None), []
        if self._begun is None:
            return
        scaler = getattr(self._wrapper, "loss_scaler", None)
        self._scale = 1.0 if scaler is None else scaler.get_scale()
        params = [param for param in params_of(self._wrapper.optimizer) if param.requires_grad]
        self._handles = [param.register_hook(self._see) for param in params]

    def after_update(self, run: Run) -> None:
        """Estimate, and record."""
        self._release()
        begun, self._begun = self._begun, None
        norm = self._wrapper.last_grad_norm
        if begun is None or norm is None or not self._squares:
            return
        micro_batches = run.count - begun
        small = torch.stack(self._squares).sum().item() * micro_batches
        means = run.ranks.mean({"small": small, "large": norm.item() ** 2})
        self._squares = []
        if all(torch.isfinite(torch.tensor(list(means.values())))):
            sizes = run.batch_size / run.ranks.size, run.batch_size * micro_batches
            if sizes[0] < sizes[1]:
                self._estimate(means["small"], means["large"], *sizes)
                self._record(run)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, and what an update that is under way has come to."""
        return {
            "averages": [self._gradient, self._noise, self._weight],
            "begun": self._begun,
            "squares": list(self._squares),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self._gradient, self._noise, self._weight = state["averages"]
        self._begun, self._squares = state["begun"], list(state["squares"])

    def _see(self, grad: Tensor) -> None:
        if self._wrapper.is_weighted:
            raise ConfigError(
                f"{self._key}: it takes each micro-batch for the same number of samples, and this task gives "
                "update_params a weight. Leave the hook out."
            )
        values = grad.coalesce().values() if grad.is_sparse else grad
        norm = torch.linalg.vector_norm(values.detach(), dtype=torch.float32)
        self._squares.append((norm / self._scale) ** 2)

    def _estimate(self, small: float, large: float, few: float, many: float) -> None:
        gradient = (many * large - few * small) / (many - few)
        noise = (small - large) / (1 / few - 1 / many)
        past = self._smoothing
        self._gradient = past * self._gradient + (1 - past) * gradient
        self._noise = past * self._noise + (1 - past) * noise
        self._weight = past * self._weight + (1 - past)

    def _record(self, run: Run) -> None:
        gradient, noise = self._gradient / self._weight, self._noise / self._weight
        run.record("gradient", gradient)
        run.record("noise", noise)
        # Early estimates may be negative: they are differences.
        run.record("scale", noise / gradient if gradient > 0 and noise > 0 else None)

    def _release(self) -> None:
        while self._handles:
            self._handles.pop().remove()


def _one_wrapper(run: Run) -> OptimWrapper:
    wrapper = run.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict) or wrapper.calls_per_batch != 1:
        raise ConfigError(f"hooks.{run.key}: it is for one wrapper that is called once a batch.")
    return wrapper
