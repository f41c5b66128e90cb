import csv
import json
import math

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image

import evaluate
from experiments.gan import DCGAN, GanTask
from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from optwrap.vision import digits

QUICK = "experiment=quick/gan"


@pytest.fixture(scope="module")
def data():
    return digits(augment=False)


@pytest.fixture
def task(data):
    return GanTask(DCGAN(1, 8, width=4, noise_size=3), data, 10, classifier_epochs=1, classifier_width=4)


@pytest.fixture
def batch(data):
    images, labels = zip(*data.train.__getitems__(range(16)), strict=True)
    return torch.stack(images), torch.tensor(labels)


@pytest.mark.parametrize("mixed", ["generator", "discriminator"])
def test_one_player_may_compute_in_mixed_precision_alone(task, batch, mixed):
    plain = wrappers(task.model)
    amp = AmpOptimWrapper(plain[mixed].optimizer, dtype="bfloat16")
    task.train_step(batch, OptimWrapperDict(**{**plain, mixed: amp}))
    assert amp.updates == 1


def test_a_single_wrapper_is_refused_with_the_option_to_choose(task, batch):
    single = OptimWrapper(torch.optim.SGD(task.model.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match="optim_wrapper=gan"):
        task.train_step(batch, single)


def wrappers(model, accumulative_counts=1):
    return OptimWrapperDict(
        generator=OptimWrapper(torch.optim.SGD(model.generator.parameters(), lr=0.5), accumulative_counts),
        discriminator=OptimWrapper(torch.optim.SGD(model.discriminator.parameters(), lr=0.5), accumulative_counts),
    )


def parameters(module):
    return [param.detach().clone() for param in module.parameters()]


def rows(folder, split):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


@pytest.mark.parametrize("image_size", [8, 12, 28, 32])
def test_generator_and_discriminator_fit_each_other_at_every_size(image_size):
    model = DCGAN(3, image_size, width=2, noise_size=5)
    images = model(torch.randn(4, 5))
    assert images.shape == (4, 3, image_size, image_size)
    assert images.abs().max() <= 1
    assert model.discriminator(images).shape == (4,)


@pytest.mark.parametrize("image_size", [4, 30])
def test_a_size_that_does_not_fit_is_named(image_size):
    with pytest.raises(ConfigError, match=rf"data\.image_size={image_size}.*multiple of 4"):
        DCGAN(1, image_size)


def test_a_step_updates_both_players_once_by_their_own_losses(task, batch):
    model = task.model
    optim_wrapper = wrappers(model)
    twin = DCGAN(1, 8, width=4, noise_size=3)
    twin.load_state_dict(model.state_dict())
    before, state = [parameters(each) for each in (model.generator, model.discriminator)], torch.get_rng_state()
    stats = task.train_step(batch, optim_wrapper)
    after = [parameters(each) for each in (model.generator, model.discriminator)]

    for old, new in zip(before, after, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert [wrapper.updates for wrapper in optim_wrapper.values()] == [1, 1]

    # The same step written out: cross entropies, and gradients asked for one player at a time
    torch.set_rng_state(state)
    fake = twin(torch.randn(16, 3))
    pixels = task.training_set.images[:16] / 127.5 - 1
    on_real, on_fake = twin.discriminator(pixels), twin.discriminator(fake.detach())
    ones = torch.ones(16)
    loss = F.binary_cross_entropy_with_logits(on_real, ones) + F.binary_cross_entropy_with_logits(
        on_fake, 0 * ones
    )
    descend(loss, twin.discriminator)
    generator_loss = F.binary_cross_entropy_with_logits(twin.discriminator(fake), ones)
    descend(generator_loss, twin.generator)
    for expected, module in zip((twin.generator, twin.discriminator), after, strict=True):
        torch.testing.assert_close(module, parameters(expected))
    torch.testing.assert_close(stats["discriminator_loss"], loss.detach())
    torch.testing.assert_close(stats["generator_loss"], generator_loss.detach())
    torch.testing.assert_close(stats["loss"], (loss + generator_loss).detach())


def descend(loss, module):
    params = list(module.parameters())
    for param, grad in zip(params, torch.autograd.grad(loss, params, retain_graph=True), strict=True):
        param.data -= 0.5 * grad


def test_the_generators_step_leaves_no_gradient_in_the_discriminator(task, batch):
    """With accumulation, where gradients outlive a step, the discriminator's are those of its own loss."""
    model = task.model
    generator, discriminator = wrappers(model, accumulative_counts=2).values()
    seen = []
    original = discriminator.update_params

    def update_params(loss):
        original(loss)
        seen.extend(param.grad.clone() for param in model.discriminator.parameters())

    discriminator.update_params = update_params
    task.train_step(batch, {"generator": generator, "discriminator": discriminator})
    assert seen
    assert any(grad.abs().sum() > 0 for grad in seen)
    for grad, param in zip(seen, model.discriminator.parameters(), strict=True):
        assert torch.equal(grad, param.grad)
        assert param.requires_grad
    assert all(param.grad is not None for param in model.generator.parameters())


def test_an_evaluation_repeats_itself_and_leaves_random_numbers_alone(task, batch):
    task.model.eval()
    state = torch.get_rng_state()
    values = []
    for _ in range(2):
        task.metrics.reset()
        task.eval_step(batch)
        values.append(task.metrics.compute())
    assert values[0] == values[1]
    assert torch.equal(state, torch.get_rng_state())
    assert values[0]["frechet_distance"] > values[0]["real_distance"] > 0


def test_a_generator_that_copies_the_data_scores_as_real_images_do(task, data):
    images = data.train.images / 127.5 - 1

    class Copier(torch.nn.Module):
        noise_size = 1

        def forward(self, noise):
            return images[: len(noise)]

    task.model = Copier()
    validation = torch.stack([image for image, _ in data.val.__getitems__(range(len(data.val)))])
    task.eval_step((validation, data.val.labels))
    metrics = task.metrics.compute()
    assert metrics["frechet_distance"] == pytest.approx(metrics["real_distance"].item(), rel=2)
    assert metrics["effective_classes"] == pytest.approx(effective_classes(task, data, len(validation)), rel=1e-3)


def effective_classes(task, data, count):
    inputs = torch.stack([image for image, _ in data.train.__getitems__(range(count))])
    shares = task.head(task.classifier(inputs)).argmax(dim=1).bincount() / count
    return math.exp(-sum(share * math.log(share) for share in shares.tolist() if share))


def test_samples_are_drawn_from_the_same_noise_and_training_goes_on(task, tmp_path):
    task.model.train()
    before = parameters(task.model.generator), task.model.generator[1].running_mean.clone()
    task.write_artifacts(tmp_path, 7)
    task.write_artifacts(tmp_path, 8)
    assert task.model.training
    first, second = (tmp_path / "samples" / f"00000{update}.png" for update in (7, 8))
    assert first.read_bytes() == second.read_bytes()
    assert Image.open(first).size == (8 * (16 + 2) + 2,) * 2  # a border of 2 around each
    assert torch.equal(before[1], task.model.generator[1].running_mean)


@pytest.mark.slow
def test_it_learns_and_leaves_samples_and_the_norm_of_the_clipped_wrapper(train):
    folder = train(QUICK, "max_updates=200", "eval_every=50", "device=cpu")
    distances = [float(row["frechet_distance"]) for row in rows(folder, "val")]
    result = json.loads((folder / "result.json").read_text())
    (untrained,) = [
        float(row["frechet_distance"]) for row in rows(train(QUICK, "max_updates=1", "device=cpu"), "val")
    ]
    assert min(distances) < 0.8 * untrained  # 200 updates on 8x8 digits; how far it comes varies with threads
    assert result["val/classifier_accuracy"] > 0.9
    assert result["val/effective_classes"] > 1.5
    assert [path.name for path in sorted((folder / "samples").iterdir())] == [
        "000050.png",
        "000100.png",
        "000150.png",
        "000200.png",
    ]
    for row in rows(folder, "train"):
        assert float(row["discriminator.grad_norm"]) > 0
        assert float(row["loss"]) == pytest.approx(
            float(row["discriminator_loss"]) + float(row["generator_loss"]), rel=1e-4
        )


def test_the_discriminator_is_clipped_and_both_compute_in_mixed_precision(train):
    cfg = OmegaConf.load(train(QUICK, "max_updates=2") / ".hydra" / "config.yaml").optim_wrapper
    assert cfg.discriminator.clip_grad.max_norm == 1
    assert cfg.generator.clip_grad.max_norm is None
    assert {cfg[name]._target_ for name in ("generator", "discriminator")} == {"optwrap.optim.AmpOptimWrapper"}


@pytest.mark.slow
def test_evaluate_repeats_the_score_of_the_run(train):
    folder = train(QUICK, "max_updates=4", "device=cpu")
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == 4  # of each wrapper, as its rows in metrics.csv count
    metrics = evaluate.main([f"run={folder}"])
    assert metrics["frechet_distance"] == pytest.approx(result["test/frechet_distance"], rel=1e-3)
