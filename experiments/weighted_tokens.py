"""How far accumulation over documents is off where each micro-batch counts the same: a task, and a table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optwrap.optim import OptimWrapper
from optwrap.text import GPT, LanguageModelTask, stdlib
from optwrap.text.windows import IGNORED


class MeanOfMeansTask(LanguageModelTask):
    """The fault: the mean over micro-batches of their means, so that a token of a short one counts for more."""

    def train_step(self, batch: Mapping[str, Tensor], optim_wrapper: Any) -> dict[str, Tensor]:
        """Do one micro-batch without its weight."""
        tokens = (batch["targets"] != IGNORED).sum()
        with optim_wrapper.optim_context(self.model):
            loss = self.losses(batch).sum() / tokens
        optim_wrapper.update_params(loss)
        return {"loss": loss.detach(), "tokens": tokens}


def gradient(task: LanguageModelTask, micro_batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return the gradient of an update over micro-batches, as one vector."""
    parameters = list(task.model.parameters())
    found: list[Tensor] = []
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    optimizer.register_step_pre_hook(
        lambda *_: found.append(nn.utils.parameters_to_vector([p.grad for p in parameters if p.grad is not None]))
    )
    wrapper = OptimWrapper(optimizer, accumulative_counts=len(micro_batches))
    for batch in micro_batches:
        task.train_step(batch, wrapper)
    return found[0]


def distance(found: Tensor, whole: Tensor) -> float:
    """Return how far a gradient is from that of the whole batch, by the latter's length."""
    return float((found - whole).norm() / whole.norm())


def main(updates: int = 20, micro_batches: int = 8, documents: int = 4) -> None:
    """Print how far accumulated gradients are from the whole batch's, over updates of a new model."""
    torch.manual_seed(0)
    data = stdlib(layout="documents", split_at="\n\n\n", length=512)
    rows: dict[str, list[float]] = {"weighted": [], "mean of means": []}
    for _ in range(updates):
        model = GPT(data.vocabulary.size, length=512, width=64, depth=2, heads=2)
        chosen = torch.randint(len(data.train), (micro_batches, documents)).tolist()
        whole = gradient(
            LanguageModelTask(model), [data.train.collated([index for indices in chosen for index in indices])]
        )
        parts = [data.train.collated(indices) for indices in chosen]
        rows["weighted"].append(distance(gradient(LanguageModelTask(model), parts), whole))
        rows["mean of means"].append(distance(gradient(MeanOfMeansTask(model), parts), whole))
    print(f"distance from the whole batch's gradient, by its length, over {updates} updates")
    for name, values in rows.items():
        print(f"{name:14} median {statistics.median(values):.1e}, at most {max(values):.1e}")


if __name__ == "__main__":
    main()
