import pytest
import torch
import torchmetrics
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.run.loaders import make_loaders
from optwrap.run.parts import build_model, build_task
from optwrap.run.setup import Process


def built(compiled=False):
    conv = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3}
    cfg = OmegaConf.create({"model": conv, "channels_last": True, "compile": compiled})
    return build_model(cfg, Process(torch.device("cpu")))


@pytest.mark.parametrize(
    ("asked", "mode"), [(True, None), ("on", None), (1, None), ("reduce-overhead", "reduce-overhead")]
)
def test_channels_last_and_compile_keep_the_names(asked, mode, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: compiled.append((self, mode)))
    model = built(asked)
    assert compiled == [(model, mode)]
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize("asked", [False, "off", 0])
def test_a_model_is_not_compiled_unless_that_is_asked_for(asked, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: pytest.fail("compiled"))
    built(asked)


@pytest.mark.parametrize("asked", ["reduce_overhead", "max-autotun", 0.5, None])
def test_what_is_no_mode_of_torch_compile_is_an_error_that_lists_them(asked):
    with pytest.raises(ConfigError, match=rf"compile={asked}: it is true, false or one of default, "):
        built(asked)


class Told:
    """A task that keeps what it is told."""

    def __init__(self, model, vocabulary=None, size=1):
        self.vocabulary, self.size = vocabulary, size
        self.metrics = torchmetrics.MetricCollection({"loss": torchmetrics.MeanMetric()})


def test_a_task_is_given_what_the_data_has_for_it_where_it_has_such_an_argument():
    process = Process(torch.device("cpu"))
    samples = [(torch.zeros(2), 0)] * 4
    for_task = {"vocabulary": ["a", "b"], "colours": 3}
    cfg = OmegaConf.create({"task": {"_target_": f"{__name__}.Told", "size": 5}})
    for data, expected in (({"train": samples, "for_task": for_task}, ["a", "b"]), ({"train": samples}, None)):
        loaders = make_loaders(data, batch_size=2, num_workers=0, seed=0, process=process)
        task = build_task(cfg, torch.nn.Linear(2, 2), process, loaders)
        assert (task.vocabulary, task.size) == (expected, 5)
