import dataclasses

import pytest
from omegaconf import OmegaConf

from optwrap.config import schemas
from optwrap.config.help import field_docs

CLASSES = [cls for cls in vars(schemas).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_documented(cls: type) -> None:
    own = set(cls.__annotations__)
    assert own
    assert field_docs(cls).keys() == own


def test_amp_schema_leaves_every_inherited_field_alone() -> None:
    amp = OmegaConf.structured(schemas.AmpOptimWrapperConfig)
    for item in dataclasses.fields(schemas.OptimWrapperConfig):
        if item.name != "_target_":
            assert OmegaConf.is_missing(amp, item.name), item.name


def test_amp_schema_keeps_what_was_set_before_it() -> None:
    plain = OmegaConf.structured(schemas.OptimWrapperConfig(optimizer={"lr": 1}, accumulative_counts=3))
    merged = OmegaConf.merge(plain, schemas.AmpOptimWrapperConfig)
    assert (merged.accumulative_counts, merged.optimizer.lr, merged.loss_scale) == (3, 1, "dynamic")


def test_clipping_and_paramwise_factors_are_off_but_can_be_set_below() -> None:
    wrapper = OmegaConf.structured(schemas.OptimWrapperConfig)
    OmegaConf.update(wrapper, "clip_grad.max_norm", 1)
    OmegaConf.update(wrapper, "paramwise_cfg.bias_lr_mult", 2)
    assert (wrapper.clip_grad.max_norm, wrapper.paramwise_cfg.bias_lr_mult) == (1.0, 2.0)
