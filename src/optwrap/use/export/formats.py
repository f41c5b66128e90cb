"""The formats: how a model is written in each, and how what was written is run."""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError, first_line
from optwrap.import_paths import import_extra
from optwrap.use.export.exportable import Exportable, tensors_of

METADATA = "metadata.json"
"""Where the metadata is among the extra files of a program."""


@dataclass(frozen=True)
class Format:
    """A format: the name of its file, the packages it needs, and an extra that installs them.

    `write` makes the file; `run` gives what the file makes of inputs, in the order of the model's own outputs.
    """

    file: str
    needs: tuple[str, ...]
    extra: str
    write: Callable[[Exportable, Path], None]
    run: Callable[[Exportable, Path, tuple[Tensor, ...]], list[Tensor]]

    def check_installed(self, key: str) -> None:
        """Raise ConfigError where a package is missing."""
        for package in self.needs:
            import_extra(package, key, self.extra)


def _write_program(it: Exportable, path: Path) -> None:
    torch.export.save(it.program, path, extra_files={METADATA: json.dumps(dict(it.metadata))})


def _run_program(it: Exportable, path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    return tensors_of(torch.export.load(path).module()(*inputs))


def _write_onnx(it: Exportable, path: Path) -> None:
    try:
        with _quiet():
            made = torch.onnx.export(
                it.program,
                dynamo=True,
                input_names=it.input_names,
                output_names=it.output_names,
                dynamic_shapes=it.dynamic_shapes,
                verbose=False,
            )
    except ConfigError:
        raise
    except Exception as error:  # of many kinds: an operator that ONNX has not, and faults of the exporter
        raise ConfigError(
            f"to=onnx: {type(it.model).__name__} cannot be put into ONNX ({first_line(error)}). Try to=program."
        ) from error
    assert made is not None
    made.model.metadata_props.update(it.metadata)
    made.save(path)


def _run_onnx(it: Exportable, path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = dict(zip(it.input_names, (each.numpy() for each in inputs), strict=True))
    return [torch.from_numpy(each) for each in session.run(it.output_names, fed)]


def _write_safetensors(it: Exportable, path: Path) -> None:
    from safetensors.torch import save

    # Copies: it refuses tensors that share memory, as tied weights do.
    state = {name: each.detach().clone().contiguous() for name, each in _tensors(it.model.state_dict()).items()}
    path.write_bytes(save(state, dict(it.metadata)))  # its own save_file lets nobody else read the file


def _run_safetensors(it: Exportable, path: Path, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    from safetensors.torch import load_file

    empty = copy.deepcopy(it.model)
    with torch.no_grad():
        for each in _tensors(empty.state_dict()).values():
            each.zero_()
    rest = {name: each for name, each in it.model.state_dict().items() if not isinstance(each, Tensor)}
    empty.load_state_dict({**rest, **load_file(path)})
    return tensors_of(empty(*inputs))


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: each for name, each in state.items() if isinstance(each, Tensor)}  # no extra state of a module


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own making off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)


FORMATS = {
    "onnx": Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), "onnx", _write_onnx, _run_onnx),
    "program": Format("model.pt2", (), "", _write_program, _run_program),
    "safetensors": Format(
        "model.safetensors", ("safetensors",), "safetensors", _write_safetensors, _run_safetensors
    ),
}
"""By what `to=` says."""
