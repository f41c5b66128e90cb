import collections

import pytest
import torch
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


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "os.remove", "shutil.rmtree", "pickle.loads"),
        *("logging.os.system", "logging.os.kill", "os.path.os.kill", "optwrap.instantiate.inspect.getsource"),
    ],
)
def test_dangerous_targets_are_refused(target):
    for call in (build, locate):
        with pytest.raises(ConfigError, match="blocklisted"):
            call({"_target_": target} if call is build else target, "x")
    with pytest.raises(ConfigError, match="blocklisted"):
        build({"_target_": "builtins.dict", "a": [{"_target_": target, "_args_": ["no such file"]}]}, "x")
    with pytest.raises(ConfigError, match="blocklisted"):
        build({"_target_": "builtins.dict", "a": {"_target_": "hydra.utils.get_method", "path": target}}, "x")


def test_a_target_may_lie_in_any_package_and_return_what_can_be_called():
    nested = {
        "class_": {"_target_": "hydra.utils.get_class", "path": "torch.nn.ReLU"},
        "module": {"_target_": "torch.nn.ReLU"},
        "of_a_factory": {"_target_": f"{__name__}.factory"},
        "path": {"_target_": "os.path.join", "_args_": ["a", "b"]},
        "later": {"_target_": "torch.nn.Linear", "_partial_": True, "in_features": 1},
    }
    built = build({"_target_": "builtins.dict", **nested}, "x")
    assert built["class_"] is torch.nn.ReLU
    assert isinstance(built["of_a_factory"], torch.nn.Identity)
    assert built["path"] == "a/b"
    assert built["later"](out_features=2).weight.shape == (2, 1)


def factory():
    return torch.nn.Identity()


def test_nothing_warns_of_what_the_next_hydra_wants(recwarn):
    build({"_target_": "builtins.dict", "a": {"_target_": "torch.nn.ReLU"}}, "x")
    assert [str(warning.message) for warning in recwarn] == []


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


def test_a_key_that_another_is_read_from_and_that_is_not_there_is_named():
    cfg = OmegaConf.create(
        {"model": {"_target_": "torch.nn.Linear", "out_features": "${data.num_classes}"}, "data": {}}
    )
    with pytest.raises(
        ConfigError, match=r"data\.num_classes is not set, and model\.out_features is read from it: add"
    ):
        plain(cfg.model, "model")


def test_argument_names_of_callables():
    assert argument_names(collections.namedtuple("Point", "x y")) == ["x", "y"]
    assert argument_names(dict) is None
    assert argument_names(lambda a, **rest: a) is None


def test_partial_binds_without_calling():
    assert partial({"_target_": "builtins.complex", "real": 2.0}, "x")(imag=1.0) == 2 + 1j


def test_an_arguments_own_default_always_fits():
    assert build({"_target_": "torch.nn.AvgPool1d", "kernel_size": 2, "stride": None}, "x").stride == (2,)
