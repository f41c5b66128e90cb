import pytest
import torch

from optwrap.errors import ConfigError
from optwrap.models import transformers_model

transformers = pytest.importorskip("transformers")
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**TINY, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WORDS = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 3, 4, 5]])


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a saved ViT of 7 classes for 16 pixels, and the model."""
    config = transformers.ViTConfig(**TINY, image_size=16, patch_size=8, num_labels=7)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "vit")
    return str(tmp_path / "vit"), model.eval()


def test_an_image_model_takes_the_sizes_of_the_data_and_returns_logits():
    model = transformers_model("vit", num_classes=5, channels=1, image_size=16, config={**TINY, "patch_size": 8})
    assert model.training
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 5)
    assert "vit.embeddings.cls_token" in dict(model.named_parameters())


def test_a_checkpoint_gives_the_logits_that_it_gave(checkpoint):
    folder, saved = checkpoint
    model = transformers_model(weights=folder, num_classes=7, channels=3, image_size=16).eval()
    assert torch.equal(model(IMAGES), saved(IMAGES).logits)


def test_a_head_of_other_classes_is_new_and_all_else_is_the_checkpoints(checkpoint):
    folder, saved = checkpoint
    model = transformers_model(weights=folder, num_classes=3)
    assert model(IMAGES).shape == (2, 3)
    theirs = saved.state_dict()
    for name, tensor in model.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("sizes", [{"image_size": 32}, {"channels": 1}, {"config": {"hidden_size": 32}}])
def test_a_checkpoint_of_other_sizes_is_refused(sizes, checkpoint):
    with pytest.raises(ConfigError, match=r"model\.weights=.*: it lacks .* of the model's parameters"):
        transformers_model(weights=checkpoint[0], **sizes)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_padding_takes_no_part_in_the_classes_of_text(name):
    torch.manual_seed(0)
    model = transformers_model(name, "text-classification", num_classes=3, config=TEXT).eval()
    logits = model(WORDS)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits[:1], model(WORDS[:1, :3]))
    torch.testing.assert_close(model(WORDS, attention_mask=(WORDS != 0).long()), logits)
    if name == "bert":  # others look back alone
        assert not torch.allclose(model(WORDS, attention_mask=torch.ones_like(WORDS))[:1], logits[:1])


def test_a_language_model_returns_the_logits_of_every_place():
    model = transformers_model("llama", "causal-lm", num_classes=3, config=TEXT)
    assert model(WORDS).shape == (2, 5, 20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"model\.name=None, model\.weights=None: give the one or the other"),
        ({"name": "vit", "weights": "x"}, r"give the one or the other"),
        ({"name": "vitt"}, r"model\.name=vitt is no architecture .*Did you mean 'vit'"),
        ({"name": "vit", "task": "image"}, r"model\.task=image: it is one of image-classification"),
        ({"name": "llama"}, r"model\.task=image-classification: Unrecognized configuration class"),
        ({"name": "vit", "config": {"hidden_siz": 3}}, r"model\.config\.hidden_siz: .*Did you mean 'hidden_size'"),
        ({"name": "vit", "config": {"hidden_size": "abc"}}, r"model\.config: vit takes no such config"),
        ({"weights": "no/such/folder"}, r"model\.weights=no/such/folder: no checkpoint can be read there"),
    ],
)
def test_what_transformers_does_not_have_is_named(arguments, said):
    with pytest.raises(ConfigError, match=said):
        transformers_model(**arguments)
