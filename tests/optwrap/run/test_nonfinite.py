import logging
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from optwrap.plan.plan import Plan
from optwrap.run.nonfinite import MOST_ROLLBACKS, MOST_SEEN, NonFiniteWatch

PLAN = Plan(micro_batches=40, per_epoch=10, accumulative_counts=4, log_every=2, eval_every=None)
NAN = float("nan")


def watch_of(policy="error", wrapper=None, roll_back=None):
    wrapper = wrapper or OptimWrapper(SGD(nn.Linear(2, 1).parameters(), lr=0.1))
    return NonFiniteWatch(policy, {"": wrapper}, PLAN, roll_back or (lambda count: None))


def feed(watch, losses):
    for count, loss in enumerate(losses, start=1):
        watch.add({"loss": torch.tensor(loss)}, count)


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_the_first_bad_loss_is_named_by_epoch_and_update(bad):
    watch = watch_of()
    feed(watch, [1.0] * 12 + [bad, 1.0, NAN])
    with pytest.raises(ConfigError, match=r"loss is NaN or inf since epoch 2, update 4 \(micro-batch 13\).*lr"):
        watch.check(15)


def test_a_bad_loss_is_found_though_the_next_was_written_over_it():
    watch, loss = watch_of(), torch.tensor(NAN)
    watch.add({"loss": loss}, 1)
    loss.fill_(1.0)
    watch.add({"loss": loss}, 2)
    with pytest.raises(ConfigError, match="micro-batch 1"):
        watch.check(2)


@pytest.mark.parametrize("bad", [None, 5, MOST_SEEN, MOST_SEEN + 3])
def test_losses_are_not_kept_for_ever_where_no_row_is_due(bad):
    wrapper = OptimWrapper(SGD(nn.Linear(2, 1).parameters(), lr=0.1))
    watch = NonFiniteWatch("error", {"": wrapper}, replace(PLAN, log_every=10**9), lambda count: None)
    feed(watch, [NAN if count == bad else 1.0 for count in range(1, MOST_SEEN + 5)])
    if bad is None:
        watch.check(MOST_SEEN + 4)
        return
    with pytest.raises(ConfigError, match=rf"micro-batch {bad}\)"):
        watch.check(MOST_SEEN + 4)


def test_losses_may_be_of_different_precision():
    watch = watch_of()
    watch.add({"loss": torch.tensor(1.0)}, 1)
    watch.add({"loss": torch.tensor(NAN, dtype=torch.bfloat16)}, 2)
    with pytest.raises(ConfigError, match="micro-batch 2"):
        watch.check(2)


def test_a_row_that_is_due_is_checked_before_it_is_written():
    watch = watch_of()
    watch.step({"loss": torch.tensor(NAN)}, 7)
    with pytest.raises(ConfigError, match="micro-batch 7"):
        watch.step({"loss": torch.tensor(1.0)}, 8)


def test_a_bad_gradient_norm_is_found_where_the_wrapper_measures_it():
    model = nn.Linear(2, 1)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.0), clip_grad={"max_norm": 1.0})
    watch = watch_of(wrapper=wrapper)
    wrapper.update_params(model(torch.full((1, 2), NAN)).sum())
    watch.add({"loss": torch.tensor(1.0)}, 1)
    with pytest.raises(ConfigError, match="gradient norm is NaN or inf since epoch 1, update 1"):
        watch.check(1)


def test_weights_that_went_bad_are_found_though_the_loss_is_finite():
    model = nn.Linear(2, 1)
    watch = watch_of(wrapper=OptimWrapper(SGD(model.parameters(), lr=0.1)))
    feed(watch, [1.0])
    with torch.no_grad():
        model.weight[0, 0] = NAN
    with pytest.raises(ConfigError, match="weights are NaN or inf"):
        watch.check(1)


def test_overflows_under_loss_scaling_are_the_scalers_own_affair():
    model = nn.Linear(2, 1)
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), clip_grad={"max_norm": 1.0}, loss_scale=4)
    watch = watch_of(wrapper=wrapper)
    wrapper.update_params(model(torch.full((1, 2), NAN)).sum())
    feed(watch, [1.0])
    watch.check(1)
    assert wrapper.skipped_steps == 1


@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1.0}, {"clip_value": 1.0}])
def test_skip_leaves_weights_and_momentum_as_they_were(clip_grad):
    torch.manual_seed(0)
    models = [nn.Linear(2, 1) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    wrappers = [OptimWrapper(SGD(each.parameters(), lr=0.1, momentum=0.9), clip_grad=clip_grad) for each in models]
    watch = watch_of("skip", wrappers[0])
    good, bad = torch.ones(1, 2), torch.full((1, 2), NAN)
    for model, wrapper, inputs in (
        (models[0], wrappers[0], (good, bad, good)),
        (models[1], wrappers[1], (good, good)),
    ):
        for each in inputs:
            wrapper.update_params(model(each).sum())
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        # Steps with a hook are not fused, so that the last bits differ.
        torch.testing.assert_close(first, second)
    assert (wrappers[0].updates, wrappers[0].skipped_steps) == (2, 1)
    watch.close()
    wrappers[0].update_params(models[0](bad).sum())
    assert models[0].weight.isnan().any()


def test_skip_warns_of_the_loss_and_gives_up_where_nothing_else_comes(caplog):
    model = nn.Linear(2, 1)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    watch = watch_of("skip", wrapper)
    feed(watch, [NAN])
    with caplog.at_level(logging.WARNING):
        watch.check(1)
    assert "such updates are skipped" in caplog.text
    for _ in range(100):
        wrapper.update_params(model(torch.full((1, 2), NAN)).sum())
    with pytest.raises(ConfigError, match="100 updates in a row"):
        wrapper.update_params(model(torch.full((1, 2), NAN)).sum())


def test_rollback_goes_back_each_time_and_gives_up_after_some_in_a_row():
    called = []
    watch = watch_of("rollback", roll_back=called.append)
    for count in range(1, MOST_ROLLBACKS + 1):
        watch.add({"loss": torch.tensor(NAN)}, count)
        watch.check(count)
    assert called == list(range(1, MOST_ROLLBACKS + 1))
    watch.add({"loss": torch.tensor(NAN)}, 30)
    with pytest.raises(ConfigError, match="after 5 rollbacks in a row"):
        watch.check(30)


def test_a_clean_check_ends_the_row_of_rollbacks():
    watch = watch_of("rollback")
    for count in range(1, 4 * MOST_ROLLBACKS, 2):
        watch.add({"loss": torch.tensor(NAN)}, count)
        watch.check(count)
        watch.check(count + 1)
    assert watch.rollbacks == 0


@pytest.mark.parametrize("averaging", [{"kind": "swa"}, {"kind": "ema", "decay": 0.5}])
def test_an_update_that_is_dropped_is_in_no_average_and_thaws_nothing(averaging):
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    wrappers = []
    for model in models:
        cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "freeze": {"0.": 2}}
        cfg["averaging"] = averaging
        wrappers.append(build_optim_wrapper(model, cfg))
    watch_of("skip", wrappers[0])
    for value in (1.0, NAN, NAN, 2.0, 3.0):
        wrappers[0].update_params(models[0](torch.full((1, 2), value)).sum())
        if value == value:
            wrappers[1].update_params(models[1](torch.full((1, 2), value)).sum())
    assert wrappers[0].averaging.updates == wrappers[1].averaging.updates == 3
    with wrappers[0].evaluation_weights(), wrappers[1].evaluation_weights():
        torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())
    assert models[0][0].weight.requires_grad
