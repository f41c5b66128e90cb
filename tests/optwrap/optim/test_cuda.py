"""What only a CUDA device can show: that nothing in an update waits for it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.optim import SGD, AdamW

from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_schedule
from optwrap.plan.plan import Plan
from optwrap.record.meters import GradNorm, TrainMeter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

UPDATES = 12  # more than the host lags behind
SCHEDULE = {"lr": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "gamma": 0.9}}
FP16 = {"dtype": "float16", "loss_scale": {"init_scale": 1024.0}}


@pytest.fixture
def waiting_is_an_error():
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def train(model, optim_wrapper, batches, weighted, blow_up):
    plan = Plan(2 * UPDATES, 2 * UPDATES, 2, log_every=5, eval_every=None)
    schedule = build_schedule(optim_wrapper, SCHEDULE, plan.micro_batches)
    optim_wrapper.initialize_count_status(model, 0, plan.micro_batches)
    meter = TrainMeter()
    GradNorm(optim_wrapper, plan.logs_update)
    for count in range(1, plan.micro_batches + 1):
        inputs, target = batches[count % len(batches)]
        with optim_wrapper.optim_context(model):
            loss = F.cross_entropy(model(inputs).float(), target)
        if count in blow_up:
            loss = loss * 1e38
        optim_wrapper.update_params(loss, weight=len(target) if weighted else None)
        meter.add({"loss": loss.detach()}, len(target), count)
        schedule.step()


def on_cuda(model, batches):
    return copy.deepcopy(model).cuda(), [(inputs.cuda(), target.cuda()) for inputs, target in batches]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 0.1}, {"max_norm": 1e3}, {"clip_value": 0.1}])
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_an_update_waits_for_nothing(optimizer, clip_grad, weighted, twins, batches, request):
    model, moved = on_cuda(twins[0], batches)
    optim_wrapper = OptimWrapper(optimizer(model.parameters(), lr=0.01), 2, clip_grad)
    request.getfixturevalue("waiting_is_an_error")
    train(model, optim_wrapper, moved, weighted, ())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 0.1}, {"max_norm": 1e3}])
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_a_scaled_update_waits_for_nothing_whether_or_not_it_overflows(
    optimizer, clip_grad, weighted, twins, batches, request
):
    model, moved = on_cuda(twins[0], batches)
    kwargs = {"momentum": 0.9} if optimizer is SGD else {}
    optim_wrapper = AmpOptimWrapper(optimizer(model.parameters(), lr=0.01, **kwargs), 2, clip_grad, **FP16)
    request.getfixturevalue("waiting_is_an_error")
    train(model, optim_wrapper, moved, weighted, {1, 8})
    torch.cuda.set_sync_debug_mode("default")
    assert optim_wrapper.skipped_steps == 2
    assert optim_wrapper.updates == UPDATES - 2
    assert all(param.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 0.1}])
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_it_trains_as_the_plain_path_does(optimizer, clip_grad, twins, batches):
    kwargs = {"momentum": 0.9} if optimizer is SGD else {}
    results = []
    for fused in (None, False):
        model, moved = on_cuda(twins[0], batches)
        wrapped = optimizer(model.parameters(), lr=0.01, fused=fused, **kwargs)
        train(model, AmpOptimWrapper(wrapped, 2, clip_grad, **FP16), moved, False, {1, 8})
        results.append(model.state_dict())
    # Schedules learn of the skipped steps at other times.
    torch.testing.assert_close(*results, rtol=0.05, atol=5e-3)
