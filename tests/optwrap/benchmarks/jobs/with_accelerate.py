"""The job with Accelerate around a loop of one's own."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tests.optwrap.benchmarks.jobs.stamps import Stamps
from tests.optwrap.benchmarks.jobs.work import WORKS, loaders, loss_of, optimizer_of, schedule_of


def main(name: str, folder: str, out: str) -> None:
    """Train."""
    work, stamps = WORKS[name], Stamps()
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = work.model()
    optimizer = optimizer_of(model, work)
    model, optimizer, train, val, schedule = accelerator.prepare(
        model, optimizer, *loaders(work, folder), schedule_of(optimizer, work)
    )
    for epoch in range(work.evaluations):
        model.train()
        for batch in train:
            with accelerator.accumulate(model):
                loss = loss_of(model, batch)
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            stamps.update()
        model.eval()
        with torch.no_grad():
            losses = [accelerator.gather_for_metrics(loss_of(model, batch)).item() for batch in val]
        accelerator.print(f"epoch {epoch} loss {loss.item():.4f} val loss {sum(losses) / len(losses):.4f}")
        accelerator.save_state(str(Path(out) / "checkpoint"))
    stamps.report()


if __name__ == "__main__":
    main(*sys.argv[1:])
