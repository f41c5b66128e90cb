"""The job with MMEngine's Runner, its logger, timers and checkpoints."""

import sys
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from tests.optwrap.benchmarks.jobs.stamps import Stamps
from tests.optwrap.benchmarks.jobs.work import WORKS, Work, loaders, loss_of


class Wrapped(BaseModel):
    """A model as the Runner calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, mode: str) -> Any:
        """Return the losses to train on, or of an evaluation each batch's."""
        loss = loss_of(self.model, (inputs, targets))
        return {"loss": loss} if mode == "loss" else [loss]


class MeanLoss(BaseMetric):
    """The mean of the batches' losses."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Take a batch in."""
        self.results += [loss.item() for loss in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Return the mean."""
        return {"loss": sum(results) / len(results)}


class Stamped(Hook):
    """Notes when updates are done."""

    def __init__(self) -> None:
        self.stamps = Stamps()

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Note it."""
        self.stamps.update()


def main(name: str, folder: str, out: str) -> None:
    """Train."""
    work: Work = WORKS[name]
    torch.manual_seed(0)
    train, val = loaders(work, folder)
    stamped = Stamped()
    rise = work.updates // 10
    optimizer = {"type": "SGD", "lr": work.lr, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    runner = Runner(
        model=Wrapped(work.model()),
        work_dir=out,
        train_dataloader=train,
        val_dataloader=val,
        train_cfg={"by_epoch": True, "max_epochs": work.evaluations, "val_interval": 1},
        val_cfg={},
        val_evaluator=Evaluator(MeanLoss()),
        optim_wrapper={"optimizer": optimizer},
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 1 / (rise + 1), "by_epoch": False, "begin": 0, "end": rise},
            {"type": "CosineAnnealingLR", "by_epoch": False, "begin": rise, "end": work.updates},
        ],
        custom_hooks=[stamped],
        default_hooks={"logger": {"type": "LoggerHook", "interval": 20}},
    )
    runner.train()
    stamped.stamps.report()


if __name__ == "__main__":
    main(*sys.argv[1:])
