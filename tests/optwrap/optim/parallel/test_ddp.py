from pathlib import Path

import pytest

from tests.optwrap.optim.parallel.harness import results_of

# test_sync.py has two ranks among the quick tests.
pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two gloo processes saw."""
    return results_of(WORKER, 2, tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("case", ["unused", "unused, AMP"])
def test_an_unused_parameter_is_an_error_at_the_update_that_it_spoils(case, results):
    for result in results:
        ((micro_batches, text),) = result[case]["said"]
        assert micro_batches == 1  # the second, which would have made the update, does not count
        assert "spare.weight, spare.bias." in text
        assert "strategy.find_unused_parameters=true" in text


def test_ddp_that_looks_for_unused_parameters_trains_as_one_process(results):
    for result in results:
        assert result["found"]["said"] == []
        assert result["found"]["difference"] < 2e-6


@pytest.mark.parametrize("case", ["overflow", "overflow, plain loop"])
def test_an_overflow_in_the_loss_of_one_rank_skips_the_step_on_both(case, results):
    for result in results:
        assert (result[case]["skipped"], result[case]["scale"]) == (2, 64)
        assert result[case]["difference"] < 2e-6


@pytest.mark.parametrize("parallel", ["ddp", "ddp-2", "fsdp2", "fsdp2-2"])
def test_a_gan_trains_as_on_one_process(parallel, results):
    for result in results:
        assert result[f"gan-{parallel}"]["difference"] < 2e-6


def test_each_player_of_a_gan_averages_once_an_update_of_its_own(results):
    for result in results:
        assert result["gan-ddp"]["syncs"] == {"generator": 4, "discriminator": 4}
        assert result["gan-ddp-2"]["syncs"] == {"generator": 4, "discriminator": 2}


def test_accumulation_over_a_static_graph_is_refused(results):
    for result in results:
        assert result["static_graph"].startswith("accumulative_counts=2")
