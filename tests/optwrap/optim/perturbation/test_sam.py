import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict, build_optim_wrapper, in_passes
from optwrap.optim.perturbation.sam import parse_sam


def climb_by_hand(params, rho, adaptive):
    """Move parameters to the worst place nearby, by their gradients; return where they were."""
    before = [param.detach().clone() for param in params]
    scales = [param.detach().abs() if adaptive else torch.ones_like(param) for param in params]
    norm = torch.cat([(scale * param.grad).flatten() for scale, param in zip(scales, params, strict=True)]).norm()
    with torch.no_grad():
        for scale, param in zip(scales, params, strict=True):
            param += rho * scale**2 * param.grad / norm
    return before


def train_by_hand(model, batches, loss_of, optimizer, counts=1, rho=0.1, adaptive=False, max_norm=None):
    """Foret et al., written out: two passes over each micro-batch, the gradients of the second alone count."""
    params = list(model.parameters())
    for start in range(0, len(batches), counts):
        window = batches[start : start + counts]
        sums = [torch.zeros_like(param) for param in params]
        for batch in window:
            state = torch.get_rng_state()
            loss_of(model, batch).backward()
            buffers = [buffer.clone() for buffer in model.buffers()]
            before = climb_by_hand(params, rho, adaptive)
            optimizer.zero_grad()
            torch.set_rng_state(state)
            (loss_of(model, batch) / len(window)).backward()
            with torch.no_grad():
                for param, value, total in zip(params, before, sums, strict=True):
                    param.copy_(value)
                    total += param.grad
                for buffer, value in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(value)
            optimizer.zero_grad()
        for param, total in zip(params, sums, strict=True):
            param.grad = total
        if max_norm:
            clip_grad_norm_(params, max_norm)
        optimizer.step()
        optimizer.zero_grad()


def train(model, batches, loss_of, optim_wrapper):
    optim_wrapper.initialize_count_status(model, 0, len(batches))
    losses = []
    for batch in batches:

        def step(batch=batch):
            with optim_wrapper.optim_context(model):
                loss = loss_of(model, batch)
            optim_wrapper.update_params(loss)
            return loss.item()

        losses.append(in_passes(model, optim_wrapper, step))
    return losses


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("counts", "max_norm"), [(1, None), (1, 0.2), (3, None), (3, 0.2)])
def test_training_is_that_of_the_paper(
    optimizer, adaptive, counts, max_norm, twins, batches, loss_of, assert_close
):
    model, expected = twins
    optim_wrapper = OptimWrapper(
        optimizer(model.parameters(), lr=0.1),
        counts,
        {"max_norm": max_norm} if max_norm else None,
        sam={"rho": 0.1, "adaptive": adaptive},
    )
    train(model, batches, loss_of, optim_wrapper)
    plain = optimizer(expected.parameters(), lr=0.1)
    train_by_hand(expected, batches, loss_of, plain, counts, 0.1, adaptive, max_norm)
    assert_close(model, expected)
    assert optim_wrapper.inner_count == len(batches)


def noisy():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_both_passes_draw_the_same_numbers_and_the_first_alone_moves_running_statistics(
    batches, loss_of, assert_close
):
    model = noisy()
    expected = copy.deepcopy(model)
    state = torch.get_rng_state()
    train(model, batches, loss_of, OptimWrapper(SGD(model.parameters(), lr=0.1), sam={"rho": 0.1}))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    train_by_hand(expected, batches, loss_of, SGD(expected.parameters(), lr=0.1))
    assert_close(model, expected)
    assert torch.equal(after, torch.get_rng_state())


def test_what_a_step_returns_is_of_the_first_pass(twins, batches, loss_of):
    model, expected = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), sam={"rho": 1.0})
    losses = train(model, batches[:1], loss_of, optim_wrapper)
    assert losses == [pytest.approx(loss_of(expected, batches[0]).item())]


@pytest.mark.parametrize("overflows_in", [1, 2])
def test_an_overflow_in_either_pass_skips_the_step(overflows_in):
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    model = nn.ParameterList([weight])
    optim_wrapper = AmpOptimWrapper(
        SGD([weight], lr=0.1), dtype="float16", loss_scale={"init_scale": 4.0}, sam={"rho": 0.1}
    )
    calls = []

    def step():
        calls.append(len(calls) + 1)
        optim_wrapper.update_params((weight * (1e38 if calls[-1] == overflows_in else 1.0)).sum())

    in_passes(model, optim_wrapper, step)
    assert (optim_wrapper.updates, optim_wrapper.skipped_steps) == (0, 1)
    assert weight.tolist() == [1.0, 2.0]
    assert optim_wrapper.loss_scaler.get_scale() == 2.0
    in_passes(model, optim_wrapper, step)
    assert optim_wrapper.updates == 1
    assert weight.tolist() == pytest.approx([0.9, 1.9])


