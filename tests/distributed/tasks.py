"""Tasks of the tests: one that weighs its micro-batches, and some that go wrong on one rank or between them."""

import os
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.nn.functional as F
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from optwrap.errors import ConfigError
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
