from pathlib import Path

import pytest

from tests.optwrap.optim.parallel.harness import results_of

# test_sync.py has two ranks among the quick tests.
pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("sharded_state_worker.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two gloo processes saw."""
    return results_of(WORKER, 2, tmp_path_factory.mktemp("sharded_state"))


@pytest.mark.parametrize("spread", ["replicated", "sharded"])
def test_muon_and_adamw_train_as_on_one_process(spread, results):
    for result in results:
        seen = result[f"hybrid-{spread}"]
        assert seen["difference"] < 2e-6
        assert seen["momenta"] == 2  # stem and hidden; the spare layer has no gradient
        assert seen["as params"]


@pytest.mark.parametrize("spread", ["replicated", "sharded"])
def test_parts_of_parameters_are_stepped_and_resumed_as_on_one_process(spread, results):
    for result in results:
        seen = result[f"cut-{spread}"]
        assert seen["difference"] < 1e-3  # Muon computes in bfloat16
        assert not seen["unmatched"]
        assert seen["as params"]


def test_shards_whose_matrices_another_optimizer_would_step_are_refused(results):
    for result in results:
        assert "SGD cannot step convolutions" in result["refused matrices"]
        assert "hidden_convolutions=false" in result["refused matrices"]


def test_a_sharded_run_goes_on_elsewhere_and_back_for_every_optimizer(results):
    for result in results:
        found = {name: value for name, value in result.items() if name.startswith("carried on")}
        assert len(found) == 14
        assert {name: value for name, value in found.items() if not value < 2e-6} == {}


def test_a_sharded_state_dict_round_trips_as_it_is(results):
    assert all(result["own state dict"] < 2e-6 for result in results)


def test_full_makes_every_tensor_of_a_nest_whole_and_drops_what_is_not_kept(results):
    for rank, result in enumerate(results):
        seen = result["whole"]
        assert seen["equal"]
        assert seen["shards"]
        assert seen["types"] == ["Tensor"]
        assert seen["rest"] == 3
        assert seen["dropped"] == (rank == 1)


def test_an_optimizer_that_cannot_step_the_shards_is_refused(results):
    for result in results:
        of_adafactor, built_early = result["refused"]
        assert "Adafactor" in of_adafactor
        assert "strategy=ddp" in of_adafactor
        assert "build the wrapper after it" in built_early


def test_assignments_of_a_sharded_model_are_those_of_the_plain_one(results):
    assert [result["tables"] for result in results] == [[True] * 4] * 2
