"""What scores a generator: distances between features of a classifier trained on the same data."""

import torch
from torch import Tensor
from torch.distributions import Categorical
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from optwrap.optim import OptimWrapper, build_schedule
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from optwrap.vision import ClassificationTask, ImageData, SmallCNN


def train_classifier(data: ImageData, num_classes: int, epochs: int, width: int, device: torch.device) -> SmallCNN:
    """Return a classifier of `data`, the same for every run: neither takes nor moves the run's random numbers."""
    loaders = make_loaders(data, batch_size=128, num_workers=0, seed=0, process=Process(device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = SmallCNN(data.train.images.shape[1], num_classes, width).to(device)
        task = ClassificationTask(model, num_classes)
        optim_wrapper = OptimWrapper(torch.optim.Adam(model.parameters()))
        one_cycle = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 5e-3}
        updates = epochs * loaders.order.per_epoch
        schedule = build_schedule(optim_wrapper, {"lr": one_cycle}, updates)
        for batch in loaders.training(0, updates):
            task.train_step(batch, optim_wrapper)
            schedule.step()
    return model.eval()


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the distance of two sets of feature vectors (N, d) and (M, d), each taken as a normal distribution.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, whose FID has another network.
    """
    first, second = first.cpu().double(), second.cpu().double()
    root1, root2 = (_root(torch.cov(features.T, correction=0)) for features in (first, second))
    between_means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    # tr(C1 + C2 - 2 (C1 C2)^(1/2)), whose last trace is the nuclear norm of C1^(1/2) C2^(1/2)
    between_covariances = (
        root1.square().sum() + root2.square().sum() - 2 * torch.linalg.matrix_norm(root1 @ root2, "nuc")
    )
    return (between_means + between_covariances).float()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(torch.atleast_2d(covariance))
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


class FrechetDistance(Metric):
    """`frechet_distance` of all features that `update(first, second)` has seen."""

    higher_is_better = False
    first: list[Tensor]
    second: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("first", default=[], dist_reduce_fx="cat")
        self.add_state("second", default=[], dist_reduce_fx="cat")

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add features (N, d)."""
        self.first.append(first)
        self.second.append(second)

    def compute(self) -> Tensor:
        """Return the distance, in the features' own unit squared."""
        return frechet_distance(dim_zero_cat(self.first), dim_zero_cat(self.second))


class EffectiveClasses(Metric):
    """How many equally frequent classes have the entropy of the labels seen: below 10 digits, some are rarer."""

    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("counts", default=torch.zeros(num_classes), dist_reduce_fx="sum")

    def update(self, labels: Tensor) -> None:
        """Count labels (N)."""
        self.counts += labels.bincount(minlength=len(self.counts))

    def compute(self) -> Tensor:
        """Return a number from 1 to num_classes."""
        return Categorical(probs=self.counts).perplexity()
