import csv
import json

import pytest
import torch

from experiments.vit_layer_decay import pretrained_vit, some_classes
from optwrap.errors import ConfigError
from optwrap.vision import SmallViT, digits

DIGITS = "optwrap.vision.digits"
SHAPE = {"image_size": 8, "channels": 1, "num_classes": 5, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2}


@pytest.fixture
def pretrained(train):
    return train("experiment=quick/vit_pretrain")


def fine_tune(train, *overrides):
    return train("experiment=quick/vit_layer_decay", *overrides)


def learning_rates(folder):
    with (folder / "param_groups.csv").open(newline="") as file:
        return {row["name"]: float(row["lr"]) for row in csv.DictReader(file)}


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


def test_fine_tuning_starts_from_the_pretrained_weights_with_a_fresh_head(train, pretrained):
    # Without a learning rate to speak of, what it ends with is what it started with.
    folder = fine_tune(train, f"model.pretrained={pretrained}", "optim_wrapper.optimizer.lr=1e-30")
    before, after = weights(pretrained), weights(folder)
    assert after.keys() == before.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if not name.startswith("head.")}


def test_lr_falls_by_the_factor_a_block_from_the_head_down(train):
    lrs = learning_rates(fine_tune(train, "optim_wrapper.paramwise_cfg.decay_factor=0.5"))
    assert lrs["head.weight"] == lrs["norm.weight"] == 3e-3
    assert lrs["blocks.1.qkv.weight"] == pytest.approx(3e-3 * 0.5)
    assert lrs["blocks.0.qkv.weight"] == pytest.approx(3e-3 * 0.5**2)
    assert lrs["patch_embedding.weight"] == lrs["position_embedding"] == pytest.approx(3e-3 * 0.5**3)


@pytest.mark.slow
def test_decay_factor_1_is_the_uniform_lr_it_is_compared_with(train):
    uniform = fine_tune(train, "optim_wrapper=adamw", "optim_wrapper.optimizer.lr=3e-3")
    factor_1 = fine_tune(train, "optim_wrapper.paramwise_cfg.decay_factor=1")
    expected = weights(uniform)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(factor_1).items())


def test_quick_setting_evaluates_on_five_classes(train):
    result = json.loads((fine_tune(train) / "result.json").read_text())
    assert result["updates"] == 6
    assert 0 <= result["val/accuracy"] <= 1
    assert result["test/loss"] > 0


def test_a_folder_without_a_checkpoint_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.pretrained=.*experiment=vit_pretrain hydra\.run\.dir="):
        pretrained_vit(str(tmp_path / "none"), **SHAPE)


def test_missing_pretrained_is_an_error_that_names_the_key(train, capsys):
    with pytest.raises(SystemExit):
        train("experiment=vit_layer_decay")
    assert "model.pretrained" in capsys.readouterr().err


def test_a_checkpoint_of_another_architecture_is_an_error(tmp_path):
    torch.save({"model": SmallViT(**(SHAPE | {"dim": 32})).state_dict()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigError, match="does not fit the model"):
        pretrained_vit(str(tmp_path), **SHAPE)


def test_a_head_for_other_classes_does_not_hinder(tmp_path):
    source = SmallViT(**(SHAPE | {"num_classes": 7}))
    torch.save({"model": source.state_dict()}, tmp_path / "checkpoint.pt")
    model = pretrained_vit(str(tmp_path), **SHAPE)
    assert model.head.weight.shape == (5, 16)
    assert torch.equal(model.blocks[1].qkv.weight, source.blocks[1].qkv.weight)


def test_classes_are_relabelled_in_the_order_given_and_keep_their_images():
    data, all_of_it = some_classes(DIGITS, [7, 2], 2, augment=False), digits(augment=False)
    for split in ("train", "val", "test"):
        kept, source = getattr(data, split), getattr(all_of_it, split)
        for place, label in enumerate([7, 2]):
            images = kept.images[kept.labels == place]
            expected = source.images[source.labels == label]
            assert sorted(images.flatten(1).tolist()) == sorted(expected.flatten(1).tolist())
        assert set(kept.labels.tolist()) == {0, 1}


def test_few_images_of_each_class_are_drawn_by_the_seed():
    def draw(seed):
        return some_classes(DIGITS, [5, 6, 7], 3, per_class=4, draw_seed=seed)

    first, again, other = draw(0), draw(0), draw(1)
    assert torch.bincount(first.train.labels).tolist() == [4, 4, 4]
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, other.train.images)
    assert torch.equal(first.val.images, other.val.images)
    assert torch.equal(first.test.images, other.test.images)


def test_images_are_prepared_as_those_of_the_source():
    data, all_of_it = some_classes(DIGITS, [3], 1), digits()
    where = int((all_of_it.val.labels == 3).nonzero()[0])
    assert torch.equal(data.val[0][0], all_of_it.val[where][0])


@pytest.mark.parametrize(
    ("classes", "num_classes", "per_class"),
    [([1, 2], 3, None), ([1, 1], 2, None), ([1, 2], 2, 0), ([1, 2], 2, 10_000), ([1, 12], 2, None)],
)
def test_impossible_classes_are_an_error(classes, num_classes, per_class):
    with pytest.raises(ConfigError, match=r"data\.(classes|per_class)"):
        some_classes(DIGITS, classes, num_classes, per_class=per_class)
