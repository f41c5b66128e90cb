import copy

import pytest
import torch
from torch import nn

from optwrap.checkpoint.init_from import init_weights
from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper, named_state_dict


def net(classes=3):
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


def checkpoint_of(model, averaging=None):
    cfg = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "averaging": averaging}
    optim_wrapper = build_optim_wrapper(model, cfg)
    for _ in range(3):
        optim_wrapper.update_params(model(torch.randn(5, 4)).square().mean())
    return {"model": model.state_dict(), "optim_wrapper": named_state_dict(optim_wrapper)}, optim_wrapper


def test_what_fits_is_loaded_and_the_rest_is_named(tmp_path, caplog):
    source, model = net(), nn.Sequential(*net(classes=7), nn.PReLU())
    before = copy.deepcopy(model.state_dict())
    torch.save({**source.state_dict(), "old.weight": torch.ones(2)}, tmp_path / "weights.pt")
    with caplog.at_level("INFO"):
        init_weights(model, str(tmp_path / "weights.pt"))
    after = model.state_dict()
    assert torch.equal(after["0.weight"], source[0].weight)
    assert all(torch.equal(after[name], before[name]) for name in ("2.weight", "2.bias", "3.weight"))
    assert (
        "7 of the model's 10 tensors. Other shapes: 2.weight (3, 8), 2.bias (3,); not there: 3.weight"
        in caplog.text
    )
    assert "left over: old.weight" in caplog.text


@pytest.mark.parametrize("averaging", [None, {"kind": "ema", "decay": 0.5}])
def test_of_a_run_it_is_what_the_run_evaluates(averaging, tmp_path):
    source, model = net(), net()
    state, optim_wrapper = checkpoint_of(source, averaging)
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "update_000003.pt")
    init_weights(model, str(tmp_path / "run"))
    with optim_wrapper.evaluation_weights():
        torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_names_that_ddp_has_wrapped_are_found(tmp_path):
    source, model = net(), net()
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, tmp_path / "ddp.pt")
    init_weights(model, str(tmp_path / "ddp.pt"))
    torch.testing.assert_close(model.state_dict(), source.state_dict())


class Runs:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"init_from=.*there is no such file or folder"),
        (
            {"other.weight": torch.ones(1)},
            r"none of its 1 tensors fits the model. Not there: 0.weight, .*other.weight",
        ),
        ({"weights": Runs()}, r"init_from=.*this is no readable checkpoint"),
        ([1, 2], r"it holds a list"),
    ],
)
def test_what_cannot_be_taken_is_named(content, message, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=rf"(?i){message}"):
        init_weights(net(), str(path))
    assert "this ran" not in capsys.readouterr().out


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=rf"init_from={tmp_path}: .*there is no checkpoint"):
        init_weights(net(), str(tmp_path))
