"""Cross-validation: which samples a fold trains on, and which it validates on."""

import torch
from torch import Tensor

from optwrap.errors import ConfigError


def fold_rows(labels: Tensor, fold: int, folds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the rows of fold number `fold` to train on and to validate on; each class is spread evenly.

    Between them the folds validate on each row once. They depend on `seed` alone.

    Raises:
        ConfigError: there is no such fold, or a class has fewer samples than there are folds.

    >>> train, val = fold_rows(torch.tensor([0, 0, 1, 1]), fold=0, folds=2, seed=0)
    >>> len(train), sorted(torch.tensor([0, 0, 1, 1])[val].tolist())
    (2, [0, 1])
    """
    from sklearn.model_selection import StratifiedKFold

    if folds < 2 or not 0 <= fold < folds:
        raise ConfigError(f"data.fold={fold}: with data.folds={folds} they are numbered from 0 to {folds - 1}.")
    fewest = int(labels.unique(return_counts=True)[1].min())
    if fewest < folds:
        raise ConfigError(f"data.folds={folds}: a class has {fewest} samples to train and validate on, too few.")
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    train, val = list(split)[fold]
    return torch.from_numpy(train), torch.from_numpy(val)
