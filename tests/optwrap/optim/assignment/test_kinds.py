import pytest
import torch
from torch import nn

from optwrap.optim import walk
from optwrap.optim.assignment.kinds import is_norm


def module(name, bases=(nn.Module,), **shapes):
    """Return a module of a class of that name that holds parameters of these shapes."""

    owner = type(name, bases, {"__init__": nn.Module.__init__})()
    for attribute, shape in shapes.items():
        owner.register_parameter(attribute, nn.Parameter(torch.zeros(shape)))
    return owner


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("LlamaRMSNorm", {"weight": 4}),
        ("RmsNorm2d", {"weight": (1, 4, 1, 1)}),
        ("GlobalResponseNorm", {"weight": 4, "bias": 4}),
        ("Affine", {"alpha": (1, 1, 4), "beta": (1, 1, 4)}),
        ("SimpleNormAct", {"weight": 4}),
        ("L2Normalize", {"scale": ()}),
        ("CohereLayerNorm", {"weight": (2, 4)}),  # a gain for each head
    ],
)
def test_what_holds_vectors_and_is_called_a_norm_is_one_whoever_wrote_it(name, shapes):
    assert all(map(is_norm, walk(module(name, **shapes))))


def test_a_class_derived_from_one_is_one():
    base = type(module("T5LayerNorm", weight=4))
    assert all(map(is_norm, walk(module("Mine", (base,), weight=4))))


@pytest.mark.parametrize(
    ("name", "bases", "shapes"),
    [
        ("NormalCell", (nn.Module,), {"weight": 4}),
        ("NormFreeBlock", (nn.Module,), {"gain": ()}),
        ("LayerScale", (nn.Module,), {"gamma": 4}),
        ("WhitenNorm", (nn.Module,), {"weight": (4, 4)}),
        ("NormedLinear", (nn.Linear,), {"weight": (1, 4)}),
        ("NormedEmbedding", (nn.Embedding,), {"weight": (4, 1)}),
    ],
)
def test_what_is_called_alike_is_none(name, bases, shapes):
    assert not any(map(is_norm, walk(module(name, bases, **shapes))))


def test_a_head_with_a_norm_in_its_name_is_none():
    head = module("PreLayerNormLMHead", bias=4)
    head.dense = nn.Linear(4, 4)
    assert not any(map(is_norm, walk(head)))


def test_further_classes_count_by_name():
    (param,) = walk(module("Whiten", weight=(4, 4)))
    assert is_norm(param, ["Whiten"])
    assert not is_norm(param, ["Other"])
