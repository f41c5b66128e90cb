import collections

import pytest
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.instantiate import argument_names, build, locate, partial, plain


def test_a_target_is_called_with_arguments_from_both_sides():
    assert build({"_target_": "builtins.complex", "imag": 2.0}, "x", 1.0) == 1 + 2j
    assert build(OmegaConf.create({"_target_": "builtins.dict", "a": [1, 2]}), "x") == {"a": [1, 2]}


def test_containers_become_plain_and_the_config_stays(toy_model):
    cfg = OmegaConf.create({"_target_": "builtins.dict", "betas": [0.9, 0.99], "inner": {"a": 1}})
    built = build(cfg, "x")
    assert (type(built["betas"]), type(built["inner"])) == (list, dict)
    assert cfg._target_ == "builtins.dict"


def test_a_class_itself_can_be_the_target():
    class Local:
        def __init__(self, value):
            self.value = value

    assert build({"_target_": Local, "value": 3}, "x").value == 3


@pytest.mark.parametrize(
    ("arguments", "built"),
    [
        ({"a": {"_target_": "builtins.complex", "real": 2.0}}, {"a": 2 + 0j}),
        ({"a": [[1], {"_target_": "builtins.complex", "real": 2.0}]}, {"a": [[1], 2 + 0j]}),
        ({"b": "ab", "a": "${b}c"}, {"b": "ab", "a": "abc"}),
        ({"_args_": [[["a", 1]]]}, {"a": 1}),
    ],
)
def test_what_hydra_understands_is_understood(arguments, built):
    assert build({"_target_": "builtins.dict", **arguments}, "x") == built


def test_plain_copies_nested_containers():
    cfg = {"a": {"b": [1]}}
    copy = plain(cfg, "x")
    copy["a"]["b"].append(2)
    assert cfg == {"a": {"b": [1]}}


def test_dangerous_targets_are_refused():
    for target in ("os.system", "subprocess.Popen", "builtins.eval"):
        with pytest.raises(ConfigError):
            build({"_target_": target}, "x", "true")
        with pytest.raises(ConfigError):
            locate(target, "x")


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({}, "x._target_ is not set"),
        ({"type": "SGD"}, "spelled _target_"),
        ({"_target_": "collections.OrderdDict"}, "x._target_='collections.OrderdDict'.*'OrderedDict'"),
        ({"_target_": "no.such.module"}, "cannot be imported"),
        ({"_target_": "datetime.timedelta", "days": "???"}, "x.days is not set"),
        ({"_target_": "torch.optim.SGD", "rl": 1.0}, "x.rl: SGD has no argument 'rl'.*, lr,"),
        ({"_target_": "torch.optim.SGD", "lr": -2}, "x.lr=-2: Invalid learning rate"),
        (7, "x=7"),
    ],
)
def test_errors_name_the_key_and_the_remedy(cfg, said, toy_model):
    with pytest.raises(ConfigError, match=said):
        build(cfg, "x", toy_model.parameters())


def test_argument_names_of_callables():
    assert argument_names(collections.namedtuple("Point", "x y")) == ["x", "y"]
    assert argument_names(dict) is None
    assert argument_names(lambda a, **rest: a) is None


def test_partial_binds_without_calling():
    assert partial({"_target_": "builtins.complex", "real": 2.0}, "x")(imag=1.0) == 2 + 1j


def test_an_arguments_own_default_always_fits():
    assert build({"_target_": "torch.nn.AvgPool1d", "kernel_size": 2, "stride": None}, "x").stride == (2,)
