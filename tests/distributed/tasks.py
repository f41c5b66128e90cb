"""A task that weighs each micro-batch by a number of items that differs between them."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

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
