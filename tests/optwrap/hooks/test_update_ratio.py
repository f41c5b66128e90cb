"""The update ratio against weights before and after an update, by hand."""

import copy

import pytest
import torch
from torch.optim import SGD, AdamW

from optwrap.errors import ConfigError
from optwrap.hooks import UpdateRatio
from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from tests.optwrap.hooks.runs import ToyRun

OPTIMIZERS = {
    "sgd": lambda params: SGD(params, lr=0.1, momentum=0.9),
    "adamw": lambda params: AdamW(params, lr=0.01),
}


def norm(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def by_hand(model, optimizer, batches, loss_of, counts, max_norm, names):
    """Return ratio and gradient norm of the named parameters, for each update."""
    rows = []
    params = dict(model.named_parameters())
    for start in range(0, len(batches), counts):
        window = batches[start : start + counts]
        before = copy.deepcopy(params)
        for batch in window:
            (loss_of(model, batch) / len(window)).backward()
        torch.nn.utils.clip_grad_norm_(params.values(), max_norm)
        optimizer.step()
        ratio = norm([params[name] - before[name] for name in names]) / norm([before[name] for name in names])
        rows.append((ratio, norm([params[name].grad for name in names])))
        optimizer.zero_grad()
    return rows


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("counts", [1, 3])
def test_it_is_the_norm_of_the_update_over_that_of_the_weights(
    optimizer, counts, twins, batches, loss_of, tmp_path
):
    make, (model, twin) = OPTIMIZERS[optimizer], twins
    run = ToyRun(model, OptimWrapper(make(model.parameters()), counts, {"max_norm": 0.5}), batches, tmp_path)
    found = run(ratio=UpdateRatio(["0.", "4.bias"]))
    rest = [name for name, _ in twin.named_parameters() if not name.startswith("0.") and name != "4.bias"]
    for part, names in {"0.": ["0.weight", "0.bias"], "4.bias": ["4.bias"], "rest": rest}.items():
        plain = copy.deepcopy(twin)
        expected = by_hand(plain, make(plain.parameters()), batches, loss_of, counts, 0.5, names)
        own = [(row[f"ratio/{part}"], row[f"ratio/{part}.grad_norm"]) for row in found]
        assert own == [pytest.approx(pair, rel=1e-4) for pair in expected]


def test_each_param_group_is_a_part_where_no_patterns_are_given(twins, batches, tmp_path):
    cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "paramwise_cfg": {"bias_lr_mult": 0.0}}
    model, _ = twins
    wrapper = build_optim_wrapper(model, cfg)
    [row] = ToyRun(model, wrapper, batches[:1], tmp_path)(ratio=UpdateRatio())
    parts = {f"ratio/group{i}": group["lr"] for i, group in enumerate(wrapper.param_groups)}
    assert {name for name in row if "grad_norm" not in name} == set(parts)
    assert all((row[name] > 0) == (lr > 0) for name, lr in parts.items())


def test_only_updates_with_a_row_are_measured(twins, batches, tmp_path):
    model, _ = twins
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=0.1)), batches, tmp_path, log_every=3)
    assert [bool(row) for row in run(ratio=UpdateRatio())] == [True, True, True]  # updates 3, 6 and the last
    assert run.optim_wrapper.after_step == []


def test_a_skipped_step_leaves_empty_cells(twins, batches, tmp_path):
    model, _ = twins
    batches = [(100 * inputs, labels) for inputs, labels in batches]
    scale = {"init_scale": 3e38, "backoff_factor": 1e-37}
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), loss_scale=scale, dtype="bfloat16")
    rows = ToyRun(model, wrapper, batches[:3], tmp_path)(ratio=UpdateRatio())
    assert wrapper.skipped_steps == 1
    assert [bool(row) for row in rows] == [False, True, True]


def test_a_pattern_of_no_parameter_is_an_error_that_names_the_nearest(twins, batches, tmp_path):
    model, _ = twins
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=0.1)), batches, tmp_path)
    with pytest.raises(ConfigError, match=r"hooks\.ratio\.patterns: 'wieght' .* Did you mean 'weight'"):
        run(ratio=UpdateRatio(["wieght"]))
