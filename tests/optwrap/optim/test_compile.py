import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.optim import SGD, AdamW

from optwrap.optim import AmpOptimWrapper, HybridOptimizer, OptimWrapper, build_schedule

DECAY = {"lr": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "gamma": 0.5}}


class Net(nn.Module):
    """A module with a forward of its own: torch 2.11 leaves a bare nn.Sequential uncompiled."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, inputs):
        return self.layers(inputs)


@pytest.fixture
def graphs():
    """Graphs that were compiled; compiling one anew is an error."""
    found = []
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield found
    torch._dynamo.reset()


def train(model, optim_wrapper, batches, loss_of):
    schedule = build_schedule(optim_wrapper, DECAY, len(batches))
    for batch in batches:
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss)
        schedule.step()
    assert optim_wrapper.get_lr()["lr"] == [pytest.approx(0.01 * 0.5 ** len(batches))]


def counting(graphs):
    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    return backend


@pytest.mark.parametrize(("optimizer", "clip_grad"), [(SGD, {"max_norm": 0.1}), (AdamW, None)])
def test_a_compiled_step_is_one_graph_however_the_lr_moves(
    optimizer, clip_grad, graphs, twins, batches, loss_of, assert_close
):
    model, expected = twins
    optim_wrapper = OptimWrapper(optimizer(model.parameters(), lr=0.01), clip_grad=clip_grad)
    optim_wrapper.compile_step(backend=counting(graphs))
    train(model, optim_wrapper, batches, loss_of)
    assert len(graphs) == 1
    plain = OptimWrapper(optimizer(expected.parameters(), lr=0.01, fused=False), clip_grad=clip_grad)
    train(expected, plain, batches, loss_of)
    assert_close(model, expected)


@pytest.mark.parametrize("wrap", [OptimWrapper, AmpOptimWrapper])
def test_a_compiled_model_is_one_graph(wrap, graphs, twins, batches, loss_of):
    model, expected = (Net(twin) for twin in twins)
    model.compile(backend=counting(graphs), fullgraph=True)
    for net in (model, expected):
        train(net, wrap(SGD(net.parameters(), lr=0.01), clip_grad={"max_norm": 0.1}), batches, loss_of)
    assert len(graphs) == 1
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-3, atol=1e-4)


def test_the_parts_of_a_hybrid_compile_too(graphs):
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    hybrid = HybridOptimizer({"a": SGD([first], lr=0.1), "b": AdamW([second], lr=0.1)})
    optim_wrapper = OptimWrapper(hybrid)
    optim_wrapper.compile_step(backend=counting(graphs))
    with torch._dynamo.config.patch(error_on_recompile=False):  # once for each optimizer
        for _ in range(4):
            optim_wrapper.update_params((first + second).sum())
    assert len(graphs) == 2
    assert first.tolist() == pytest.approx([0.6] * 3)
