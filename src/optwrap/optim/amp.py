"""AmpOptimWrapper: automatic mixed precision behind the same interface."""

import contextlib
import copy
import logging
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.amp.autocast_mode import is_autocast_available
from torch.optim import Optimizer

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.step.loss_scaling import LossScaling
from optwrap.optim.wrapper import OptimWrapper

logger = logging.getLogger(__name__)

_X86 = ("x86_64", "AMD64")
_SCALER_ARGUMENTS = ("init_scale", "growth_factor", "backoff_factor", "growth_interval")


class AmpOptimWrapper(OptimWrapper):
    """An OptimWrapper that computes in mixed precision: autocast, and loss scaling where it is needed.

    Args:
        optimizer, accumulative_counts, clip_grad: as for OptimWrapper.
        loss_scale: 'dynamic', a static scale, or a dict of GradScaler's arguments. Scaling is on for float16,
            and wherever a number or a dict is given.
        dtype: compute dtype, float16 or bfloat16 (string or torch.dtype), or float32: off; None: autocast's for
            the device.
        device_type: 'cuda', 'cpu', ...; None: that of the optimizer's parameters (on the meta device, of the
            accelerator there is, else of the CPU).
        cache_enabled: whether autocast caches cast weights.
        averaging, sam: as for OptimWrapper.

    A step whose scaled gradients overflowed is dropped and counted in `skipped_steps`. With a fused kernel that is
    decided on the device, and the host learns of it a few steps later.
    Source: Micikevicius et al., Mixed Precision Training, 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        loss_scale: str | float | Mapping[str, Any] = "dynamic",
        dtype: str | torch.dtype | None = None,
        device_type: str | None = None,
        cache_enabled: bool = True,
        averaging: Mapping[str, Any] | None = None,
        sam: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad, averaging, sam)
        self.device_type = device_type or _device_type(self._params()[0].device)
        _check_autocast(self.device_type)
        self.dtype = _parse_dtype(dtype) or torch.get_autocast_dtype(self.device_type)
        if self.device_type == "cpu" and self.dtype != torch.float32 and _is_emulated():
            logger.warning(
                "Mixed precision: this CPU (%s) has no instructions for %s, in which layers take several times as "
                "long as in float32; convolutions up to 20 times.",
                *(torch.backends.cpu.get_cpu_capability(), str(self.dtype).removeprefix("torch.")),
            )
        self.cache_enabled = cache_enabled
        self.static_scale = _parse_static_scale(loss_scale)
        if self.dtype == torch.float16 or loss_scale != "dynamic":
            if getattr(self.clip_grad, "error_if_nonfinite", False):
                raise ConfigError(
                    "clip_grad.error_if_nonfinite=true: loss scaling provokes overflows and skips those steps, "
                    "so this would stop a healthy run. Set it to false, or compute in bfloat16."
                )
            scaler = GradScaler(self.device_type, **_scaler_arguments(loss_scale))
            self._finish.scaling = LossScaling(scaler, self.static_scale)
            self._finish.scaling.check_dtypes(self._params())
            self._finish.check(self.clip_grad)

    @property
    def loss_scaler(self) -> GradScaler | None:
        """What scales the losses, if anything does."""
        return None if self._finish.scaling is None else self._finish.scaling.scaler

    @loss_scaler.setter
    def loss_scaler(self, scaler: GradScaler | None) -> None:
        """Scale by another scaler, which moves as it was told; None, or one that is switched off: not at all."""
        self.static_scale = None
        self._finish.scaling = None
        if scaler is not None and scaler.is_enabled():
            self._finish.scaling = LossScaling(scaler, None)
            self._finish.scaling.check_dtypes(self._params())
            self._finish.check(self.clip_grad)

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` and the loss inside, in mixed precision."""
        if (device := self._params_device()) not in (self.device_type, "meta"):
            raise ConfigError(
                f"device_type={self.device_type!r}, but the parameters are on {device!r}: build the wrapper "
                "after model.to(device)."
            )
        is_mixed = self.dtype != torch.float32
        dtype = self.dtype if is_mixed else None
        autocast = torch.autocast(self.device_type, dtype, is_mixed, self.cache_enabled)
        with super().optim_context(model), autocast:
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Differentiate the scaled loss and count one micro-batch."""
        super().backward(self._finish.scaled(loss), **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return OptimWrapper's state dict and, with loss scaling, `loss_scaler`."""
        state = super().state_dict()
        if self.loss_scaler is not None:
            state["loss_scaler"] = self.loss_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, by this or by a plain OptimWrapper; a static scale stays."""
        if self.loss_scaler is not None and self.static_scale is None:
            if "loss_scaler" in state_dict:
                self.loss_scaler.load_state_dict(copy.deepcopy(state_dict["loss_scaler"]))
            else:
                logger.warning("The state dict has no loss_scaler; loss scaling starts at its initial scale.")
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "loss_scaler"})

    def _scale(self) -> float:
        return 1.0 if self.loss_scaler is None else self.loss_scaler.get_scale()

    def _check_parallel(self) -> None:
        super()._check_parallel()
        if self.loss_scaler is not None and self._parallel.sharded_by_fsdp1:
            raise ConfigError(
                "dtype=float16: FSDP1 would look for overflows in each rank's shard by itself. Use FSDP2 "
                "(fully_shard), or bfloat16."
            )

    def _params_device(self) -> str:
        return self.param_groups[0]["params"][0].device.type


def _device_type(device: torch.device) -> str:
    """Return the device type that parameters compute on; those on the meta device are yet to get there."""
    if device.type != "meta":
        return device.type
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type


def _is_emulated() -> bool:
    """Whether torch computes in half precision by what the CPU has for float32: below AVX-512 on x86."""
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2") and platform.machine() in _X86


def _check_autocast(device_type: str) -> None:
    try:
        known = is_autocast_available(device_type)
    except RuntimeError:  # no device type at all
        known = False
    if not known:
        raise ConfigError(f"device_type={device_type!r}: torch.autocast does not know this device; leave out amp.")


def _parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    name = str(dtype).removeprefix("torch.")
    known = {each: getattr(torch, each) for each in ("float16", "bfloat16", "float32")} | {"None": None}
    if name not in known:
        raise ConfigError(
            f"dtype={dtype!r}: mixed precision computes in float16 or bfloat16 (float32: off); null: the default."
        )
    return known[name]


def _parse_static_scale(loss_scale: Any) -> float | None:
    if isinstance(loss_scale, int | float) and not isinstance(loss_scale, bool) and 0 < loss_scale < float("inf"):
        return float(loss_scale)
    if loss_scale == "dynamic" or isinstance(loss_scale, Mapping):
        return None
    raise ConfigError(
        f"loss_scale={loss_scale!r}: it is 'dynamic', a number above 0, or a mapping of "
        f"{', '.join(_SCALER_ARGUMENTS)}."
    )


def _scaler_arguments(loss_scale: Any) -> dict[str, Any]:
    if not isinstance(loss_scale, Mapping):
        return {} if loss_scale == "dynamic" else {"init_scale": float(loss_scale)}
    for name in loss_scale:
        if name not in _SCALER_ARGUMENTS:
            raise ConfigError(
                f"loss_scale.{name}={loss_scale[name]!r}: GradScaler has no such argument."
                f"{did_you_mean(name, _SCALER_ARGUMENTS)} It takes {', '.join(_SCALER_ARGUMENTS)}."
            )
    return {name: value for name, value in loss_scale.items() if value is not None}
