import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

from optwrap.optim import AmpOptimWrapper, OptimWrapper


def sizes_to_batches(sizes):
    return [
        (torch.randn(size, 4, dtype=torch.float64), torch.randn(size, 2, dtype=torch.float64)) for size in sizes
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=9),
    st.integers(1, 4),
    st.booleans(),
)
def test_unequal_micro_batches_equal_one_batch_of_all_their_items(sizes, counts, as_tensor):
    model = nn.Linear(4, 2, dtype=torch.float64)
    expected = nn.Linear(4, 2, dtype=torch.float64)
    expected.load_state_dict(model.state_dict())
    batches = sizes_to_batches(sizes)
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9), accumulative_counts=counts)
    optim_wrapper.initialize_count_status(model, 0, len(batches))
    for inputs, target in batches:
        weight = torch.tensor(len(inputs)) if as_tensor else len(inputs)
        optim_wrapper.update_params(F.mse_loss(model(inputs), target), weight=weight)

    optimizer = SGD(expected.parameters(), lr=0.1, momentum=0.9)
    for i in range(0, len(batches), counts):
        inputs, target = (torch.cat(part) for part in zip(*batches[i : i + counts], strict=True))
        F.mse_loss(expected(inputs), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    # The weights are float32 on the device: exact counts, a quotient of float32 precision.
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-6)


def test_clipping_sees_the_weighted_mean(twins, loss_of):
    model, expected = twins
    small, large = ((torch.randn(n, 4), torch.randint(3, (n,))) for n in (2, 30))
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), 2, {"max_norm": 0.01})
    optim_wrapper.update_params(loss_of(model, small), weight=2)
    optim_wrapper.update_params(loss_of(model, large), weight=30)
    both = tuple(torch.cat(part) for part in zip(small, large, strict=True))
    loss_of(expected, both).backward()
    norm = torch.stack([p.grad.norm() for p in expected.parameters()]).norm()
    assert optim_wrapper.last_grad_norm.item() == pytest.approx(norm.item(), rel=1e-5)


def test_zeroed_gradients_take_their_items_with_them(twins, loss_of):
    model, expected = twins
    dropped, kept = ((torch.randn(n, 4), torch.randint(3, (n,))) for n in (30, 2))
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    optim_wrapper.update_params(loss_of(model, dropped), weight=30)
    optim_wrapper.zero_grad()
    optim_wrapper.update_params(loss_of(model, kept), weight=2)
    optimizer = SGD(expected.parameters(), lr=0.1)
    loss_of(expected, kept).backward()
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_large_weights_do_not_overflow_scaled_fp16_gradients(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = AmpOptimWrapper(
        SGD(model.parameters(), lr=0.1), accumulative_counts=2, dtype="float16", loss_scale=1024
    )
    for batch in batches:
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss, weight=1e6)
    assert optim_wrapper.skipped_steps == 0
    assert optim_wrapper.updates == 4


