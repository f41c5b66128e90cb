import time

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from optwrap.errors import ConfigError
from optwrap.optim.assignment.blocks import expand_blocks, expand_layers, find_blocks, layer_ids


def test_layer_ids_are_a_pure_function_of_names():
    names = ["stem.w", "a.w", "between.w", "b.w", "norm.w"]
    assert list(layer_ids(names, ["a", "b"]).values()) == [0, 1, 2, 2, 3]


def test_a_prefix_is_a_whole_name():
    assert layer_ids(["block1.w", "block10.w"], ["block1", "block10"]) == {"block1.w": 1, "block10.w": 2}


def test_a_model_that_is_its_blocks():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1)) for _ in range(3)))
    assert find_blocks(model) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "blocks", "stages"),
    [
        ("mobilenet_v3_small", 11, 11),  # mixed children, each with a container inside
        ("googlenet", 9, 9),  # attributes with numbers; the branches inside are no layers
        ("vgg11", 7, 7),  # single convolutions, the first of which is the stem
        ("maxvit_t", 11, 4),  # layers of three different parts
    ],
)
def test_the_blocks_of_torchvisions_unusual_models(name, blocks, stages):
    with torch.device("meta"):
        model = get_model(name, **({"init_weights": False} if name == "googlenet" else {}))
    assert (len(find_blocks(model)), len(find_blocks(model, "stage"))) == (blocks, stages)


def test_an_encoder_comes_before_its_decoder():
    blocks = find_blocks(nn.Transformer(4, 2, 2, 2, 8, batch_first=True))
    assert blocks == [f"{part}.layers.{i}" for part in ("encoder", "decoder") for i in range(2)]


class Tower(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)) for _ in range(depth))


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.vision, self.audio = Tower(2), Tower(3), Tower(9)


def test_towers_side_by_side_are_never_chained_and_all_are_listed():
    said = r"There are 'text.layers.\*' \(2\); 'vision.layers.\*' \(3\); 'audio.layers.\*' \(9\)"
    with pytest.raises(ConfigError, match=said):
        find_blocks(Clip())


def test_a_model_without_any_is_an_error_that_shows_its_children():
    model = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match="no blocks found in ModuleDict, whose children are first, second"):
        find_blocks(model)


@pytest.mark.slow
def test_ten_thousand_blocks_are_numbered_in_linear_time():
    def block():  # Linear layers take their time to be built
        weights = [nn.Parameter(torch.empty(2, 2, device="meta")) for _ in range(2)]
        return nn.ModuleDict({"own": nn.ParameterDict(dict(zip("ab", weights, strict=True)))})

    model = nn.ModuleList(block() for _ in range(10_000))
    names = [name for name, _ in model.named_parameters()]
    start = time.perf_counter()
    blocks = find_blocks(model)
    assert expand_blocks(model, blocks) == blocks
    assert layer_ids(names, blocks)["9999.own.b"] == 10_000
    assert time.perf_counter() - start < 10  # 0.6 s; the quadratic way took minutes


class Model(nn.Module):
    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


def blocks_of(count):
    return nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(count))


def test_frozen_copies_have_no_blocks():
    model = Model(encoder=blocks_of(2), momentum_encoder=blocks_of(2).requires_grad_(False))
    assert find_blocks(model) == ["encoder.0", "encoder.1"]
    assert find_blocks(model.encoder.requires_grad_(False)) == ["0", "1"]


def test_a_decoder_is_not_taken_for_the_blocks_of_a_backbone_that_has_none():
    mixed = Model(conv=nn.Conv2d(3, 2, 1), mix=nn.Linear(2, 2), pool=nn.Bilinear(2, 2, 2))
    model = Model(backbone=mixed, decoder=blocks_of(4), head=nn.Linear(2, 2))
    with pytest.raises(
        ConfigError, match=r"found in decoder, but none in backbone.*blocks=\[backbone,'decoder.\*'\]"
    ):
        find_blocks(model)
    model.backbone.requires_grad_(False)  # not trained, it has no lr
    assert find_blocks(model) == [f"decoder.{i}" for i in range(4)]


def test_several_prefixes_are_one_layer():
    model = nn.ModuleDict({"a": blocks_of(2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    assert expand_layers(model, ["a.*", ["b", "c"], []]) == [["a.0"], ["a.1"], ["b", "c"], []]
    assert expand_layers(model, [["a.*", "b"], "c"]) == [["a.0", "a.1", "b"], ["c"]]
    with pytest.raises(ConfigError, match="'b' lies in 'b'"):
        expand_layers(model, ["b", ["c", "b"]])
    with pytest.raises(ConfigError, match="'d' names no module"):
        expand_layers(model, ["b", ["d"]])
