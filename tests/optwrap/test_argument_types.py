import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights

from optwrap.argument_types import describe, fits, type_hints


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, True), (3.5, int, False), ("3", int, False), (True, int, False),
        (3, float, True), ("x", float, False), (None, float, False), (None, float | None, True),
        (True, bool, True), ("yes", bool, False), ("x", str, True), (3, str, False),
        ([0.5], Sequence[float], True), (0.5, Sequence[float], False), ((1, 2), tuple[int, int], True),
        ({"_target_": "x"}, bool | Callable[[int], int], True), ("maybe", bool | Callable[[int], int], False),
        ({"_target_": "x"}, torch.nn.Module, True), ("x", torch.nn.Module, False), ("x", Any, True),
        ({"a": 1}, Mapping[str, int], True), ("data", Path, True), ("DEFAULT", ResNet18_Weights | None, True),
        (30, numbers.Number, True), ({"_target_": "operator.mul"}, int, True), (np.int64(3), int, True),
        (np.float32(3), float, True), (range(3), Sequence[int], True), ("cpu", torch.device, True),
    ],
)  # fmt: skip
def test_plain_types_and_their_containers_are_judged(value, hint, expected):
    assert fits(value, hint) is expected


def test_types_are_said_as_a_user_would():
    assert describe(float | None) == "float or null"
    assert describe(bool | Callable[[int], int]) == "bool or a function's config"


def test_hints_of_a_class_are_those_of_its_arguments():
    class Model:
        def __init__(self, width: int, name: "str" = "x") -> None: ...

    assert type_hints(Model)["width"] is int
    assert type_hints(lambda x: x) == {}


def test_annotations_that_are_prose_are_no_hints():
    def function(x: "a number of things") -> None: ...  # noqa: F722

    assert type_hints(function) == {}