def test_a_generator_alone_takes_two_passes_after_its_discriminators_update(assert_close):
    torch.manual_seed(0)
    model = nn.ModuleDict({"gen": nn.Linear(2, 3), "disc": nn.Linear(3, 1)})
    expected = copy.deepcopy(model)
    wrappers = OptimWrapperDict(
        gen=OptimWrapper(SGD(model["gen"].parameters(), lr=0.1), sam={"rho": 0.1}),
        disc=OptimWrapper(SGD(model["disc"].parameters(), lr=0.1)),
    )
    noise = [torch.randn(5, 2) for _ in range(4)]

    def step(batch):
        wrappers["disc"].update_params(-model["disc"](model["gen"](batch).detach()).sigmoid().mean())
        wrappers["gen"].update_params(model["disc"](model["gen"](batch)).sigmoid().mean())
        wrappers["disc"].zero_grad()

    optimizers = {name: SGD(expected[name].parameters(), lr=0.1) for name in expected}
    for batch in noise:
        in_passes(model, wrappers, lambda batch=batch: step(batch))
        optimizers["disc"].zero_grad()
        (-expected["disc"](expected["gen"](batch).detach()).sigmoid().mean()).backward()
        optimizers["disc"].step()

        def loss_of(model, batch):
            return model["disc"](model["gen"](batch)).sigmoid().mean()

        params = list(expected["gen"].parameters())
        optimizers["gen"].zero_grad()
        loss_of(expected, batch).backward()
        before = climb_by_hand(params, 0.1, False)
        optimizers["gen"].zero_grad()
        loss_of(expected, batch).backward()
        with torch.no_grad():
            for param, value in zip(params, before, strict=True):
                param.copy_(value)
        optimizers["gen"].step()
    assert_close(model, expected)
    assert (wrappers["gen"].updates, wrappers["disc"].updates) == (4, 4)


def test_an_error_in_the_second_pass_leaves_the_weights_as_they_were(twins, batches, loss_of):
    model, _ = twins
    before = copy.deepcopy(model.state_dict())
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), sam={"rho": 0.1})
    calls = []

    def step():
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        optim_wrapper.update_params(loss_of(model, batches[0]))

    with pytest.raises(ZeroDivisionError):
        in_passes(model, optim_wrapper, step)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_of_zeros_move_nothing():
    weight = nn.Parameter(torch.ones(2))
    optim_wrapper = OptimWrapper(SGD([weight], lr=0.1), sam={"rho": 0.1})
    in_passes(nn.ParameterList([weight]), optim_wrapper, lambda: optim_wrapper.update_params((weight * 0).sum()))
    assert weight.tolist() == [1.0, 1.0]


def test_sparse_gradients_climb_too(assert_close):
    dense, sparse = (nn.EmbeddingBag(5, 2, sparse=each, mode="sum") for each in (False, True))
    sparse.load_state_dict(dense.state_dict())
    for model in (dense, sparse):
        optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), sam={"rho": 0.1})

        def step(model=model, optim_wrapper=optim_wrapper):
            optim_wrapper.update_params(model(torch.tensor([[0, 1, 1], [2, 0, 4]])).square().sum())

        in_passes(model, optim_wrapper, step)
    assert_close(sparse, dense)


def test_a_loop_of_ones_own_is_told_how_the_passes_are_made(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), sam={"rho": 0.1})
    with pytest.raises(ConfigError, match=r"in_passes\(model, optim_wrapper, step\)"):
        optim_wrapper.update_params(loss_of(model, batches[0]))
    with pytest.raises(ConfigError, match=r"in_passes\(model, optim_wrapper, step\)"):
        optim_wrapper.backward(optim_wrapper.scale_loss(loss_of(model, batches[0])))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rho": 0}, r"sam.rho=0: it is a number above 0"),
        ({"rho": "0.1"}, r"sam.rho='0.1': it is a number"),
        ({"rho": 0.1, "ro": 1}, r"sam.ro=1: there is no such field. Did you mean 'rho'"),
        ({"adaptive": True}, r"sam.adaptive=True has no effect without sam.rho"),
    ],
)
def test_what_is_wrong_is_named(config, message):
    with pytest.raises(ConfigError, match=message):
        parse_sam(config)
    cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "sam": config}
    with pytest.raises(ConfigError, match=rf"^optim_wrapper\.{message}"):
        build_optim_wrapper(nn.Linear(1, 1), cfg)
