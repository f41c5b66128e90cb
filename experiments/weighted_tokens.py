"""How far accumulation over documents is off where each micro-batch counts the same: a task, and a table."""

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.accumulated import distance, gradient
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
