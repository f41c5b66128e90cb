from pathlib import Path

import pytest

from tests.optwrap.optim.parallel.harness import results_of

# test_sync.py has two ranks among the quick tests.
pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("sharding_worker.py")


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)], ids=["2 ranks", "2x2 ranks"])
def results(request, tmp_path_factory):
    """What gloo processes saw; 4 of them shard over two and replicate over the others."""
    return results_of(WORKER, request.param, tmp_path_factory.mktemp("sharding"))


def of_kind(results, kind):
    found = [(name, value) for result in results for name, value in result.items() if name.startswith(kind)]
    assert found
    return found


def test_sharded_training_equals_that_of_one_process(results):
    for name, seen in of_kind(results, ("sharded", "partly_sharded")):
        assert seen["difference"] < 2e-6, name
        assert seen["state is sharded"], name


def test_last_grad_norm_is_that_of_all_shards_and_the_same_plain_tensor_on_all_ranks(results):
    for name, seen in of_kind(results, ("sharded", "partly_sharded")):
        assert seen["plain norm"], name
        assert (seen["norm"] is None) == ("-norm" not in name), name
        assert seen["norm"] is None or abs(seen["norm"]) < 1e-6, name
        assert seen["own norm"] == results[0][name]["own norm"], name


def test_sharded_parameters_are_stepped_by_the_fused_kernel_where_there_is_one(results):
    for name, seen in of_kind(results, ("sharded", "partly_sharded")):
        if seen["fused"] is not None:
            assert seen["fused"] == ("plain" not in name and "RMSprop" not in name), name


def test_a_norm_of_any_type_takes_one_reduction_over_the_ranks_that_shard(results):
    for name, seen in of_kind(results, "norms"):
        assert [seen[norm_type] for norm_type in ("2.0", "1.0", "3.0", "inf")] == pytest.approx([1] * 4), name
        assert seen["reductions"] == [1, 1, 1, 1], name


def test_a_norm_is_finite_wherever_every_gradient_is(results):
    for name, seen in of_kind(results, "norms"):
        assert seen["of NaN"][0] == "nan", name
        assert seen["of NaN"][1] == "nan", name
        assert seen["of large ones"] == pytest.approx(1, rel=1e-5), name


def test_an_overflow_in_the_shard_of_one_rank_skips_the_step_on_all(results):
    for name, seen in of_kind(results, "overflow"):
        assert seen["kept"] == [True, True], name
        assert seen["finite norms"] == [False, False], name
        assert (seen["skipped"], seen["updates"]) == (2, 2), name
        assert seen["scale"] == (64 if "dynamic" in name else 128), name
        assert seen["difference"] < 2e-6, name


def test_weighted_and_clipped_accumulation_equals_one_process(results):
    for name, seen in of_kind(results, "weighted"):
        assert max(seen) < 2e-6, name


def test_the_norm_is_measured_when_it_is_due(results):
    for result in results:
        assert result["measured"] == [None, pytest.approx(1), True, pytest.approx(1)]


def test_a_gradient_that_is_zeroed_leaves_no_memory_behind(results):
    assert all(result["freed"] == [True, True] for result in results)


def test_new_shards_are_trained_on_and_hooks_see_whole_parameters(results):
    for name, seen in of_kind(results, "disturbed"):
        assert seen["difference"] < 2e-6, name
        assert seen["hook sees whole parameters"], name


def test_a_gradient_that_is_a_sum_not_taken_yet_is_taken_first(results):
    assert all(result.get("summed", [0, 0]) == pytest.approx([0, 0], abs=1e-6) for result in results)
