"""The parts of a run that a config names: model, task, optimizer wrapper."""

from typing import Any

from omegaconf import DictConfig
from torch import nn

from optwrap import optim
from optwrap.checkpoint import init_from as checkpoint
from optwrap.checkpoint.files import Checkpoints
from optwrap.errors import ConfigError, did_you_mean
from optwrap.instantiate import argument_names, build, locate
from optwrap.optim import OptimWrapper, OptimWrapperDict
from optwrap.program.folder import run_folder
from optwrap.run.loaders import Loaders
from optwrap.run.setup import Process, memory_format
from optwrap.run.threads import set_threads

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Those of torch.compile."""
_YES, _NO = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")
"""What a switch of a config may be."""


def build_model(cfg: DictConfig, process: Process) -> nn.Module:
    """Build `cfg.model` on the device, in channels_last memory and compiled where `cfg` asks for it.

    The threads of the CPU are set as suits it (`set_threads`).

    Raises:
        ConfigError: `cfg.compile` is neither true, false nor a mode of torch.compile.
    """
    compiled = _compiled(cfg.compile)
    model = build(cfg.model, "model").to(process.device)
    set_threads(cfg.get("threads"), model, process.device, process.before)
    if cfg.channels_last:
        model = model.to(memory_format=memory_format(cfg))
    if compiled:
        model.compile(mode=None if compiled is True else compiled)  # in place: names of parameters stay
    return model


def _compiled(asked: Any) -> bool | str:
    word = str(asked).lower()
    if word in (*_YES, *_NO):
        return word in _YES
    if asked not in MODES:
        like = did_you_mean(word, ("true", "false", *MODES))
        raise ConfigError(f"compile={asked}: it is true, false or one of {', '.join(MODES)}.{like}")
    return str(asked)


def init_weights(model: nn.Module, cfg: DictConfig) -> None:
    """Begin with the weights of `cfg.init_from`, if it names any; where the run goes on, its own come instead.

    Raises:
        ConfigError: as `checkpoint.init_weights`.
    """
    goes_on = cfg.resume is not None and Checkpoints.of_run(run_folder()).paths()
    if cfg.init_from is not None and not goes_on:
        checkpoint.init_weights(model, cfg.init_from)


def build_task(cfg: DictConfig, model: nn.Module, process: Process, data: Loaders) -> Any:
    """Build `cfg.task` around the model, its metrics on the device.

    What the data has `for_task`, such as a vocabulary, it gets where it has arguments of these names.
    """
    given = data.splits.for_task or {}
    taken = argument_names(locate(cfg.task._target_, "task")) if given else None
    task = build(cfg.task, "task", model=model, **{name: given[name] for name in given if name in (taken or ())})
    task.metrics.to(process.device)
    return task


def build_optim_wrapper(cfg: DictConfig, model: nn.Module) -> OptimWrapper | OptimWrapperDict:
    """Build the wrapper, or wrappers, of `cfg.optim_wrapper` for the model."""
    return optim.build_optim_wrapper(model, cfg.optim_wrapper)
