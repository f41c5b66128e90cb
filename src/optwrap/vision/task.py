"""Image classification as a task of the training loop."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optwrap.errors import ConfigError
from optwrap.metrics import Mean, Metrics


class ClassificationTask:
    """Cross entropy and accuracy of a model whose output is logits (N, num_classes).

    `metrics` holds 'loss' and 'accuracy' over the batches that `eval_step` has seen since its last reset.
    """

    unit = "images"
    objective = "val/accuracy"

    def __init__(self, model: nn.Module, num_classes: int, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"task.label_smoothing={label_smoothing} must be at least 0 and below 1.")
        self.model = model
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.metrics = Metrics(loss=Mean(), accuracy=Mean(higher_is_better=True))

    def train_step(self, batch: Sequence[Tensor], optim_wrapper: Any) -> dict[str, Tensor]:
        """Do one micro-batch; return its loss and accuracy as detached 0-d tensors on the model's device."""
        images, labels = batch
        with optim_wrapper.optim_context(self.model):
            logits = self._logits(images, labels)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        optim_wrapper.update_params(loss)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return {"loss": loss.detach(), "accuracy": accuracy}

    @torch.no_grad()
    def eval_step(self, batch: Sequence[Tensor]) -> None:
        """Add one batch to `metrics`. The loss is the plain cross entropy, without label smoothing."""
        images, labels = batch
        logits = self._logits(images, labels).float()
        losses = F.cross_entropy(logits, labels, reduction="none")
        self.metrics["loss"].update(losses)
        self.metrics["accuracy"].update(logits.argmax(dim=1) == labels)

    @torch.no_grad()
    def predict_step(self, batch: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
        """Return of each sample its prediction and the probability of each class, (N, num_classes).

        Of a batch with labels also these, and as `eval_step` has it the loss; a batch may be images alone.
        """
        images, labels = (batch, None) if isinstance(batch, Tensor) else batch
        logits = self._logits(images, images if labels is None else labels).float()
        predicted = {"prediction": logits.argmax(dim=1)}
        probability = {"probability": logits.softmax(dim=1)}
        if labels is None:
            return predicted | probability
        correct = {"correct": predicted["prediction"] == labels}
        loss = {"loss": F.cross_entropy(logits, labels, reduction="none")}
        return {"target": labels} | predicted | correct | loss | probability

    def _logits(self, images: Tensor, labels: Tensor) -> Tensor:
        try:
            logits = self.model(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"batch_size={len(labels)}: batch norm needs more than one value per channel; raise batch_size or "
                "data.image_size."
            ) from error
        expected = (len(labels), self.num_classes)
        if not isinstance(logits, Tensor):
            raise ConfigError(f"the model returned {type(logits).__name__}, not a tensor of shape {expected}.")
        if tuple(logits.shape) != expected:
            raise ConfigError(
                f"the model's output of shape {tuple(logits.shape)} does not fit the labels, which need "
                f"{expected}: (labels in the batch, task.num_classes={self.num_classes}). "
                "model.num_classes and task.num_classes must be data.num_classes."
            )
        return logits
