"""Several wrappers in one config: each takes the mixins of a single one; all of it can be built."""

from collections.abc import Callable
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from optwrap.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict, build_optim_wrapper
from tests.optwrap.cases import one_in

Composed = Callable[..., DictConfig]
Orders = Callable[[list[str]], list[list[str]]]

LIST = ["adam", "amp", "clip", "accum2", "no_norm_decay"]


def generator_of(composed: Composed, mixins: list[str]) -> Any:
    cfg = composed("optim_wrapper=gan", f"optim_wrapper/generator=[{','.join(mixins)}]")
    return OmegaConf.to_container(cfg.optim_wrapper.generator)


def test_both_wrappers_of_a_gan_start_with_its_adam(composed: Composed) -> None:
    wrappers = composed("optim_wrapper=gan").optim_wrapper
    assert set(wrappers) == {"constructor", "generator", "discriminator"}
    for wrapper in (wrappers.generator, wrappers.discriminator):
        assert wrapper.optimizer._target_ == "torch.optim.Adam"
        assert (wrapper.optimizer.lr, list(wrapper.optimizer.betas)) == (2e-4, [0.5, 0.999])


@pytest.mark.slow
def test_a_wrapper_among_several_composes_like_a_single_one_in_any_order(
    composed: Composed, orders: Orders
) -> None:
    expected = OmegaConf.to_container(composed(f"optim_wrapper=[{','.join(LIST)}]").optim_wrapper)
    for order in orders(LIST):
        assert generator_of(composed, order) == expected, order


@pytest.mark.parametrize(
    "mixins", [["Adagrad"], ["amp_accum_clip"], ["hybrid_muon", "amp"], ["adamw", "layer_decay"]]
)
def test_stored_and_combined_options_are_there_too(composed: Composed, mixins: list[str]) -> None:
    expected = OmegaConf.to_container(composed(f"optim_wrapper=[{','.join(mixins)}]").optim_wrapper)
    assert generator_of(composed, mixins) == expected


def test_the_other_wrapper_is_left_alone(composed: Composed) -> None:
    before = composed("optim_wrapper=gan").optim_wrapper.discriminator
    after = composed("optim_wrapper=gan", "optim_wrapper/generator=[sgd,amp]").optim_wrapper.discriminator
    assert before == after


def test_fields_can_be_set_below_and_custom_keys_need_no_plus(composed: Composed) -> None:
    cfg = composed(
        "optim_wrapper=gan",
        "optim_wrapper/generator=[adam,amp]",
        "optim_wrapper.generator.loss_scale=8",
        "optim_wrapper.generator.paramwise_cfg.custom_keys.head.lr_mult=0.1",
        "optim_wrapper.discriminator.clip_grad.max_norm=0.5",
    ).optim_wrapper
    assert cfg.generator.loss_scale == 8
    assert cfg.generator.paramwise_cfg.custom_keys == {"head": {"lr_mult": 0.1}}
    assert cfg.discriminator.clip_grad.max_norm == 0.5


def test_names_of_ones_own_can_be_added_on_the_command_line(composed: Composed) -> None:
    cfg = composed("optim_wrapper=multi", "+optim_wrapper/encoder=[adam,amp]").optim_wrapper
    expected = composed("optim_wrapper=[adam,amp]").optim_wrapper
    assert OmegaConf.to_container(cfg.encoder) == OmegaConf.to_container(expected)


REFUSED = [
    "optim_wrapper/generator=[adam,sgd]",
    "optim_wrapper/generator=[adam,ampp]",
    "optim_wrapper/generatr=adam",
    "optim_wrapper.generator.loss_scale=8",
    "optim_wrapper.generator.acumulative_counts=2",
    "optim_wrapper.generator.optimizer.momentum=0.9",
    "optim_wrapper.generatr.accumulative_counts=2",
    "optim_wrapper.accumulative_counts=2",
    "optim_wrapper.clip_grad.max_norm=1",
    "optim_wrapper=[gan,clip]",
    "optim_wrapper=[accum2,gan]",
    "optim_wrapper=[gan,amp]",
    "optim_wrapper=[sgd,gan]",
    "optim_wrapper=[gan,hybrid_muon]",
]


@pytest.mark.parametrize("overrides", one_in(3, REFUSED))
def test_what_does_not_fit_is_refused_at_composition(composed: Composed, overrides: str) -> None:
    gan = [] if overrides.startswith("optim_wrapper=") else ["optim_wrapper=gan"]
    with pytest.raises(HydraException):
        composed(*gan, overrides)


class Net(nn.Module):
    """Two children, each with a block structure, a norm and hidden matrices."""

    def __init__(self) -> None:
        super().__init__()
        blocks = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2)))
        self.generator = nn.ModuleDict({"stem": nn.Linear(4, 4), "blocks": blocks, "head": nn.Linear(4, 2)})
        self.discriminator = nn.Linear(4, 1)


@pytest.mark.parametrize(
    ("mixins", "kind"),
    [
        ("[adamw,layer_decay]", OptimWrapper),
        ("[clip,layer_decay,amp,no_norm_decay,adamw]", AmpOptimWrapper),
        ("hybrid_muon", OptimWrapper),
        ("[accum2,amp,clip,hybrid_muon]", AmpOptimWrapper),
    ],
)
def test_what_is_composed_can_be_built(composed: Composed, mixins: str, kind: type) -> None:
    model = Net()
    single = build_optim_wrapper(model.generator, composed(f"optim_wrapper={mixins}").optim_wrapper)
    assert type(single) is kind
    several = build_optim_wrapper(
        model, composed("optim_wrapper=gan", f"optim_wrapper/generator={mixins}").optim_wrapper
    )
    assert isinstance(several, OptimWrapperDict)
    assert list(several) == ["generator", "discriminator"]
    assert type(several["generator"]) is kind
    assert len({each.options["lr"] for each in several["generator"].assignments}) > 1
    assert several["discriminator"].get_lr() == {"lr": [2e-4]}
