"""Samples of a language model: windows of one length, documents padded or packed into rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from optwrap.text.token_file import TokenRow

IGNORED = -100
"""The target of a position that nothing is to be predicted at, as torch.nn.functional.cross_entropy has it."""

Batch = dict[str, Tensor]


class _Samples(Dataset[Batch]):
    """Samples made a batch at a time; `bytes_of` says how many bytes a token stands for."""

    def __init__(self, row: TokenRow, length: int, bytes_of: npt.NDArray[np.int64]) -> None:
        self._row, self.length, self._bytes_of = row, length, bytes_of

    def __getitem__(self, index: int) -> Batch:
        if not -len(self) <= index < len(self):  # type: ignore[arg-type]
            raise IndexError(index)
        return {name: value[0] for name, value in self.collated([index]).items()}

    def collated(self, indices: Sequence[int]) -> Batch:
        """Return inputs and targets (N, T) and the bytes that the targets of each row stand for (N)."""
        raise NotImplementedError

    def _batch(self, inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> Batch:
        counts = np.where(targets == IGNORED, 0, self._bytes_of[np.maximum(targets, 0)]).sum(axis=1)
        return {
            "inputs": torch.from_numpy(inputs),
            "targets": torch.from_numpy(targets),
            "bytes": torch.from_numpy(counts),
        }


class Windows(_Samples):
    """Windows of `length` tokens, side by side, so that each token but the first is predicted once an epoch.

    With `shifted` each window starts up to its length later, by torch's random numbers: another epoch cuts the
    text elsewhere.
    """

    draws_from_torch_alone = True

    def __init__(self, row: TokenRow, length: int, bytes_of: npt.NDArray[np.int64], shifted: bool = False) -> None:
        super().__init__(row, length, bytes_of)
        self._shifted = shifted

    def __len__(self) -> int:
        predicted = len(self._row.tokens) - 1
        return predicted // self.length if self._shifted else -(-predicted // self.length)

    def collated(self, indices: Sequence[int]) -> Batch:
        """Return the windows; the last one of an evaluation is filled up."""
        starts = np.asarray(indices) * self.length
        last = len(self._row.tokens) - 1
        if self._shifted:
            shifts = torch.randint(0, self.length, (len(indices),)).numpy()
            starts = np.minimum(starts + shifts, last - self.length)
        places = starts[:, None] + np.arange(self.length + 1)
        tokens = self._row.tokens[np.minimum(places, last)].astype(np.int64)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].copy()
        targets[places[:, 1:] > last] = IGNORED
        return self._batch(inputs.copy(), targets)


class Documents(_Samples):
    """Documents, the long ones in pieces of `length`, filled up to the longest of their batch."""

    draws_from_torch_alone = True

    def __init__(self, row: TokenRow, length: int, bytes_of: npt.NDArray[np.int64]) -> None:
        super().__init__(row, length, bytes_of)
        self._pieces = pieces(row, length)

    def __len__(self) -> int:
        return len(self._pieces)

    def collated(self, indices: Sequence[int]) -> Batch:
        """Return the pieces, and separators behind them that are not to be predicted."""
        chosen = self._pieces[np.asarray(indices)]
        inputs, targets, _ = _rows(self._row, [[piece] for piece in chosen], int(chosen[:, 1].max()))
        return self._batch(inputs, targets)


class Packed(_Samples):
    """Rows of `length` that hold one document or several; `documents` (N, T) numbers them from 1, 0 is filling."""

    draws_from_torch_alone = True

    def __init__(self, row: TokenRow, length: int, bytes_of: npt.NDArray[np.int64]) -> None:
        super().__init__(row, length, bytes_of)
        self._rows = pack(pieces(row, length), length)

    def __len__(self) -> int:
        return len(self._rows)

    def collated(self, indices: Sequence[int]) -> Batch:
        """Return the rows, with their documents' numbers."""
        inputs, targets, documents = _rows(self._row, [self._rows[index] for index in indices], self.length)
        return self._batch(inputs, targets) | {"documents": torch.from_numpy(documents)}


def pieces(row: TokenRow, length: int) -> npt.NDArray[np.int64]:
    """Return where each document, or piece of one, begins in the row and how many tokens it predicts: (N, 2).

    >>> row = TokenRow(np.zeros(9, np.uint16), np.array([0, 2, 8]))
    >>> pieces(row, 4).tolist()
    [[0, 2], [2, 4], [6, 2]]
    """
    found = [
        (place, min(length, end - place))
        for start, end in zip(row.starts[:-1].tolist(), row.starts[1:].tolist(), strict=True)
        for place in range(start, end, length)
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def pack(found: npt.NDArray[np.int64], length: int) -> list[list[npt.NDArray[np.int64]]]:
    """Return the pieces in rows of at most `length`: the longest first, each where it leaves the least room.

    >>> [[piece.tolist() for piece in row] for row in pack(np.array([[0, 2], [2, 4], [6, 2]]), 5)]
    [[[2, 4]], [[0, 2], [6, 2]]]
    """
    rows: list[list[npt.NDArray[np.int64]]] = []
    with_room: dict[int, list[int]] = {}
    for piece in found[np.argsort(-found[:, 1], kind="stable")]:
        size = int(piece[1])
        room = next((room for room in range(size, length + 1) if with_room.get(room)), None)
        if room is None:
            rows.append([])
            number, room = len(rows) - 1, length
        else:
            number = with_room[room].pop()
        rows[number].append(piece)
        with_room.setdefault(room - size, []).append(number)
    return rows


def _rows(
    row: TokenRow, chosen: Sequence[Sequence[npt.NDArray[np.int64]]], length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return inputs, targets and numbers of documents, a row for each list of pieces."""
    inputs = np.full((len(chosen), length), int(row.tokens[0]), np.int64)
    targets = np.full((len(chosen), length), IGNORED, np.int64)
    documents = np.zeros((len(chosen), length), np.int64)
    for line, its in enumerate(chosen):
        place = 0
        for number, (start, size) in enumerate(its, start=1):
            inputs[line, place : place + size] = row.tokens[start : start + size]
            targets[line, place : place + size] = row.tokens[start + 1 : start + size + 1]
            documents[line, place : place + size] = number
            place += size
    return inputs, targets, documents
