"""The composed config: mixins in any order, every class of torch by name, wrong fields refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from optwrap.config import store
from optwrap.config.signatures import optimizer_signatures, scheduler_signatures
from tests.optwrap.cases import one_in

Composed = Callable[..., DictConfig]
Orders = Callable[[list[str]], list[list[str]]]

MIXINS = ["sgd", "amp", "accum2", "clip", "no_norm_decay"]
LISTS = [
    MIXINS,
    ["adamw", "layer_decay", "amp", "clip", "no_norm_decay"],
    ["hybrid_muon", "amp", "accum2", "clip"],
]
COMBINABLE = [
    ["sgd", "adamw", "adam", "Adagrad", "hybrid_muon"],
    ["amp", "amp_bf16"],
    ["accum2", "accum4"],
]
SINGLES = ["clip", "clip_value", "no_norm_decay", "no_decay_1d"]


def wrapper_of(composed: Composed, mixins: list[str], *overrides: str) -> Any:
    cfg = composed(f"optim_wrapper=[{','.join(mixins)}]", *overrides)
    return OmegaConf.to_container(cfg.optim_wrapper)


def test_each_mixin_of_a_list_does_its_part(composed: Composed) -> None:
    wrapper = wrapper_of(composed, MIXINS)
    assert wrapper["_target_"] == "optwrap.optim.AmpOptimWrapper"
    assert wrapper["optimizer"]["_target_"] == "torch.optim.SGD"
    assert wrapper["accumulative_counts"] == 2
    assert wrapper["clip_grad"]["max_norm"] == 1.0
    assert wrapper["paramwise_cfg"]["norm_decay_mult"] == 0.0


@pytest.mark.parametrize("mixins", one_in(8, LISTS, list(map(",".join, LISTS))))
def test_a_list_in_any_order_composes_to_one_config(composed: Composed, orders: Orders, mixins: list[str]) -> None:
    expected = wrapper_of(composed, mixins)
    for order in orders(mixins):
        assert wrapper_of(composed, order) == expected, order


@st.composite
def mixin_lists(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """A list of mixins that do not clash, and the same in another order."""
    chosen = draw(st.lists(st.sampled_from(SINGLES), unique=True))
    for exclusive in COMBINABLE:
        chosen += draw(st.lists(st.sampled_from(exclusive), max_size=1))
    return draw(st.permutations(chosen)), draw(st.permutations(chosen))


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(orders=mixin_lists())
def test_any_mixins_that_do_not_clash_compose_in_any_order(
    composed: Composed, orders: tuple[list[str], list[str]]
) -> None:
    first, second = (wrapper_of(composed, mixins) for mixins in orders)
    assert first == second
    is_amp = bool({"amp", "amp_bf16"} & set(orders[0]))
    assert ("loss_scale" in first) == is_amp


@pytest.mark.parametrize(
    ("combination", "parts"),
    [("amp_accum", ["accum2", "amp", "sgd"]), ("amp_accum_clip", ["clip", "accum2", "amp", "sgd"])],
)
def test_combination_equals_its_parts(composed: Composed, combination: str, parts: list[str]) -> None:
    assert wrapper_of(composed, [combination]) == wrapper_of(composed, parts)


def test_amp_fields_can_be_set_in_any_order_with_amp(composed: Composed) -> None:
    for mixins in (["amp", "sgd"], ["sgd", "amp"]):
        wrapper = wrapper_of(composed, mixins, "optim_wrapper.loss_scale={init_scale:16}")
        assert wrapper["loss_scale"] == {"init_scale": 16}


@pytest.mark.parametrize("name", one_in(3, list(optimizer_signatures())))
def test_every_optimizer_of_torch_is_a_mixin_with_torch_defaults(composed: Composed, name: str) -> None:
    wrapper = wrapper_of(composed, ["clip", name])
    assert wrapper["optimizer"] == OmegaConf.to_container(
        OmegaConf.structured(store.schema(optimizer_signatures()[name]))
    )


@pytest.mark.parametrize("name", one_in(3, list(scheduler_signatures())))
def test_every_scheduler_of_torch_is_an_option_of_schedule(composed: Composed, name: str) -> None:
    schedule = composed(f"schedule={name}").schedule
    assert list(schedule) == ["lr"]
    assert schedule.lr._target_ == f"torch.optim.lr_scheduler.{name}"


def test_arguments_of_a_scheduler_are_checked(composed: Composed) -> None:
    cfg = composed("schedule=ReduceLROnPlateau", "schedule.lr.patience=3")
    assert cfg.schedule.lr.patience == 3
    with pytest.raises(ConfigCompositionException):
        composed("schedule=ReduceLROnPlateau", "schedule.lr.patience=long")


def test_length_of_the_run_stays_open_for_the_builder(composed: Composed) -> None:
    assert OmegaConf.is_missing(composed("schedule=cosine").schedule.lr, "T_max")
    one_cycle = composed("schedule=one_cycle").schedule.lr
    assert one_cycle.total_steps is None
    assert OmegaConf.is_missing(one_cycle, "max_lr")


def test_constant_schedule_is_empty(composed: Composed) -> None:
    assert composed("schedule=constant").schedule == {}


def test_another_hyperparameter_can_be_scheduled_too(composed: Composed) -> None:
    cfg = composed("schedule=cosine", "+schedule.weight_decay={_target_:torch.optim.lr_scheduler.LinearLR}")
    assert list(cfg.schedule) == ["lr", "weight_decay"]


def test_any_optimizer_class_composes_with_mixins_alone(composed: Composed) -> None:
    wrapper = wrapper_of(composed, ["amp"], "optim_wrapper.optimizer={_target_:lion.Lion,lr:1e-4,cautious:true}")
    assert wrapper["optimizer"] == {"_target_": "lion.Lion", "lr": 1e-4, "cautious": True}
    assert wrapper["_target_"] == "optwrap.optim.AmpOptimWrapper"


@pytest.mark.parametrize(
    "mixins",
    [["sgd"], ["amp", "sgd"], ["no_norm_decay", "sgd", "amp"], ["layer_decay", "sgd"], ["amp", "hybrid_muon"]],
)
def test_custom_keys_take_new_keys_without_a_plus(composed: Composed, mixins: list[str]) -> None:
    path = "optim_wrapper.paramwise_cfg.custom_keys"
    wrapper = wrapper_of(composed, mixins, f"{path}.backbone.lr_mult=0.1", f"{path}={{head.fc:{{lr_mult:2}}}}")
    expected = {"backbone": {"lr_mult": 0.1}, "head.fc": {"lr_mult": 2}}
    assert wrapper["paramwise_cfg"]["custom_keys"] == expected


REFUSED = [
    "optim_wrapper=[sgd,adamw]",
    "optim_wrapper=[Adagrad,adam]",
    "optim_wrapper=[sgd,amp_accum]",
    "optim_wrapper=[amp,amp_bf16]",
    "optim_wrapper=[sgd,ampp]",
    "optim_wrapper=[sgd,hybrid_muon]",
    "optim_wrapper=[layer_decay,hybrid_muon]",
    "optim_wrapper.hidden_optimizer.lr=1",
    "optim_wrapper.paramwise_cfg.decay_factor=0.5",
    "optim_wrapper=[sgd,layer_decay] optim_wrapper.paramwise_cfg.decay_fctor=0.5",
    "optim_wrapper=hybrid_muon optim_wrapper.hidden_optimizer.nestrov=true",
    "optim_wrapper.loss_scale=512",
    "optim_wrapper.dtype=float16",
    "optim_wrapper.acumulative_counts=2",
    "optim_wrapper.accumulative_counts=two",
    "optim_wrapper.clip_grad.maxnorm=1",
    "optim_wrapper.paramwise_cfg.norm_deacy_mult=0",
    "optim_wrapper=adamw optim_wrapper.optimizer.momentum=0.9",
    "optim_wrapper=Adagrad optim_wrapper.optimizer.betas=[0.9,0.9]",
    "schedule=StepLR schedule.lr.gama=0.1",
    "epochs=many",
]


@pytest.mark.parametrize("overrides", one_in(3, REFUSED))
def test_what_does_not_fit_is_refused_at_composition(composed: Composed, overrides: str) -> None:
    with pytest.raises(ConfigCompositionException):
        composed(*overrides.split())


def test_changing_a_composed_config_does_not_change_the_next_one(composed: Composed) -> None:
    first = composed("optim_wrapper=[Adagrad,clip]")
    first.optim_wrapper.optimizer.lr = 7.0
    first.optim_wrapper.paramwise_cfg.custom_keys.head = {"lr_mult": 2}
    second = composed("optim_wrapper=[Adagrad,clip]").optim_wrapper
    assert second.optimizer.lr == 0.01
    assert second.paramwise_cfg.custom_keys == {}


def test_registering_twice_changes_nothing() -> None:
    store.register()
    before = ConfigStore.instance().load("schema/train.yaml").node
    store.register()
    assert ConfigStore.instance().load("schema/train.yaml").node == before