def test_some_with_and_some_without_weight_is_an_error_that_loses_nothing(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    for first, second in ((3, None), (None, 3)):
        optim_wrapper.update_params(loss_of(model, batches[0]), weight=first)
        count = optim_wrapper.inner_count
        with pytest.raises(ValueError, match="every micro-batch"):
            optim_wrapper.update_params(loss_of(model, batches[1]), weight=second)
        assert optim_wrapper.inner_count == count
        optim_wrapper.update_params(loss_of(model, batches[1]), weight=first)
    assert optim_wrapper.updates == 2


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_weight_is_a_finite_count(weight, twins, batches, loss_of):
    optim_wrapper = OptimWrapper(SGD(twins[0].parameters(), lr=0.1))
    with pytest.raises(ValueError, match="weight="):
        optim_wrapper.update_params(loss_of(twins[0], batches[0]), weight=weight)


def test_an_update_without_any_item_changes_nothing(twins, batches, loss_of, assert_equal):
    model, expected = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    for batch in batches[:2]:
        optim_wrapper.update_params(loss_of(model, batch), weight=0)
    assert optim_wrapper.updates == 1
    assert_equal(model, expected)


def one_weight(counts):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model, OptimWrapper(SGD(model.parameters(), lr=1.0), counts)


def test_a_micro_batch_that_failed_and_is_tried_again_counts_once():
    model, optim_wrapper = one_weight(2)
    loss = model(torch.ones(1, 1)).sum()
    with pytest.raises(RuntimeError):
        optim_wrapper.update_params(loss.detach(), weight=5)
    for _ in range(2):
        optim_wrapper.update_params(model(torch.ones(1, 1)).sum(), weight=5)
    assert model.weight.item() == pytest.approx(-1)


def test_a_weight_tensor_may_be_used_again():
    model, optim_wrapper = one_weight(2)
    weight = torch.tensor(0.0)
    for items in (1.0, 3.0):
        weight.fill_(items)
        optim_wrapper.update_params(model(torch.full((1, 1), items)).sum(), weight=weight)
    assert model.weight.item() == pytest.approx(-(1 * 1 + 3 * 3) / 4)


def test_two_loss_terms_of_one_micro_batch_count_it_once():
    model, optim_wrapper = one_weight(1)
    terms = [optim_wrapper.scale_loss(model(torch.ones(1, 1)).sum(), weight=4) for _ in range(2)]
    optim_wrapper.backward(sum(terms))
    optim_wrapper.step()
    assert model.weight.item() == pytest.approx(-2)


def test_a_hand_written_loop_may_step_every_second_micro_batch():
    model, optim_wrapper = one_weight(1)
    for items in (1.0, 3.0):
        optim_wrapper.backward(optim_wrapper.scale_loss(model(torch.full((1, 1), items)).sum(), weight=items))
    optim_wrapper.step()
    assert model.weight.item() == pytest.approx(-(1 * 1 + 3 * 3) / 4)


def test_the_range_follows_the_weights_so_that_a_small_first_one_costs_little(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16", loss_scale=1024)
    for weight, batch in zip([1, *[1e6] * 7], batches, strict=True):
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss, weight=weight)
    assert optim_wrapper.skipped_steps <= 1


def test_zeroing_between_weighing_and_backward_keeps_the_weight():
    model, optim_wrapper = one_weight(1)
    loss = optim_wrapper.scale_loss(model(torch.ones(1, 1)).sum(), weight=5)
    optim_wrapper.zero_grad()
    optim_wrapper.backward(loss)
    optim_wrapper.step()
    assert model.weight.item() == pytest.approx(-1)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("bad", ["0/0", "inf", "each item 0/0"])
def test_a_micro_batch_without_items_adds_zero_whatever_its_loss(as_tensor, first, bad, twins):
    model, expected = twins
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), 3, {"max_norm": 10.0})
    data = torch.randn(8, 4)
    masks = [torch.zeros(8) for _ in range(3)]
    masks[0][:first] = 1
    masks[2][3:] = 1
    for mask in masks:
        items = mask.sum()
        values = model(data).square().mean(dim=1)
        loss = {
            "0/0": lambda values=values, mask=mask, items=items: (values * mask).sum() / items,
            "inf": lambda values=values, mask=mask, items=items: ((values * mask).sum() + 1) / items,
            "each item 0/0": lambda values=values, mask=mask, items=items: (values * (mask / items)).sum(),
        }[bad]()
        if bad == "inf" and items:
            loss = loss - 1 / items
        optim_wrapper.update_params(loss, weight=items if as_tensor else items.item())
    kept = torch.cat([data[mask.bool()] for mask in masks])
    optimizer = SGD(expected.parameters(), lr=0.1)
    expected(kept).square().mean(dim=1).mean().backward()
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_a_window_without_items_is_an_update_by_zero(twins, assert_equal):
    model, expected = twins
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), 2, dtype="float16", loss_scale=2.0)
    for _ in range(2):
        optim_wrapper.update_params(model(torch.ones(1, 4)).sum() / torch.tensor(0.0), weight=0)
    assert (optim_wrapper.updates, optim_wrapper.skipped_steps) == (1, 0)
    assert_equal(model, expected)


def test_a_loss_without_items_that_is_not_differentiated_leaves_the_next_alone():
    model, optim_wrapper = one_weight(1)
    loss = model(torch.ones(1, 1)).sum()
    node = torch.autograd.graph.get_gradient_edge(model.weight).node  # kept, as DDP keeps it
    optim_wrapper.scale_loss(loss / torch.tensor(0.0), weight=0)
    optim_wrapper.update_params(model(torch.ones(1, 1)).sum(), weight=5)
    optim_wrapper.update_params(model(torch.ones(1, 1)).sum(), weight=5)
    assert model.weight.item() == pytest.approx(-2)
    assert node.name().endswith("AccumulateGrad")


def test_a_window_tells_whether_its_micro_batches_have_weights():
    model = nn.Linear(1, 1)
    optim_wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    for weight in (None, 3.0):
        optim_wrapper.update_params(model(torch.ones(1, 1)).sum(), weight=weight)
        assert optim_wrapper.is_weighted == (weight is not None)
        optim_wrapper.update_params(model(torch.ones(1, 1)).sum(), weight=weight)
        assert not optim_wrapper.is_weighted
