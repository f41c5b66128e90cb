import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import torch
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ValidationError

from optwrap.config.signatures import Argument, Signature, optimizer_signatures, scheduler_signatures
from optwrap.config.store import schema

OPTIMIZERS, SCHEDULERS = optimizer_signatures(), scheduler_signatures()


def public_classes(module: typing.Any, base: type) -> dict[str, type]:
    """The subclasses of `base` that a module exports, less `base` itself."""
    members = {name: getattr(module, name) for name in module.__all__}
    is_class = {name: cls for name, cls in members.items() if inspect.isclass(cls)}
    return {name: cls for name, cls in is_class.items() if issubclass(cls, base) and cls is not base}


def settable(cls: type) -> dict[str, inspect.Parameter]:
    """A constructor's arguments, less the parameters or the optimizer."""
    parameters = dict(inspect.signature(cls).parameters)
    handed_over = "optimizer" if "optimizer" in parameters else next(iter(parameters))
    return {name: parameter for name, parameter in parameters.items() if name != handed_over}


def as_torch_has_it(value: typing.Any) -> typing.Any:
    return tuple(value) if isinstance(value, list) else value


def assert_same(cls: type, signature: Signature) -> None:
    expected = settable(cls)
    assert [argument.name for argument in signature.arguments] == list(expected)
    for argument in signature.arguments:
        default = expected[argument.name].default
        if default is inspect.Parameter.empty:
            assert argument.default == MISSING, argument.name
        else:
            assert as_torch_has_it(argument.default) == default, argument.name


def test_every_public_optimizer_and_scheduler_is_found() -> None:
    assert OPTIMIZERS.keys() == public_classes(torch.optim, torch.optim.Optimizer).keys()
    schedulers = public_classes(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler)
    assert SCHEDULERS.keys() == schedulers.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_has_the_names_defaults_and_required_arguments_of_the_real_class(name: str) -> None:
    assert_same(getattr(torch.optim, name), OPTIMIZERS[name])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_has_the_names_defaults_and_required_arguments_of_the_real_class(name: str) -> None:
    assert_same(getattr(torch.optim.lr_scheduler, name), SCHEDULERS[name])


@pytest.mark.parametrize("signature", [*OPTIMIZERS.values(), *SCHEDULERS.values()], ids=lambda s: s.name)
def test_schema_accepts_its_own_defaults(signature: Signature) -> None:
    node = OmegaConf.structured(schema(signature))
    for argument in signature.arguments:
        if argument.default != MISSING:
            node[argument.name] = argument.default
    assert node._target_ == signature.target


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_argument_of_an_optimizer_is_unchecked(name: str) -> None:
    assert all(argument.type is not typing.Any for argument in OPTIMIZERS[name].arguments)


def test_zero_default_of_a_float_argument_accepts_floats() -> None:
    sgd = OmegaConf.structured(schema(OPTIMIZERS["SGD"]))
    sgd.momentum = 0.9
    assert sgd.momentum == 0.9


def test_tuple_argument_is_a_checked_list() -> None:
    adam = OmegaConf.structured(schema(OPTIMIZERS["Adam"]))
    adam.betas = [0.8, 1]
    assert adam.betas == [0.8, 1.0]
    with pytest.raises(ValidationError):
        adam.betas = ["a", 0.9]


def test_optional_argument_takes_null_and_its_type_only() -> None:
    sgd = OmegaConf.structured(schema(OPTIMIZERS["SGD"]))
    sgd.fused = True
    sgd.fused = None
    with pytest.raises(ValidationError):
        sgd.fused = "perhaps"


SOURCE = """
from typing import Optional, Union
STEPS = 5
__all__ = ["Base", "Child", "helper"]
class Base:
    def __init__(self, params, a: Optional[float] = 1, b: Union[int, float] = 2, c: "int" = STEPS,
                 d: weird[1:2] = None, e=compute(), *args, f: Union[float, Tensor, None] = None,
                 g: tuple[float, ...] = (1, 2), h: dict[str, int] = {}, **kwargs): ...
class Child(Base):
    pass
"""


def test_reader_takes_other_spellings_and_never_fails_on_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "lr_scheduler.py").write_text(SOURCE)
    arguments = {a.name: (a.type, a.default) for a in scheduler_signatures(tmp_path)["Child"].arguments}
    assert arguments == {
        "a": (float | None, 1.0),
        "b": (float, 2.0),
        "c": (int, 5),
        "d": (typing.Any, None),
        "f": (float | None, None),
        "g": (list[float], [1.0, 2.0]),
        "h": (typing.Any, {}),
    }


def test_a_signature_is_read_from_its_own_file_alone(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text(
        "from torch.optim.a import A\nfrom torch.optim.b import B\nfrom torch.optim.c import C\n"
        "__all__ = ['A', 'B', 'C']\n"
    )
    (tmp_path / "a.py").write_text("class A:\n    def __init__(self, params, lr: float = 0.1): ...\n")
    (tmp_path / "b.py").write_text("this is no Python")
    found = optimizer_signatures(tmp_path)
    assert found["A"].arguments == (Argument("lr", float, 0.1),)
    assert "C" not in found  # it has no file
    with pytest.raises(SyntaxError):
        list(found)
    (tmp_path / "b.py").write_text("class B: ...")
    assert (list(found), len(found)) == (["A"], 1)


def test_registering_the_schemas_does_not_import_torch() -> None:
    code = "import sys; from optwrap.config import store; store.register(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
