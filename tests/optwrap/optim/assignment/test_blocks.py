import pytest
import torch
from torch import nn
from torchvision.models import get_model

from optwrap.errors import ConfigError
from optwrap.optim.assignment.blocks import find_blocks, layer_ids


def test_layer_ids_are_a_pure_function_of_names():
    names = ["stem.w", "a.w", "between.w", "b.w", "norm.w"]
    assert list(layer_ids(names, ["a", "b"]).values()) == [0, 1, 2, 2, 3]


def test_a_prefix_is_a_whole_name():
    assert layer_ids(["block1.w", "block10.w"], ["block1", "block10"]) == {"block1.w": 1, "block10.w": 2}


def test_a_model_that_is_its_blocks():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1)) for _ in range(3)))
    assert find_blocks(model) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # Only some of its layers hold a stack of equal modules; the others would have counted as head.
        ("mobilenet_v3_small", "not those of one stack; there are features.2.block, features.3.block"),
        ("googlenet", "inception3a.branch2, inception3a.branch3"),  # branches are no layers
        ("vgg11", "no blocks found in VGG, whose children are features, avgpool, classifier"),
    ],
)
def test_what_would_be_a_guess_is_an_error_that_shows_the_names(name, said):
    with torch.device("meta"):
        model = get_model(name, **({"init_weights": False} if name == "googlenet" else {}))
    with pytest.raises(ConfigError, match=said):
        find_blocks(model)


def test_the_error_for_two_stacks_shows_the_list_to_give():
    model = nn.Transformer(4, 2, 2, 2, 8, batch_first=True)
    with pytest.raises(ConfigError, match=r"blocks=\['encoder.layers.\*','decoder.layers.\*'\]"):
        find_blocks(model)
