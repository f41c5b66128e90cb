"""How batches come to the device: moved there, or made of samples that lie there; and workers that make them."""

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from optwrap.errors import ConfigError
from optwrap.run.data.splits import EVALUATED, Splits

logger = logging.getLogger(__name__)

_SHARE = 10
"""Of the device's free memory, one part in so many may hold data sets where nobody says."""


def placed(splits: Splits, wanted: bool | None, device: torch.device) -> tuple[Splits, bool]:
    """Return the splits with their samples on the device, and whether they are there.

    A data set can lie there that has `nbytes` and `to(device)`, which returns it there. `wanted` None: on CUDA,
    where all of them take at most a tenth of its free memory.

    Raises:
        ConfigError: it is wanted of data sets that cannot.
    """
    sets = {name: getattr(splits, name) for name in ("train", *EVALUATED) if getattr(splits, name) is not None}
    unable = [name for name, each in sets.items() if not (hasattr(each, "to") and hasattr(each, "nbytes"))]
    if wanted and unable:
        kind = type(sets[unable[0]]).__name__
        raise ConfigError(
            f"data_on_device=true: data.{unable[0]} ({kind}) has no to(device) and nbytes, by which its samples "
            "would come there. Leave data_on_device out."
        )
    if wanted is False or unable or (wanted is None and not _fits(sets.values(), device)):
        return splits, False
    logger.info("data: all samples lie on %s", device)
    return replace(splits, **{name: each.to(device) for name, each in sets.items()}), True


def _fits(sets: Any, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(each.nbytes for each in sets) <= free / _SHARE


def copied_ahead(
    batches: Iterable[Any],
    device: torch.device,
    memory_format: torch.memory_format,
    copying: "torch.cuda.Stream",
) -> Iterator[Any]:
    """Yield batches on a CUDA device, each copied there by a stream while the one before it is computed with.

    One stream is enough for all loaders: memory is kept for each.
    """
    computing = torch.cuda.current_stream(device)

    def copied(batch: Any) -> tuple[Any, torch.cuda.Event]:
        # It may take the memory of a batch that was let go: whatever was told to read that comes first.
        copying.wait_stream(computing)
        with torch.cuda.stream(copying):
            return to_device(batch, device, memory_format), copying.record_event()

    each = map(copied, batches)
    following = next(each, None)
    while following is not None:
        (batch, there), following = following, next(each, None)
        computing.wait_event(there)
        yield batch
        del batch


def to_device(batch: Any, device: torch.device, memory_format: torch.memory_format = torch.preserve_format) -> Any:
    """Return `batch` on the device, its tensors of four dimensions in `memory_format`.

    It is a tensor, or lists, tuples and mappings of them, or of what has a method `to(device)`; the rest stays.
    """
    if isinstance(batch, Tensor):
        kept = memory_format if batch.ndim == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=kept)
    if isinstance(batch, Mapping):
        return {key: to_device(item, device, memory_format) for key, item in batch.items()}
    if callable(getattr(batch, "to", None)):  # a PackedSequence, which is a tuple too, a graph
        return batch.to(device)
    if isinstance(batch, list | tuple):
        items = [to_device(item, device, memory_format) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    return batch


def leave_signals_to_the_run(grace: int, worker: int) -> None:
    """Keep a data worker alive where a signal goes to the whole group: the run ends it after its checkpoint.

    A terminal sends Ctrl-C, and Slurm SIGTERM, to every process. A worker that dies of it would take the
    micro-batch with it that the run still wants to finish.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, partial(_end_within, grace))


def _end_within(grace: int, signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, grace)
