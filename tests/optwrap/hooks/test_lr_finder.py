"""The learning rate range test against a loop by hand."""

import copy
import csv
import math

import pytest
import torch
from torch.optim import SGD, Adam

from optwrap.errors import ConfigError
from optwrap.hooks import LrFinder
from optwrap.optim import OptimWrapper, OptimWrapperDict
from tests.optwrap.hooks.runs import QUICK, ToyRun, result, rows


def curve(folder):
    with (folder / "lr_finder.csv").open() as file:
        return [tuple(float(cell) for cell in row.values()) for row in csv.DictReader(file)]


def by_hand(model, batches, loss_of, counts, updates, lowest, highest):
    """Return lr, loss and smoothed loss of each update until the loss is 4 times its least."""
    found, average = [], 0.0
    optimizer = SGD([{"params": model[0].parameters()}, {"params": model[4].parameters()}], lr=0.0, momentum=0.9)
    for step in range(updates):
        lr = lowest * (highest / lowest) ** (step / (updates - 1))
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = lr, 10 * lr
        losses = []
        for micro_batch in range(step * counts, (step + 1) * counts):
            loss = loss_of(model, batches[micro_batch % len(batches)])
            (loss / counts).backward()
            losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        loss = sum(losses) / counts
        average = 0.9 * average + 0.1 * loss
        found.append((lr, loss, average / (1 - 0.9 ** (step + 1))))
        if found[-1][2] > 4 * min(smooth for _, _, smooth in found):
            break
    return found


def wrapper_of(model, counts):
    groups = [{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 5.0}]
    for part in (model[2], model[3]):
        part.requires_grad_(False)
    return OptimWrapper(SGD(groups, lr=0.5, momentum=0.9), counts)


@pytest.mark.parametrize("counts", [1, 3])
def test_the_curve_is_that_of_a_loop_by_hand_and_all_is_put_back(counts, twins, batches, loss_of, tmp_path):
    model, twin = twins
    wrapper = wrapper_of(model, counts)
    run = ToyRun(model, wrapper, batches, tmp_path)
    before = copy.deepcopy((model.state_dict(), wrapper.state_dict(), torch.get_rng_state()))
    hook = LrFinder(1e-4, 10.0, updates=30)
    hook.start(run.given)
    expected = by_hand(twin, batches, loss_of, counts, 30, 1e-4, 10.0)
    assert 5 < len(expected) < 30, "the curve shall end early"
    assert curve(tmp_path) == [pytest.approx(point, rel=1e-4) for point in expected]
    torch.testing.assert_close(
        (model.state_dict(), wrapper.state_dict(), torch.get_rng_state()), before, rtol=0, atol=0
    )
    assert (wrapper.inner_count, wrapper.updates, wrapper.max_counts) == (0, 0, len(batches))
    assert wrapper.last_grad_norm is None
    assert (tmp_path / "lr_finder.png").stat().st_size > 1000


def test_a_loss_that_is_not_finite_ends_the_curve(twins, batches, tmp_path):
    model, _ = twins
    model[4].weight.data.mul_(1e3)
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=1.0)), batches, tmp_path)
    before = copy.deepcopy(model.state_dict())
    LrFinder(1.0, 1e30, updates=30).start(run.given)
    assert len(curve(tmp_path)) < 30
    assert all(math.isfinite(loss) for _, loss, _ in curve(tmp_path))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_of_several_wrappers_one_has_to_be_chosen(twins, batches, tmp_path):
    model, _ = twins
    parts = {"first": OptimWrapper(Adam(model[0].parameters())), "last": OptimWrapper(Adam(model[4].parameters()))}
    run = ToyRun(model, parts["first"], batches, tmp_path)
    run.given.optim_wrapper = OptimWrapperDict(**parts)
    with pytest.raises(ConfigError, match=r"wrapper=null: choose one of first, last\."):
        LrFinder().start(run.given)
    run.given.optim_wrapper = parts["first"]
    with pytest.raises(ConfigError, match=r"wrapper=last: this run has one wrapper"):
        LrFinder(wrapper="last").start(run.given)
    with pytest.raises(ConfigError, match=r"train_step gives no such number.*It gives loss"):
        LrFinder(loss="los").start(run.given)


FINDER = ("hooks=lr_finder", "hooks.lr_finder.updates=6", "max_updates=3", "eval_every=3")


@pytest.mark.slow
def test_a_run_stops_after_the_sweep_and_goes_on_where_it_is_resumed_to(train, capsys, tmp_path):
    folder = tmp_path / "run"
    train(*QUICK, *FINDER, f"hydra.run.dir={folder}")
    said = capsys.readouterr().out
    assert "optim_wrapper.optimizer.lr=" in said or "the loss never falls" in said
    assert result(folder)["updates"] == 0
    assert "lr_finder.png" in said.splitlines()[-1]
    train(*QUICK, *FINDER, "hooks.lr_finder.go_on=true", f"hydra.run.dir={folder}", "resume=auto")
    assert "Try:" not in capsys.readouterr().out  # it has been there
    assert rows(folder) == rows(train(*QUICK, "max_updates=3", "eval_every=3"))
