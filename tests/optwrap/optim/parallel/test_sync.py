from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from optwrap.optim import OptimWrapper
from optwrap.optim.assignment.params import walk
from optwrap.optim.parallel.sync import parallel_modules, world_size
from tests.optwrap.optim.parallel.harness import results_of

WORKER = Path(__file__).with_name("sync_worker.py")
UPDATES = {1: 8, 3: 3, 8: 1}  # of 8 micro-batches, by accumulative_counts


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two gloo processes saw."""
    return results_of(WORKER, 2, tmp_path_factory.mktemp("sync"))


@pytest.mark.parametrize("wrapper", ["OptimWrapper", "AmpOptimWrapper"])
@pytest.mark.parametrize("counts", [1, 3, 8])
def test_gradients_are_averaged_once_an_update(wrapper, counts, results):
    for result in results:
        assert result[f"{wrapper}-{counts}"] == {"syncs": UPDATES[counts], "updates": UPDATES[counts]}


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
@pytest.mark.parametrize("counts", [1, 3])
def test_the_weighted_mean_goes_over_all_items_of_all_ranks(parallel, counts, results):
    for result in results:
        assert result[f"weighted-{parallel}-{counts}"] < 1e-6


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
@pytest.mark.parametrize("counts", [1, 3])
def test_a_rank_without_items_adds_zero_whatever_its_loss(parallel, counts, results):
    for result in results:
        assert result[f"empty-{parallel}-{counts}"] < 1e-6


def test_fsdp2_reduces_gradients_at_the_last_micro_batch_only(results):
    assert [result["fsdp2"] for result in results] == [[False, False, True]] * 2


def test_fsdp1_is_refused_where_each_rank_would_decide_by_itself(results):
    for result in results:
        assert [text.partition(":")[0] for text in result["fsdp1"]] == ["clip_grad", "dtype=float16"]


def test_several_models_in_turn_keep_the_replicas_equal(results):
    assert all(result["two models"] for result in results)


def test_a_data_parallel_run_is_not_saved_inside_a_window(results):
    assert all("should_update()" in result["saving"] for result in results)


def test_a_plain_model_has_no_parallel_modules():
    assert parallel_modules(nn.Sequential(nn.Linear(1, 1))) == []
    assert world_size([]) == world_size(None) == 1


class Engine(nn.Module):
    """A wrapper of others, with the context that DDP has."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.held = []

    def forward(self, inputs):
        return self.module(inputs)

    @contextmanager
    def no_sync(self):
        self.held.append(True)
        yield


def test_any_module_with_a_no_sync_context_is_held_back_between_updates():
    engine = Engine(nn.Linear(2, 1))
    model = nn.Sequential(engine)
    assert parallel_modules(model) == [engine]
    assert parallel_modules(torch.compile(model)) == parallel_modules(torch.compile(engine)) == [engine]
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    for held in (2, 4, 4):  # in the forward and in the backward pass of each micro-batch that does not update
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 2)).sum()
        wrapper.update_params(loss)
        assert len(engine.held) == held
    assert [param.name for param in walk(model)] == ["0.weight", "0.bias"]
