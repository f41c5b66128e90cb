"""The YAML files of data, model and task, each built as the command line builds it."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.optwrap.cases import one_in

CONF = Path(__file__).parents[3] / "conf"
GROUPS = ["data", "model", "task"]
FILES = [path for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
# Those of other packages are built in tests/optwrap/models, gpt takes no images.
MODELS = [
    path.stem
    for path in FILES
    if path.parent.name == "model" and not path.stem.startswith(("timm", "transf", "gpt"))
]


def _load(group: str, name: str):
    return OmegaConf.load(CONF / group / f"{name}.yaml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_config_is_short_and_begins_with_a_line_for_the_help(path):
    first, *rest = path.read_text().splitlines()
    assert first.startswith("# ")
    assert 2 <= len(rest) <= 14


@pytest.mark.parametrize("name", one_in(4, MODELS))
def test_every_model_fits_the_data(name):
    data = OmegaConf.merge(_load("data", "fake"), {"size": 1, "eval_size": 1, "num_classes": 3})
    model = _load("model", name)
    if name == "torchvision":
        model.name = "mobilenet_v3_small"
    config = OmegaConf.create({"data": data, "model": model, "task": _load("task", "classification")})
    built = instantiate(config.model).eval()  # a ViT: with a position embedding for 32 pixels
    task = instantiate(config.task, model=built)
    image, label = instantiate(config.data).val[0]
    task.eval_step((image[None], torch.tensor([label])))
    assert task.metrics.compute()["loss"].isfinite()


def test_the_digits_fit_the_small_models():
    for name in ("small_cnn", "small_vit"):
        config = OmegaConf.create({"data": _load("data", "digits"), "model": _load("model", name)})
        images = torch.stack([instantiate(config.data).val[i][0] for i in range(2)])
        assert instantiate(config.model)(images).shape == (2, 10)


def test_mnist_is_built_from_its_config(mnist_root):
    config = OmegaConf.merge(_load("data", "mnist"), {"root": str(mnist_root), "val_size": 10})
    assert instantiate(config).train[0][0].shape == (1, 28, 28)


def test_cifar10_is_built_from_its_config_with_an_augmentation_of_ones_own(cifar_root):
    rotation = {"_target_": "torchvision.transforms.v2.RandomRotation", "degrees": 10}
    config = OmegaConf.merge(
        _load("data", "cifar10"), {"root": str(cifar_root), "val_size": 4, "augment": rotation}
    )
    assert instantiate(config).train[0][0].shape == (3, 32, 32)
