import pytest
import torch
from torch import nn
from torchvision.models import get_model

from optwrap.errors import ConfigError
from optwrap.optim.assignment.head import head_layers


def names_of(model):
    """Return the names of the head's layers."""
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(layer)] for layer in head_layers(model)]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.fc = nn.MultiheadAttention(4, 2), nn.Linear(4, 4)


class Gpt(nn.Module):
    """A language model whose parts are defined in any order; its head may be tied, and there may be none."""

    def __init__(self, order, head="lm_head", tied=False):
        super().__init__()
        parts = {
            "embed": lambda: nn.Embedding(9, 4),
            "blocks": lambda: nn.ModuleList(Block() for _ in range(2)),
            "project": lambda: nn.Linear(4, 4, bias=False),
            "head": lambda: nn.Linear(4, 9, bias=False),
        }
        for part in order:
            self.add_module(head if part == "head" else part, parts[part]())
        if tied:
            getattr(self, head).weight = self.embed.weight


@pytest.mark.parametrize(
    "order", [("head", "embed", "blocks"), ("embed", "blocks", "head"), ("head", "blocks", "embed")]
)
@pytest.mark.parametrize("head", ["lm_head", "readout"])
def test_the_one_outside_the_blocks_is_the_head_wherever_it_is_defined(order, head):
    assert names_of(Gpt(order, head)) == [head]


@pytest.mark.parametrize("order", [("head", "project", "embed"), ("embed", "head", "blocks", "project")])
def test_of_several_the_tied_one_is_the_head_else_the_one_that_is_named_so(order):
    assert names_of(Gpt(order, "readout", tied=True)) == ["readout"]
    assert names_of(Gpt(order, "lm_head")) == ["lm_head"]


def test_a_model_of_blocks_alone_has_no_head():
    assert names_of(Gpt(("embed", "blocks"))) == []


def test_inside_a_sequential_the_last_comes_last():
    hidden = [nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 8), nn.ReLU())]
    assert names_of(nn.Sequential(*hidden, nn.Sequential(nn.Linear(8, 3), nn.Flatten()))) == ["2.0"]


def test_a_layer_with_two_names_is_one():
    model = nn.ModuleDict({"first": nn.Linear(4, 4)})
    model["second"] = model["first"]
    assert len(head_layers(model)) == 1


def test_a_layer_whose_output_nothing_takes_is_the_head_without_a_name():
    model = nn.ModuleDict({"l2": nn.Linear(4, 3), "l1": nn.Linear(4, 4), "l0": nn.Linear(9, 4)})
    assert names_of(model) == ["l2"]


class Dense(nn.Module):
    """What comes before the last layer of a head, in any order of definition."""

    def __init__(self, order=("dense", "norm", "out_proj")):
        super().__init__()
        parts = {"dense": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "out_proj": nn.Linear(4, 3)}
        for part in order:
            self.add_module(part, parts[part])


@pytest.mark.parametrize("order", [("dense", "norm", "out_proj"), ("out_proj", "norm", "dense")])
def test_of_a_module_that_is_called_a_head_the_last_layer_is_the_head(order):
    assert names_of(nn.ModuleDict({"classifier": Dense(order)})) == ["classifier.out_proj"]
    headless = nn.ModuleDict({"head": nn.ModuleDict({"fc1": nn.Linear(4, 8), "norm": nn.LayerNorm(8)})})
    assert names_of(headless) == []


def test_there_may_be_several_heads():
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Linear(4, 4), "head_dist": nn.Linear(4, 4)})
    assert names_of(model) == ["head", "head_dist"]
    box = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model = nn.ModuleDict({"class_labels_classifier": nn.Linear(4, 4), "bbox_predictor": box})
    assert names_of(model) == ["class_labels_classifier", "bbox_predictor.2"]
    aux = nn.ModuleDict({"conv": nn.Conv2d(8, 4, 1), "fc1": nn.Linear(16, 9), "fc2": nn.Linear(9, 5)})
    assert names_of(nn.ModuleDict({"fc": nn.Linear(4, 5), "aux1": aux})) == ["aux1.fc2", "fc"]


def test_a_convolution_may_be_the_head():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model = nn.ModuleDict({"body": body, "conv_head": nn.Conv2d(8, 16, 1), "classifier": nn.Conv2d(16, 5, 1)})
    assert names_of(model) == ["classifier"]
    del model["classifier"]
    assert names_of(model) == []
    assert names_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1))) == ["2"]


@pytest.mark.parametrize("inside", ["pooler", "aligner", "patch_embed", "pre_logits", "downsample"])
def test_nothing_is_guessed_as_a_head_where_there_is_none(inside):
    model = Gpt(("embed", "blocks"))
    model.add_module(inside, nn.Linear(4, 7))
    assert names_of(model) == []


def test_an_unclear_head_is_an_error_that_shows_what_to_write():
    model = nn.ModuleDict({"l1": nn.Linear(4, 4), "l2": nn.Linear(4, 4)})
    with pytest.raises(ConfigError, match=r"not clear: l1, l2\. .*optim_wrapper\.head=\[l2\]"):
        head_layers(model)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("vit_b_16", ["heads.head"]),
        ("swin_t", ["head"]),
        ("convnext_tiny", ["classifier.2"]),
        ("resnet18", ["fc"]),
        ("vgg11", ["classifier.6"]),
        ("squeezenet1_0", ["classifier.1"]),
        ("inception_v3", ["AuxLogits.fc", "fc"]),
    ],
)
def test_torchvisions_models_have_the_head_that_they_name(name, head):
    with torch.device("meta"):
        model = get_model(name, **({"init_weights": False} if name == "inception_v3" else {}))
    assert names_of(model) == head
