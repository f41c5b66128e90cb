import pytest
import torch
from torchvision.models import GoogLeNet, ShuffleNet_V2_X0_5_Weights, resnet18, shufflenet_v2_x0_5

from optwrap.errors import ConfigError
from optwrap.vision import torchvision_model


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf"])
def test_models_of_every_make_take_grey_images_and_the_classes_asked_for(name):
    model = torchvision_model(name, num_classes=7, channels=1).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 1, 64, 64)).shape == (2, 7)


def test_parameters_keep_torchvisions_names():
    model = torchvision_model("resnet18", num_classes=7, channels=1, small_image_stem=True)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in resnet18().named_parameters()]


def test_the_small_image_stem_keeps_the_resolution():
    model = torchvision_model("resnet18", num_classes=10, small_image_stem=True)
    sizes = []
    model.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    model(torch.randn(2, 3, 16, 16))
    assert sizes == [16]


def test_the_small_image_stem_is_for_resnets():
    with pytest.raises(ConfigError, match=r"small_image_stem=true is for resnets, not .*squeezenet1_1"):
        torchvision_model("squeezenet1_1", num_classes=10, small_image_stem=True)


def test_a_new_first_convolution_starts_at_the_scale_of_the_old_one():
    torch.manual_seed(0)
    model = torchvision_model("resnet18", num_classes=10, channels=1)
    assert model.conv1.weight.std().item() == pytest.approx(resnet18().conv1.weight.std().item(), rel=0.1)


def test_auxiliary_heads_are_left_out():
    model = torchvision_model("googlenet", num_classes=4)
    assert isinstance(model, GoogLeNet)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)


def test_a_model_comes_ready_to_train_when_its_size_was_tried():
    model = torchvision_model("resnet18", num_classes=10, image_size=32)
    assert model.training
    assert int(model.bn1.num_batches_tracked) == 0


def test_a_misspelt_model_names_the_nearest():
    with pytest.raises(ConfigError, match=r"model\.name=resnet81 .*Did you mean 'resnet18'\?"):
        torchvision_model("resnet81", num_classes=10)


def test_a_detection_model_is_no_classification_model():
    with pytest.raises(ConfigError, match="no classification model"):
        torchvision_model("fasterrcnn_resnet50_fpn", num_classes=10)


@pytest.mark.parametrize(
    ("name", "size", "remedy"),
    [("vit_b_16", 8, 16), ("vit_b_16", 28, 32), pytest.param("alexnet", 8, 224, marks=pytest.mark.slow)],
)
def test_an_image_size_that_does_not_fit_names_one_that_does(name, size, remedy):
    with pytest.raises(ConfigError, match=rf"data\.image_size={size} .*{name}.*set data\.image_size={remedy}"):
        torchvision_model(name, num_classes=10, image_size=size)


def test_misspelt_weights_name_the_nearest():
    with pytest.raises(ConfigError, match=r"model\.weights=IMAGENET1K_V3 .*Did you mean 'IMAGENET1K_V1'"):
        torchvision_model("resnet18", num_classes=10, weights="IMAGENET1K_V3")


def test_weights_for_another_image_size_name_theirs():
    with pytest.raises(ConfigError, match=r"data\.image_size=32 .*set data\.image_size=224"):
        torchvision_model("vit_b_16", num_classes=10, image_size=32, weights="DEFAULT")


def test_weights_that_cannot_be_had_name_the_file_and_the_folder(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.weights=DEFAULT: downloading .*resnet18.*\.pth"):
        torchvision_model("resnet18", num_classes=10, weights="DEFAULT")


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    """A model whose weights lie where torchvision would download them to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = shufflenet_v2_x0_5().eval()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(source.state_dict(), folder / ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1])
    return source


def test_weights_are_kept_under_a_new_head(pretrained):
    model = torchvision_model("shufflenet_v2_x0_5", num_classes=7, weights="DEFAULT")
    assert model.fc.out_features == 7
    mine, theirs = model.state_dict(), pretrained.state_dict()
    assert list(mine) == list(theirs)
    different = [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    assert different == ["fc.weight", "fc.bias"]


def test_grey_images_give_what_they_gave_pretrained_filters_in_colour(pretrained):
    model = torchvision_model("shufflenet_v2_x0_5", num_classes=7, channels=1, weights="DEFAULT").eval()
    grey = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(model.conv1(grey), pretrained.conv1(grey.expand(1, 3, 32, 32)))
