"""The job as a script that somebody writes for it: a loop, an evaluation, a checkpoint."""

import sys
from pathlib import Path

import torch

from tests.optwrap.benchmarks.jobs.stamps import Stamps
from tests.optwrap.benchmarks.jobs.work import WORKS, loaders, loss_of, optimizer_of, schedule_of


def main(name: str, folder: str, out: str) -> None:
    """Train."""
    work, stamps = WORKS[name], Stamps()
    torch.manual_seed(0)
    train, val = loaders(work, folder)
    model = work.model()
    optimizer = optimizer_of(model, work)
    schedule = schedule_of(optimizer, work)
    for epoch in range(work.evaluations):
        model.train()
        for batch in train:
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            stamps.update()
        model.eval()
        with torch.no_grad():
            losses = [loss_of(model, batch).item() for batch in val]
        print(f"epoch {epoch} loss {loss.item():.4f} val loss {sum(losses) / len(losses):.4f}")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(state, Path(out) / "checkpoint.pt")
    stamps.report()


if __name__ == "__main__":
    main(*sys.argv[1:])
