"""A language model trained by a loop of the kind that nanoGPT has: random windows of one array, and nothing else.

Source of the kind: Karpathy, nanoGPT, 2022, `train.py`; the code is this project's own.
"""

import json
import math
import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from optwrap.text import GPT, stdlib
from optwrap.text.windows import IGNORED
from tests.optwrap.benchmarks.jobs.stamps import Stamps


def batch_of(tokens: Any, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of windows that begin anywhere."""
    starts = torch.randint(len(tokens) - length, (size,))
    rows = [torch.from_numpy(tokens[start : start + length + 1].astype(np.int64)) for start in starts]
    windows = torch.stack(rows)
    return windows[:, :-1], windows[:, 1:]


def main(arguments: str) -> None:
    """Train, evaluate on all of val, and print how it went."""
    options = json.loads(arguments)
    updates, lr = options["updates"], options["lr"]
    torch.manual_seed(0)
    data = stdlib(**options["data"])
    model = GPT(data.vocabulary.size, **options["model"])
    decayed = [param for param in model.parameters() if param.ndim > 1]
    others = [param for param in model.parameters() if param.ndim < 2]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    rise, stamps = updates // 10, Stamps()
    for update in range(updates):
        factor = 0.5 * (1 + math.cos(math.pi * (update - rise) / (updates - rise)))
        for group in optimizer.param_groups:
            group["lr"] = lr * ((update + 1) / (rise + 1) if update < rise else factor)
        inputs, targets = batch_of(data.rows["train"].tokens, options["batch_size"], options["data"]["length"])
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if update % 20 == 0:
            print(f"update {update} loss {loss.item():.4f}")
        stamps.update()
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(data.val), 16):
            batch = data.val.collated(range(first, min(first + 16, len(data.val))))
            targets = batch["targets"].flatten()
            logits = model(batch["inputs"]).flatten(0, 1)
            total += F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum").item()
            count += int((targets != IGNORED).sum())
    print(f"\nVAL {total / count}")
    stamps.report()


if __name__ == "__main__":
    main(sys.argv[1])
