"""What helps to find a fault: short runs, runs on few samples, anomaly mode, the module of a NaN, a profile."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.profiler import profile, schedule
from torch.utils.data import Subset

from optwrap.errors import ConfigError
from optwrap.optim.assignment.params import submodules, walk
from optwrap.program.processes import rank_suffix
from optwrap.run.data.splits import EVALUATED, Splits, is_stream, length_of
from optwrap.run.data.streams import FirstOfStream

logger = logging.getLogger(__name__)

TRACE = "trace{}.json"  # of each rank
_BATCHES = 2  # of each data set, in a fast_dev_run
_WARM_UP = 2  # micro-batches before those that are profiled


def shortened(cfg: DictConfig) -> DictConfig:
    """Return the config of the run; under `debug.fast_dev_run` one short epoch that logs and saves each update.

    Raises:
        ConfigError: a switch is out of range, or does not go with another.
    """
    debug = cfg.debug
    for key in ("overfit_batches", "profile"):
        if debug[key] is not None and debug[key] < 1:
            raise ConfigError(f"debug.{key}={debug[key]}: it must be 1 or more; null: off.")
    if debug.find_nonfinite and cfg.compile:
        raise ConfigError("debug.find_nonfinite=true looks into each module: set compile=false.")
    if not debug.fast_dev_run:
        return cfg
    if debug.overfit_batches is not None:
        raise ConfigError("debug.fast_dev_run and debug.overfit_batches are both set; keep one.")
    logger.info("debug.fast_dev_run: %d batches of each data set, no result to compare.", _BATCHES)
    short = {"epochs": 1, "max_updates": None, "eval_every": None, "log_every": 1, "checkpoint": {"every": 1}}
    return OmegaConf.merge(cfg, short)  # type: ignore[return-value]


def fewer_samples(splits: Splits, debug: Any, batch_size: int) -> Splits:
    """Return the splits that the run sees.

    `debug.overfit_batches` trains and evaluates on the first batches of the training set, `debug.fast_dev_run`
    cuts each set.
    """
    if debug.overfit_batches is not None:
        few = _first(splits.train, debug.overfit_batches * batch_size)
        return replace(splits, train=few, val=few, test=few)
    if debug.fast_dev_run:
        count = _BATCHES * batch_size
        there = {split: getattr(splits, split) for split in ("train", *EVALUATED)}
        few_of = {split: _first(each, count) for split, each in there.items() if each is not None}
        return replace(splits, **few_of)
    return splits


@contextlib.contextmanager
def debugger(debug: Any, model: nn.Module, folder: Path, where: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Switch on what `debug` asks for; yield what the loop calls after each micro-batch.

    `where` names the place in the run, for messages.

    Raises:
        ConfigError: under `debug.find_nonfinite`, a module's output or a parameter's gradient is NaN or inf.
    """
    with contextlib.ExitStack() as stack:
        if debug.detect_anomaly:
            with warnings.catch_warnings():  # that it is slow is why it is off by default
                warnings.simplefilter("ignore", UserWarning)
                stack.enter_context(torch.autograd.detect_anomaly())
        if debug.find_nonfinite:
            stack.enter_context(_watched(model, where))
        if debug.profile is None:
            yield _nothing
            return
        yield stack.enter_context(_profiler(debug.profile, folder / TRACE.format(rank_suffix()))).step


def _nothing() -> None:
    """Do nothing: what a run without a profile does after each micro-batch."""


def _first(samples: Any, count: int) -> Any:
    if is_stream(samples):
        return FirstOfStream(samples, min(count, length_of(samples) or count))
    return Subset(samples, range(min(count, len(samples))))


def _profiler(micro_batches: int, path: Path) -> Any:
    def write(profiler: Any) -> None:
        profiler.export_chrome_trace(str(path))
        logger.info("A trace of %d micro-batches is in %s: open it in ui.perfetto.dev.", micro_batches, path)

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it prints what it starts and which devices it lacks
    steps = schedule(wait=0, warmup=_WARM_UP, active=micro_batches, repeat=1)
    return profile(schedule=steps, on_trace_ready=write, record_shapes=True)


@contextlib.contextmanager
def _watched(model: nn.Module, where: Callable[[], str]) -> Iterator[None]:
    """Look at every module's output and every parameter's gradient; each look waits for the device."""
    hooks: list[Any] = []
    for name, module in submodules(model).items():
        if next(module.children(), None) is None:
            hooks.append(module.register_forward_hook(_output_check(name, module, where)))
    for param in walk(model):
        if param.tensor.requires_grad:
            hooks.append(param.tensor.register_post_accumulate_grad_hook(_gradient_check(param.name, where)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _output_check(name: str, module: nn.Module, where: Callable[[], str]) -> Callable[[nn.Module, Any, Any], None]:
    def check(_: nn.Module, inputs: Any, output: Any) -> None:
        if not _finite(output):
            came = "from finite inputs" if _finite(inputs) else "its input already was"
            raise ConfigError(
                f"debug.find_nonfinite: the output of {name or 'the model'} ({type(module).__name__}) is NaN or "
                f"inf {where()}; {came}."
            )

    return check


def _gradient_check(name: str, where: Callable[[], str]) -> Callable[[Tensor], None]:
    def check(param: Tensor) -> None:
        if param.grad is not None and not _finite(param.grad):
            raise ConfigError(f"debug.find_nonfinite: the gradient of {name} is NaN or inf {where()}.")

    return check


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True
