"""The options that choose models of other packages, in a run and its evaluation."""

import json

import pytest
import torch

import evaluate
from optwrap.checkpoint import load_trusted_config

SMALL = ("data=fake", "data.size=16", "data.eval_size=8", "batch_size=8", "max_updates=1", "device=cpu")


def test_pretrained_weights_choose_the_size_and_scale_of_images_and_are_trusted_by_name(train, tmp_path):
    timm = pytest.importorskip("timm")
    own = timm.get_pretrained_cfg("test_resnet")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    weights = f"model.weights={tmp_path / 'weights.pth'}"
    short = (
        "data=digits",
        "batch_size=8",
        "debug.overfit_batches=1",
        "max_updates=1",
        "device=cpu",
        "optim_wrapper=adamw",
    )
    folder = train(*short, "model=timm_pretrained", "model.name=test_resnet", weights)
    data = load_trusted_config(folder, [], ["experiments"]).data
    assert (data.channels, data.image_size, data.image_size) == own.input_size
    assert (tuple(data.mean), tuple(data.std)) == (own.mean, own.std)
    result = json.loads((folder / "result.json").read_text())
    assert evaluate.main([f"run={folder}"])["loss"] == pytest.approx(result["test/loss"], rel=1e-4)


@pytest.mark.slow
def test_fields_of_an_architecture_are_typed_like_other_keys(train):
    pytest.importorskip("transformers")
    tiny = (
        "model.config.hidden_size=16",
        "model.config.num_hidden_layers=1",
        "model.config.num_attention_heads=2",
    )
    folder = train(
        *SMALL, "model=transformers", "model.name=vit", "data.image_size=16", *tiny, "optim_wrapper=adamw"
    )
    assert evaluate.main([f"run={folder}"])["loss"] > 0
