"""Tasks of the tests: one that weighs its micro-batches, and some that go wrong on one rank or between them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
import torch.nn.functional as F
from hydra.core.hydra_config import HydraConfig
from torch import Tensor, nn

from optwrap.errors import ConfigError
from optwrap.optim import frozen
from optwrap.text import GPT
from optwrap.text.token_file import TokenRow
from optwrap.text.vocabulary import ByteVocabulary
from optwrap.text.windows import Documents
from optwrap.vision import ClassificationTask


class WeightedTask(ClassificationTask):
    """Learns from the samples of the lower classes alone: the loss is their mean, weighted by their number."""

    def train_step(self, batch: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        images, labels = batch
        with optim_wrapper.optim_context(self.model):
            losses = F.cross_entropy(self.model(images).float(), labels, reduction="none")
            counted = labels < 5
            items = counted.sum()
            loss = (losses * counted).sum() / items.clamp(min=1)
        optim_wrapper.update_params(loss, weight=items)
        return {"loss": loss.detach()}


def texts(augment: bool) -> dict[str, Documents]:
    """Documents of 1 to 30 bytes, so that no two micro-batches hold as many tokens."""
    assert not augment
    vocabulary, generator = ByteVocabulary(), np.random.default_rng(0)
    documents = [
        generator.integers(97, 123, length).astype(np.uint16) for length in generator.integers(1, 31, 1500)
    ]
    row = TokenRow.of(documents, vocabulary.separator)
    return dict.fromkeys(("train", "val", "test"), Documents(row, 24, vocabulary.bytes_of))


def tiny_gpt(dim: int, depth: int, heads: int) -> GPT:
    """A language model of these."""
    return GPT(ByteVocabulary.size, length=24, width=dim, depth=depth, heads=heads)


class BypassingTask(ClassificationTask):
    """Calls the module inside DDP, which then averages no gradient."""

    def train_step(self, batch: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        images, labels = batch
        loss = F.cross_entropy(self.model.module(images), labels)
        optim_wrapper.update_params(loss)
        return {"loss": loss.detach()}


class FailingTask(ClassificationTask):
    """Raises on the last rank, at its third step."""

    steps = 0

    def train_step(self, batch: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        self.steps += 1
        if self.steps == 3 and dist.get_rank() == dist.get_world_size() - 1:
            raise ConfigError("task.mood=bad: this rank has had enough.")
        return super().train_step(batch, optim_wrapper)


class NanTask(ClassificationTask):
    """Has a loss that is NaN on the last rank, at its third step."""

    steps = 0

    def train_step(self, batch: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        self.steps += 1
        images, labels = batch
        if self.steps == 3 and dist.get_rank() == dist.get_world_size() - 1:
            images = images * float("nan")
        return super().train_step((images, labels), optim_wrapper)


class DamagingTask(ClassificationTask):
    """Cuts off the newest shard of the last rank, before it is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rank = dist.get_rank()
        if rank == dist.get_world_size() - 1:
            folder = Path(HydraConfig.get().runtime.output_dir, "checkpoints")
            shard = max(folder.glob("*.shards")) / f"__{rank}_0.distcp"
            os.truncate(shard, shard.stat().st_size // 2)


class TinyGan(nn.Module):
    """Two players without batch norm, which would see the samples of a rank alone."""

    def __init__(self, **unused: Any) -> None:  # what the config says of another model
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 64))
        self.discriminator = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.discriminator(images.flatten(1))


class TinyGanTask(ClassificationTask):
    """A GAN whose noise is made of the images, so that ranks that share a batch have that of one rank."""

    def train_step(self, batch: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        real = batch[0].flatten(1)
        noise = real.flip(1)
        generator, discriminator = self.model.generator, self.model.discriminator
        with optim_wrapper["generator"].optim_context(generator):
            fake = generator(noise)
        with optim_wrapper["discriminator"].optim_context(discriminator):
            loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        optim_wrapper["discriminator"].update_params(loss)
        with optim_wrapper["generator"].optim_context(generator), frozen(discriminator):
            generator_loss = F.softplus(-discriminator(fake)).mean()
        optim_wrapper["generator"].update_params(generator_loss)
        return {"loss": loss.detach() + generator_loss.detach()}
