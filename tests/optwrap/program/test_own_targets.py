import pytest
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.program.own_targets import fit_own_targets, take_typed, warn_of_new_keys, with_new_keys
from tests.pages import ROOT

NET = "torch.nn.Linear"  # takes in_features, out_features, bias, device, dtype


def config(**model):
    chosen = {"_target_": NET, "in_features": 8, "width": 32, "out_features": "${data.classes}", **model}
    return OmegaConf.create({"model": chosen, "data": {"classes": 10}})


def test_a_target_that_was_typed_keeps_what_it_takes_of_the_chosen_option():
    cfg = config()
    fit_own_targets(cfg, [f"model._target_={NET}"])
    assert dict(cfg.model) == {"_target_": NET, "in_features": 8, "out_features": 10}


def test_what_was_typed_stays_for_an_error_that_names_it():
    cfg = config(widht=3)
    fit_own_targets(cfg, [f"model._target_={NET}", "++model.widht=3"])
    assert list(cfg.model) == ["_target_", "in_features", "out_features", "widht"]


def test_what_other_parts_read_stays():
    cfg = config()
    cfg.data._target_ = "torch.utils.data.TensorDataset"
    fit_own_targets(cfg, ["data._target_=torch.nn.Linear"])
    assert cfg.data.classes == 10


@pytest.mark.parametrize("overrides", [[], ["model=vit"], ["model.width=8"], [f"optim_wrapper._target_={NET}"]])
def test_without_a_target_typed_nothing_changes(overrides):
    cfg = config()
    fit_own_targets(cfg, overrides)
    assert cfg == config()
    assert with_new_keys(overrides) == overrides


def test_a_value_that_reads_like_a_key_of_the_group_is_none():
    cfg = config()
    fit_own_targets(cfg, [f"model._target_={NET}", "+tag=model.width", "+note=a.model.x"])
    assert list(cfg.model) == ["_target_", "in_features", "out_features"]


def test_a_class_inside_of_it_needs_no_plus_either():
    typed = [f"model._target_={NET}", "model.norm._target_=torch.nn.Identity"]
    assert with_new_keys(typed) == [typed[0], f"++{typed[1]}"]


def test_arguments_of_a_target_that_was_typed_need_no_plus():
    typed = ["-m", "model.depth=2", f"model._target_={NET}", "models.x=1", "+model.a=1"]
    assert with_new_keys(typed) == ["-m", "++model.depth=2", f"model._target_={NET}", "models.x=1", "+model.a=1"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+foo=3", "+foo=3: a new key, which only code of your own can read."),
        ("+epoch=3", "+epoch=3: a new key, which only code of your own can read. Did you mean 'epochs'?"),
        ("+used=1", None),
        ("+seed=1", None),
        ("+data.new=1", None),
        ("seed=1", None),
    ],
)
def test_a_key_that_nothing_reads_is_a_warning(override, said, caplog):
    cfg = OmegaConf.create({"seed": 1, "foo": 3, "epoch": 3, "used": 1, "data": {"new": 1, "x": "${used}"}})
    warn_of_new_keys(cfg, [override])
    assert [record.getMessage() for record in caplog.records] == ([said] if said else [])


CONF = ROOT / "conf"


def test_loggers_are_checked_where_a_run_is_composed_and_not_in_a_program_of_ones_own():
    take_typed(OmegaConf.create({"logger": {"level": "INFO"}}), [], CONF)
    with pytest.raises(ConfigError, match=r"logger\.level=INFO: a logger is a node"):
        take_typed(OmegaConf.create({"logger": {"level": "INFO"}, "optim_wrapper": {}}), [], CONF)
