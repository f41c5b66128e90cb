import os

import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper
from optwrap.run import checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def state(toy_model):
    cfg = {"optimizer": {"_target_": "torch.optim.AdamW"}, "paramwise_cfg": {"norm_decay_mult": 0}}
    optim_wrapper = build_optim_wrapper(toy_model, cfg)
    optim_wrapper.update_params(sum(p.sum() for p in toy_model.parameters()))
    return {"model": toy_model.state_dict(), "optim_wrapper": optim_wrapper.state_dict(), "micro_batches": 1}


def test_what_was_saved_comes_back(state, tmp_path):
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "c.pt", CPU)
    torch.testing.assert_close(loaded["model"], state["model"], rtol=0, atol=0)
    torch.testing.assert_close(loaded["optim_wrapper"]["state"], state["optim_wrapper"]["state"], rtol=0, atol=0)
    assert loaded["optim_wrapper"]["param_groups"] == state["optim_wrapper"]["param_groups"]
    assert os.listdir(tmp_path) == ["c.pt"]


def test_a_failed_save_leaves_the_earlier_one(state, tmp_path):
    checkpoint.save(tmp_path / "c.pt", state)
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path / "c.pt", {"model": lambda: None})
    assert checkpoint.load(tmp_path / "c.pt", CPU)["micro_batches"] == 1


class Runs:
    def __reduce__(self):
        return os.mkdir, ("/tmp/a-checkpoint-ran-this",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_or_hostile_file_is_an_error_and_is_not_run(content, tmp_path):
    path = tmp_path / "c.pt"
    if content is None:
        torch.save({"model": Runs()}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        checkpoint.load(path, CPU)
    assert not os.path.exists("/tmp/a-checkpoint-ran-this")


def test_a_truncated_file_is_an_error(state, tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, state)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        checkpoint.load(path, CPU)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "c.pt", CPU)


def test_weights_of_another_model_are_an_error(state, tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)does not fit the model.*head.linear.weight"):
        checkpoint.load_model(nn.Linear(1, 1), state, tmp_path)
