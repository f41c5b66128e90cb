import pytest
import torch
import torch.nn.functional as F

from optwrap.errors import ConfigError
from optwrap.vision import SmallCNN, SmallViT


@pytest.mark.parametrize("size", [8, 28, 64])
def test_the_small_cnn_takes_images_from_8_to_64_pixels(size):
    images = torch.randn(4, 3, size, size)
    assert SmallCNN(channels=3, num_classes=7)(images).shape == (4, 7)


def test_the_small_cnn_has_about_a_hundred_thousand_parameters():
    assert 100_000 < sum(p.numel() for p in SmallCNN(1, 10).parameters()) < 400_000


@pytest.mark.parametrize(
    "model", [SmallCNN(1, 3), SmallViT(8, 1, 3, patch_size=2, dim=32, depth=2, heads=2)], ids=["cnn", "vit"]
)
def test_small_models_fit_a_batch_and_every_parameter_learns(model):
    torch.manual_seed(0)
    images, labels = torch.randn(12, 1, 8, 8), torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert (model(images).argmax(1) == labels).all()


def test_the_small_vit_sees_where_a_patch_is():
    torch.manual_seed(0)
    model = SmallViT(8, 1, 10, patch_size=4)
    image = torch.randn(1, 1, 8, 8)
    mirrored = torch.cat([image[..., 4:], image[..., :4]], dim=3)  # the same patches, elsewhere
    assert not torch.allclose(model(image), model(mirrored), atol=1e-3)


@pytest.mark.parametrize(("size", "remedy"), [(30, 32), (2, 4)])
def test_a_size_that_patches_do_not_divide_names_one_that_they_do(size, remedy):
    with pytest.raises(ConfigError, match=rf"model\.patch_size=4 .*data\.image_size={remedy}"):
        SmallViT(size, 1, 10, patch_size=4)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ConfigError, match=r"model\.dim=96 .*model\.heads=5"):
        SmallViT(8, 1, 10, heads=5)
