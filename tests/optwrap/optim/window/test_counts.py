import functools

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_schedule
from optwrap.optim.step import finish
from optwrap.optim.step.one_pass import OnePass
from optwrap.optim.window.counts import StepCounts

SKIPPED, MADE = torch.tensor(1.0), torch.tensor(0.0)


def test_what_the_host_knows_counts_at_once():
    counts = StepCounts()
    for skipped in (True, False, False):
        counts.count(skipped)
    assert (counts.made, counts.skipped, counts.total) == (2, 1, 3)


def test_what_the_device_knows_is_read_a_fixed_number_of_steps_later():
    counts = StepCounts()
    made = []
    for i in range(StepCounts.LAG + 3):
        counts.count(SKIPPED if i == 1 else MADE)
        made.append(counts.made)
        assert counts.total == i + 1
    steps = range(1, StepCounts.LAG + 4)
    assert made == [step if step < StepCounts.LAG + 2 else step - 1 for step in steps]


def test_settling_reads_every_step():
    counts = StepCounts()
    for skipped in (SKIPPED, MADE, SKIPPED):
        counts.count(skipped)
    assert (counts.made, counts.skipped) == (3, 0)
    counts.settle()
    assert (counts.made, counts.skipped) == (1, 2)


@pytest.fixture
def lagging(monkeypatch):
    """Make wrappers decide on tensors, as on CUDA."""
    monkeypatch.setattr(finish, "OnePass", functools.partial(OnePass, on_host=False))


def course(updates, blow_up, read_at=()):
    """Return the lr before each of `updates` updates, some of which are skipped."""
    weight = nn.Parameter(torch.zeros(2))
    optim_wrapper = AmpOptimWrapper(SGD([weight], lr=1.0), dtype="float16", loss_scale=16)
    linear = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 1.0, "end_factor": 0.01}
    schedule = build_schedule(optim_wrapper, {"lr": linear | {"total_iters": 99}}, updates)
    seen = []
    for i in range(updates):
        seen.append(optim_wrapper.param_groups[0]["lr"])
        optim_wrapper.update_params(weight.sum() * (1e38 if i in blow_up else 1.0))
        if i in read_at:
            assert optim_wrapper.skipped_steps == len([each for each in blow_up if each <= i])
        schedule.step()
    return optim_wrapper, schedule, seen


def test_a_schedule_stands_still_when_it_learns_of_skipped_steps(request):
    _, _, exact = course(30, {0, 1, 5})
    request.getfixturevalue("lagging")
    _, _, late = course(30, {0, 1, 5})
    assert late[:8] == pytest.approx([1 - 0.01 * i for i in range(8)])
    assert late[15:] == pytest.approx(exact[15:])
    assert exact[29] == pytest.approx(1 - 0.01 * 26)


def test_a_reader_learns_of_every_skipped_step_and_the_schedule_with_it(lagging):
    optim_wrapper, _, seen = course(8, {0, 1}, read_at={1})
    assert seen == pytest.approx([1.0, 0.99, 0.99, 0.99, 0.98, 0.97, 0.96, 0.95])
    assert optim_wrapper.updates == 6


def test_a_schedule_that_is_ahead_resumes_so(lagging):
    optim_wrapper, schedule, _ = course(4, {1, 2})
    state = schedule.state_dict()
    resumed_wrapper, resumed, _ = course(0, set())
    resumed_wrapper.load_state_dict(optim_wrapper.state_dict())
    resumed.load_state_dict(state)
    weight = resumed_wrapper.param_groups[0]["params"][0]
    seen = []
    for _ in range(4):
        seen.append(resumed_wrapper.param_groups[0]["lr"])
        resumed_wrapper.update_params(weight.sum())
        resumed.step()
    assert seen == pytest.approx([0.96, 0.96, 0.96, 0.95])


def test_a_number_as_loss_says_what_it_lacks(toy_model):
    optim_wrapper = OptimWrapper(SGD(toy_model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"the loss as a tensor, as the model gave it, not 0\.5"):
        optim_wrapper.update_params(0.5)
