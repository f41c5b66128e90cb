import json

import pytest
from omegaconf import OmegaConf

from optwrap import pretrained_input
from optwrap.errors import ConfigError

timm = pytest.importorskip("timm")


def resolved(name):
    pretrained_input.register()
    fields = ("image_size", "channels", "mean", "std")
    cfg = {"name": name} | {field: f"${{optwrap.pretrained_input:${{name}},{field}}}" for field in fields}
    return OmegaConf.to_container(OmegaConf.create(cfg), resolve=True)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_base_patch16_224.mae", "test_vit"])
def test_a_model_of_timm_says_what_it_was_trained_on(name):
    own = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    found = resolved(name)
    assert (found["channels"], found["image_size"], found["image_size"]) == own["input_size"]
    assert (tuple(found["mean"]), tuple(found["std"])) == (own["mean"], own["std"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"size": {"height": 32, "width": 32}}, 32),
        ({"size": {"shortest_edge": 48}}, 48),
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}, 40),
        ({"size": 24}, 24),
    ],
)
def test_a_checkpoint_of_transformers_says_it_in_its_folder(size, expected, tmp_path):
    pytest.importorskip("transformers")
    says = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(says | size))
    found = resolved(str(tmp_path))
    assert (found["image_size"], found["channels"], found["mean"]) == (expected, 3, [0.1, 0.2, 0.3])


def test_a_name_that_nothing_is_known_of_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"model\.name=vit_tiny_patch16_22: .*Did you mean 'vit_tiny_patch16_224'"
    ):
        pretrained_input.pretrained_input("vit_tiny_patch16_22", "mean")
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=r"model\.weights=.*: it does not say what images it was trained on"):
        pretrained_input.pretrained_input(str(tmp_path), "mean")
