import sys

import pytest
import torch

from optwrap.errors import ConfigError
from optwrap.models import timm_model

timm = pytest.importorskip("timm")
SMALL = "test_vit"  # timm's own, for tests: 160 pixels


@pytest.fixture
def saved(tmp_path):
    """Save the weights of timm's own model of so many classes; return them, and the file's path."""

    def save(name, classes):
        state = timm.create_model(name, num_classes=classes).state_dict()
        torch.save(state, tmp_path / "weights.pth")
        return state, str(tmp_path / "weights.pth")

    return save


def differing(model, state):
    return sorted(
        name
        for name, tensor in model.state_dict().items()
        if name not in state or tensor.shape != state[name].shape or not torch.equal(tensor, state[name])
    )


@pytest.mark.parametrize("name", [SMALL, "test_convnext"])
def test_a_model_takes_the_channels_size_and_classes_asked_for(name):
    model = timm_model(name, num_classes=7, channels=1, image_size=48)
    assert model.training
    assert model(torch.randn(2, 1, 48, 48)).shape == (2, 7)
    own = timm.create_model(name, num_classes=7, in_chans=1)
    assert [each for each, _ in model.named_parameters()] == [each for each, _ in own.named_parameters()]


def test_options_are_those_of_the_model():
    assert timm_model("test_resnet", 3, drop_rate=0.4).drop_rate == 0.4


@pytest.mark.parametrize(
    ("name", "classes", "new"),
    [
        ("test_resnet", 7, []),
        ("test_resnet", 1000, ["fc.bias", "fc.weight"]),
        ("test_resnet", 9, ["fc.bias", "fc.weight"]),
        ("test_resnet", 0, ["fc.bias", "fc.weight"]),
        (SMALL, 9, ["head.bias", "head.weight"]),
    ],
)
def test_a_files_weights_are_taken_whole_but_for_a_head_of_other_classes(name, classes, new, saved):
    state, path = saved(name, classes)
    assert differing(timm_model(name, num_classes=7, weights=path), state) == new


def test_a_position_embedding_of_another_size_is_resampled(saved):
    state, path = saved(SMALL, 7)
    model = timm_model(SMALL, num_classes=7, image_size=32, weights=path)
    assert differing(model, state) == ["pos_embed"]
    assert model.pos_embed.std() > 0


def write_other(folder):
    torch.save({"a": torch.zeros(1)}, folder / "other.pth")
    (folder / "text.pth").write_text("no weights")
    return folder


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("other.pth", r"model\.weights=.*other\.pth: these are no weights of test_resnet"),
        ("text.pth", r"model\.weights=.*text\.pth: no weights can be read from this file"),
        ("none.pth", r"model\.weights=.*none\.pth is no file"),
    ],
)
@pytest.mark.parametrize("classes", [7, 1000])
def test_a_file_that_does_not_fit_is_named(file, said, classes, tmp_path):
    with pytest.raises(ConfigError, match=said):
        timm_model("test_resnet", classes, weights=str(write_other(tmp_path) / file))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("test_resnett", {}, r"model\.name=test_resnett is no model of timm\. Did you mean 'test_resnet'"),
        ("hf_hub:someone/net", {}, r"model\.name=hf_hub:someone/net is no model of timm"),
        ("local-dir:/tmp/net", {}, r"is no model of timm"),
        ("test_resnet.x_in1k", {}, r"timm has no weights 'x_in1k' of test_resnet.*There are: r160_in1k"),
        ("test_resnet", {"width": 3}, r"model: test_resnet of timm: .*width"),
        (SMALL, {"image_size": 8}, r"data\.image_size=8 does not fit model\.name=test_vit.*=160, for which"),
        ("resnet10t.c3_in1k", {"weights": "DEFAUL"}, r"model\.weights=DEFAUL is no file\. Give DEFAULT"),
        ("vit_base_patch8_siglip_224", {"weights": "DEFAULT"}, r"no model of timm|timm has none for"),
    ],
)
def test_what_timm_does_not_have_is_named(name, arguments, said):
    with pytest.raises(ConfigError, match=said):
        timm_model(name, 3, **arguments)


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError, match=r"model\.name=resnet18 needs the package timm: pip install -e '\.\[timm\]'"
    ):
        timm_model("resnet18", 3)
