"""What is exported: a model in plain float32, what it is called with, and what stands in the file beside it."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from optwrap.errors import ConfigError, first_line
from optwrap.run.data.splits import EVALUATED
from optwrap.use.samples import inputs_of
from optwrap.use.trained import Trained

TRACED_ROWS = 2  # torch takes a dimension of one for a constant
BATCH = "batch"


@dataclass(frozen=True)
class Exportable:
    """A model in evaluation mode, and inputs of it: tensors whose rows are samples of the run's data."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    @cached_property
    def input_names(self) -> list[str]:
        """The names of the arguments of the model's forward."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.model.forward).parameters.values()
        names = [each.name for each in parameters if each.kind in kinds]
        count = len(self.inputs)
        return names[:count] if len(names) >= count else [f"input_{number}" for number in range(count)]

    @cached_property
    def output_names(self) -> list[str]:
        """Names for the tensors that the model returns."""
        count = len(self.outputs(1))
        return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]

    def rows(self, count: int) -> tuple[Tensor, ...]:
        """Return inputs of so many samples; where there are too few, some come again."""
        return tuple(each[torch.arange(count) % len(each)] for each in self.inputs)

    @torch.no_grad()
    def outputs(self, count: int) -> list[Tensor]:
        """Return what the model makes of `rows(count)`."""
        return tensors_of(self.model(*self.rows(count)))

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """The batch is of any size, every other dimension as it is."""
        return tuple({0: Dim(BATCH)} for _ in self.inputs)

    @cached_property
    def program(self) -> ExportedProgram:
        """The model as torch.export traces it.

        Raises:
            ConfigError: torch.export cannot trace it.
        """
        try:
            rows = self.rows(TRACED_ROWS)
            return torch.export.export(self.model, rows, dynamic_shapes=self.dynamic_shapes)
        except Exception as error:  # of many kinds: whatever the model's code does under tracing
            raise ConfigError(
                f"torch.export cannot trace {type(self.model).__name__} for batches of any size "
                f"({first_line(error)}). to=safetensors exports the weights alone."
            ) from error


def exportable(it: Trained, metadata: Mapping[str, str]) -> Exportable:
    """Return the model of a run in float32, with inputs from its data.

    A task with `export_inputs(batch)` says what its model is called with: a tensor, or several. Of others it is
    the first part of a batch.

    Raises:
        ConfigError: that is no tensor, or the model cannot be called with it or returns no tensor.
    """
    split = next((each for each in EVALUATED if it.data.has(each)), "train")
    batch = next(iter(it.data.evaluation(split)))
    own = getattr(it.task, "export_inputs", None)
    found = own(batch) if own else inputs_of(batch)
    inputs = tuple(found) if isinstance(found, list | tuple) else (found,)
    name = type(it.task).__name__
    if not inputs or not all(isinstance(each, Tensor) and each.ndim and len(each) for each in inputs):
        kinds = ", ".join(type(each).__name__ for each in inputs)
        raise ConfigError(
            f"the model would be exported with inputs of type {kinds or 'nothing'}: they are tensors, a row a "
            f"sample. Give {name} a method export_inputs(batch), which returns a tensor or several."
        )
    made = Exportable(it.model.eval().float(), inputs, metadata)
    try:
        made.outputs(1)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the model cannot be called with tensors of shape {[tuple(each.shape) for each in inputs]} "
            f"({first_line(error)}). Let export_inputs(batch) of {name} return what it takes."
        ) from error
    return made


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors that a model's output holds, in its order.

    Raises:
        TypeError: it is, or holds, something else.
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if not isinstance(output, list | tuple):
        raise TypeError(f"the model returned {type(output).__name__}, not tensors")
    return [tensor for each in output for tensor in tensors_of(each)]
