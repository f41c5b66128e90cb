import dataclasses
import inspect

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from optwrap.config import schemas
from optwrap.config.help import field_docs

CLASSES = [cls for cls in vars(schemas).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_documented(cls: type) -> None:
    own = set(cls.__annotations__)
    assert own
    assert field_docs(cls).keys() == own


@pytest.mark.parametrize(
    ("addition", "base"),
    [
        (schemas.AmpOptimWrapperConfig, schemas.OptimWrapperConfig),
        (schemas.HybridOptimWrapperConfig, schemas.OptimWrapperConfig),
        (schemas.LayerDecayParamwiseConfig, schemas.ParamwiseConfig),
    ],
)
def test_an_addition_leaves_every_inherited_field_alone(addition: type, base: type) -> None:
    node = schemas.addition(addition)
    inherited = {item.name for item in dataclasses.fields(base)} - set(addition.__annotations__)
    assert inherited
    for name in inherited:
        assert OmegaConf.is_missing(node, name), name


def test_amp_schema_keeps_what_was_set_before_it() -> None:
    plain = OmegaConf.structured(schemas.OptimWrapperConfig(optimizer={"lr": 1}, accumulative_counts=3))
    merged = OmegaConf.merge(plain, schemas.addition(schemas.AmpOptimWrapperConfig))
    assert (merged.accumulative_counts, merged.optimizer.lr, merged.loss_scale) == (3, 1, "dynamic")


def test_a_new_wrapper_among_several_has_every_field_and_no_other() -> None:
    several = OmegaConf.merge(schemas.several_wrappers(), {"encoder": {"optimizer": {"lr": 1}}})
    assert (several.encoder.accumulative_counts, several.encoder.clip_grad.max_norm) == (1, None)
    with pytest.raises(ConfigKeyError, match="acumulative_counts"):
        OmegaConf.merge(several, {"encoder": {"acumulative_counts": 2}})
    with pytest.raises(ValidationError):
        OmegaConf.merge(several, {"accumulative_counts": 2})


def test_clipping_and_paramwise_factors_are_off_but_can_be_set_below() -> None:
    wrapper = OmegaConf.structured(schemas.OptimWrapperConfig)
    OmegaConf.update(wrapper, "clip_grad.max_norm", 1)
    OmegaConf.update(wrapper, "paramwise_cfg.bias_lr_mult", 2)
    assert (wrapper.clip_grad.max_norm, wrapper.paramwise_cfg.bias_lr_mult) == (1.0, 2.0)


def test_fields_and_defaults_are_those_that_the_library_takes() -> None:
    """The schemas import no torch, so they say again what the library's own signatures say."""
    from optwrap.optim import AmpOptimWrapper, ParamwiseRules
    from optwrap.optim.assignment import batch_scaling
    from optwrap.optim.averaging import average
    from optwrap.optim.perturbation import sam
    from optwrap.optim.step.clip import ClipNorm, ClipValue

    def fields(cls: type) -> dict[str, object]:
        return {item.name: item.default for item in dataclasses.fields(cls) if item.name != "custom_keys"}

    assert fields(schemas.ParamwiseConfig) == fields(ParamwiseRules)
    assert set(fields(schemas.ClipGradConfig)) == {"type", *fields(ClipNorm), *fields(ClipValue)}
    wrapper_arguments = {
        *inspect.signature(AmpOptimWrapper).parameters,
        "_target_",
        "calls_per_batch",
        "constructor",
        "paramwise_cfg",
        "freeze",
        "auto_scale_lr",
    }
    amp_fields = {item.name for item in dataclasses.fields(schemas.AmpOptimWrapperConfig)}
    assert amp_fields == wrapper_arguments
    assert fields(schemas.AveragingConfig) == average.FIELDS
    assert fields(schemas.SamConfig) == sam.FIELDS
    assert tuple(fields(schemas.AutoScaleConfig)) == batch_scaling.FIELDS
