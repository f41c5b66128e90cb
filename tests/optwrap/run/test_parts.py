import torch
from omegaconf import OmegaConf

from optwrap.run.parts import build_model
from optwrap.run.setup import Process


def test_channels_last_and_compile_keep_the_names(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    conv = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3}
    cfg = OmegaConf.create({"model": conv, "channels_last": True, "compile": True})
    model = build_model(cfg, Process(torch.device("cpu")))
    assert compiled == [model]
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]
