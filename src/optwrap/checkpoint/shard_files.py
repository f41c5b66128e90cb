"""Files of shards, as torch.distributed.checkpoint has them: one of each rank, each with pieces of tensors.

Its `.metadata` beside them is a pickle, which could run any code: it is for torch's own tools and never read here.
Where each piece of a tensor lies stands in the checkpoint's file instead, as plain values.
"""

import io
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from optwrap.files import damage_of, disk_full

Index = dict[str, list[tuple[list[int], list[int], str, int, int]]]
"""Tensor -> its pieces: their offsets in it and sizes, and the file, first byte and length of each."""

_FILE = re.compile(r"__\d+_\d+\.distcp")


class Writer(dcp.FileSystemWriter):
    """Writes shards into a folder, flushed to disk; then rank 0 has their `index`."""

    index: Index

    def write_data(self, plan: Any, planner: Any) -> Any:
        """Write this rank's part."""
        try:
            return super().write_data(plan, planner)
        except Exception as error:
            full = disk_full(error)
            if full is None:
                raise
            raise OSError(full.errno, full.strerror) from error  # what lies behind an error is not sent on

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Note where everything is, once all ranks have written."""
        super().finish(metadata, results)
        sizes = {
            (name, chunk.offsets): chunk.sizes
            for name, tensor in metadata.state_dict_metadata.items()
            for chunk in getattr(tensor, "chunks", ())
        }
        self.index = {}
        for piece in (piece for of_rank in results for piece in of_rank):
            name, offsets, place = piece.index.fqn, piece.index.offset, piece.storage_data
            where = (place.relative_path, place.offset, place.length)
            self.index.setdefault(name, []).append((list(offsets), list(sizes[name, offsets]), *where))


@dataclass(frozen=True)
class _Place:
    """Where a piece lies, by the names that FileSystemReader has for it."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: tuple[str, ...] = ()


class Reader(dcp.FileSystemReader):
    """Reads `tensors`, or the parts of them that this rank has, from where `index` says that they are.

    Raises:
        ValueError: the index is none, or not one of these tensors.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], index: Index) -> None:
        super().__init__(folder)
        self._folder, self._metadata = folder, _metadata(tensors, index)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what is known without reading a file."""
        return self._metadata

    def read_data(self, plan: Any, planner: Any) -> Any:
        """Read the planned pieces; raises ValueError where one is missing or damaged."""
        for index in dict.fromkeys(item.storage_index for item in plan.items):
            self._check(self._metadata.storage_data[index])
        return super().read_data(plan, planner)

    def _check(self, place: _Place) -> None:
        """Look at a piece's checksums, as torch does not when it loads it."""
        shard = f"{self._folder.name}/{place.relative_path}"
        try:
            with (self._folder / place.relative_path).open("rb") as file:
                file.seek(place.offset)
                damage = damage_of(io.BytesIO(file.read(place.length)))
        except FileNotFoundError as error:
            raise ValueError(f"{shard} is missing") from error
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{shard} is damaged") from error
        if damage is not None:
            raise ValueError(f"in {shard} {damage}")


def _metadata(tensors: Mapping[str, Tensor], index: Index) -> Metadata:
    """Return what torch's reader needs to know: of tensors alone, since it unpickles anything else."""
    described: dict[str, Any] = {}
    places = {}
    for name, tensor in tensors.items():
        pieces = index[name]
        chunks = [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes, *_ in pieces]
        volume = sum(math.prod(chunk.sizes) for chunk in chunks)
        if volume != tensor.numel() or not all(_is_within(chunk, tensor.shape) for chunk in chunks):
            raise ValueError(f"the pieces of {name} are not the whole")
        described[name] = TensorStorageMetadata(TensorProperties(tensor.dtype), tensor.shape, chunks)
        for chunk, (_, _, file, start, length) in zip(chunks, pieces, strict=True):
            if not _FILE.fullmatch(file):
                raise ValueError(f"{file} is no shard")
            places[MetadataIndex(name, chunk.offsets)] = _Place(file, start, length)
    return Metadata(described, storage_data=places)


def _is_within(chunk: ChunkStorageMetadata, shape: torch.Size) -> bool:
    sides = zip(chunk.offsets, chunk.sizes, shape, strict=True)
    return all(offset >= 0 and 0 <= size <= whole - offset for offset, size, whole in sides)
