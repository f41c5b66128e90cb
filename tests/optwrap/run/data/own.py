"""Data of one's own, as a project might have it."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, IterableDataset, TensorDataset

CLASSES = 3


def samples(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(count, 4, generator=generator), torch.randint(CLASSES, (count,), generator=generator)
    )


def mapping(val=8, test=8, train=24):
    """The splits by name; None leaves one out, 0 makes it empty."""
    sizes = {"train": train, "val": val, "test": test}
    return {name: samples(size, seed) for seed, (name, size) in enumerate(sizes.items()) if size is not None}


class Words(Dataset):
    """Sequences of different length."""

    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return torch.full((1 + row % 4,), row + 1.0), row % CLASSES


def padded(rows):
    words = pad_sequence([word for word, _ in rows], batch_first=True)
    return nn.functional.pad(words, (0, 4 - words.shape[1])), torch.tensor([label for _, label in rows])


class PaddedWords(Words):
    collate_fn = staticmethod(padded)


def words(collate="none"):
    if collate == "of_data":
        return {"train": Words(), "val": Words(), "collate_fn": padded}
    kind = PaddedWords if collate == "of_set" else Words
    return SimpleNamespace(train=kind(), val=kind())


class Stream(IterableDataset):
    """Samples that say their number; a random number each, as of augmentation."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        for number in range(self.count):
            yield number, torch.rand(()).item()


class SizedStream(Stream):
    def __len__(self):
        return self.count


class Shuffled(SizedStream):
    """In another order in each pass; the samples ahead of `start` are never made."""

    def __init__(self, count):
        super().__init__(count)
        self.made = 0

    def stream(self, start, seed):
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed % 2**63))
        for number in order.tolist()[start:]:
            self.made += 1
            yield number, torch.rand(()).item()


class Labelled(IterableDataset):
    """The samples of a data set as a stream."""

    def __init__(self, count, seed):
        self.samples = samples(count, seed)

    def __iter__(self):
        yield from self.samples


class LabelledSized(Labelled):
    def __len__(self):
        return len(self.samples)


class LabelledShuffled(LabelledSized):
    def stream(self, start, seed):
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed % 2**63))
        yield from (self.samples[row] for row in order[start:].tolist())


def streams(kind="sized"):
    of_kind = {"unsized": Labelled, "sized": LabelledSized, "shuffled": LabelledShuffled}[kind]
    return {"train": of_kind(26, 0), "val": Labelled(9, 1), "test": LabelledSized(9, 2)}


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, CLASSES))
