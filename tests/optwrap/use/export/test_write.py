"""export.py: what is exported computes what the run's checkpoint does, and says what it takes."""

import json
import os
import sys

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import TensorDataset

import export
from optwrap import vision
from optwrap.errors import ConfigError
from optwrap.run.loaders import make_loaders
from optwrap.run.setup import Process
from optwrap.use.export.write import chosen_formats, write_exports
from optwrap.use.trained import Trained
from optwrap.vision import ClassificationTask
from tests.optwrap.use.conftest import SHORT


def made_of(folder, model, task=None, shape=(4,)):
    """A trained model by hand, with data of this shape."""
    samples = TensorDataset(torch.randn(6, *shape), torch.randint(3, (6,)))
    data = make_loaders({"train": samples, "val": samples}, 4, 0, 0, Process(torch.device("cpu")))
    cfg = OmegaConf.create({"data": {}, "model": {}, "task": {"num_classes": 3}})
    return Trained(folder, cfg, model, task or ClassificationTask(model, 3), data, "last", "raw", 3)


def run_onnx(path, inputs):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return torch.from_numpy(output), session.get_modelmeta().custom_metadata_map


@torch.no_grad()
def test_program_and_weights_compute_what_the_checkpoint_does_and_say_what_they_take(
    digits_run, digits_model, tmp_path, capsys
):
    load_file = pytest.importorskip("safetensors.torch").load_file
    done = export.main([f"run={digits_run}", f"out={tmp_path}", "to=[program,safetensors]"])
    assert [each.difference for each in done] == [0, 0]
    assert f"{tmp_path}/model.pt2: differs from the run's model by 0 at most" in capsys.readouterr().out

    extra, images = {"metadata.json": ""}, torch.randn(7, 1, 8, 8)
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    torch.testing.assert_close(program.module()(images), digits_model(images), rtol=1e-4, atol=1e-4)
    model = vision.SmallCNN(1, 10).eval()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model(images), digits_model(images))

    metadata, train = json.loads(extra["metadata.json"]), vision.digits().train.images / 255
    numbers = json.loads(metadata["preprocessing"])
    assert numbers["mean"] == pytest.approx([train.mean().item()], rel=1e-5)
    assert numbers["std"] == pytest.approx([train.std(correction=0).item()], rel=1e-5)
    assert (numbers["image_size"], numbers["channels"], numbers["scale"]) == (8, 1, 1 / 255)
    assert (metadata["num_classes"], metadata["updates"], metadata["checkpoint"]) == ("10", "6", "last")
    assert metadata.keys() >= {"run", "commit", "torch", "model"}
    assert json.loads(metadata["inputs"]) == [{"name": "images", "shape": ["batch", 1, 8, 8], "dtype": "float32"}]
    record = json.loads((tmp_path / "export.json").read_text())
    assert {name: each["metadata"] for name, each in record.items()} == {
        "program": metadata,
        "safetensors": metadata,
    }


MODELS = {
    "small_cnn": ["model=small_cnn", "optim_wrapper=amp_accum"],
    "resnet18": ["model=resnet18", "data=fake", "data.size=64", "data.eval_size=24", "optim_wrapper=[sgd,ema]"],
    "small_vit": ["model=small_vit", "optim_wrapper=schedule_free", "channels_last=true"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_onnx_and_program_agree_with_the_checkpoint_to_1e_4(name, train):
    folder = train(*SHORT, *MODELS[name])
    done = export.main([f"run={folder}", "to=onnx,program,safetensors", "weights=raw"])
    assert all(each.difference <= 1e-4 * max(1, each.scale) for each in done)
    cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
    model = {
        "small_cnn": lambda: vision.SmallCNN(1, 10),
        "resnet18": lambda: vision.torchvision_model(**arguments(cfg.model)),
        "small_vit": lambda: vision.SmallViT(**arguments(cfg.model)),
    }[name]().eval()
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    images = torch.randn(7, cfg.data.channels, cfg.data.image_size, cfg.data.image_size)
    with torch.no_grad():
        expected = model(images)
    tolerance = {"rtol": 0, "atol": 1e-4 * max(1, expected.abs().max().item())}
    onnx, metadata = run_onnx(folder / "export" / "model.onnx", images)
    torch.testing.assert_close(onnx, expected, **tolerance)
    torch.testing.assert_close(
        torch.export.load(folder / "export" / "model.pt2").module()(images), expected, **tolerance
    )
    assert json.loads(metadata["preprocessing"])["channels"] == cfg.data.channels


def arguments(node):
    return {name: value for name, value in OmegaConf.to_container(node, resolve=True).items() if name[0] != "_"}


@pytest.mark.slow
def test_what_is_exported_are_the_weights_that_the_run_evaluates(train):
    load_file = pytest.importorskip("safetensors.torch").load_file
    folder = train(*SHORT, "optim_wrapper=[sgd,ema]")
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    found = {}
    for weights in ("evaluated", "raw"):
        export.main([f"run={folder}", "to=safetensors", f"weights={weights}"])
        found[weights] = load_file(folder / "export" / "model.safetensors")
    assert torch.equal(found["raw"]["head.weight"], saved["head.weight"])
    assert not torch.equal(found["evaluated"]["head.weight"], saved["head.weight"])


class TiedTwoInputs(nn.Module):
    """Two inputs, two outputs, tied weights, batch norm."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second.weight = self.first.weight

    def forward(self, left, right):
        hidden = self.norm(self.first(left))
        return {"sum": hidden + right, "scores": [self.second(hidden)]}


class TwoInputs:
    """A task that says what is exported."""

    def export_inputs(self, batch):
        return batch[0], batch[0] + 1


@torch.no_grad()
def test_a_task_says_what_its_model_is_called_with(tmp_path):
    pytest.importorskip("safetensors")
    model = TiedTwoInputs().eval()
    write_exports(made_of(tmp_path, model, TwoInputs()), ["program", "safetensors"], tmp_path, 1e-4)
    inputs = torch.randn(7, 4), torch.randn(7, 4)
    found, expected = torch.export.load(tmp_path / "model.pt2").module()(*inputs), model(*inputs)
    torch.testing.assert_close(found, expected)
    metadata = json.loads((tmp_path / "export.json").read_text())["program"]["metadata"]
    assert [each["name"] for each in json.loads(metadata["inputs"])] == ["left", "right"]
    assert len(json.loads(metadata["outputs"])) == 2


class OtherWhenExported(nn.Linear):
    """Computes something else under tracing."""

    added = 1.0

    def forward(self, x):
        return super().forward(x) + (self.added if torch.compiler.is_exporting() else 0)


class NanWhenExported(OtherWhenExported):
    added = float("nan")


@pytest.mark.parametrize("kind", [OtherWhenExported, NanWhenExported])
def test_what_computes_something_else_is_an_error_and_set_aside(kind, tmp_path):
    write_exports(made_of(tmp_path, nn.Linear(4, 3)), ["program"], tmp_path, 1e-4)
    before = (tmp_path / "model.pt2").read_bytes()
    with pytest.raises(ConfigError, match=r"differs from the run's by (1|nan) .*differs/model\.pt2"):
        write_exports(made_of(tmp_path, kind(4, 3)), ["program"], tmp_path, 1e-4)
    assert (tmp_path / "model.pt2").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["differs", "export.json", "model.pt2"]
    write_exports(made_of(tmp_path, nn.Linear(4, 3)), ["program"], tmp_path, 1e-4)
    assert sorted(os.listdir(tmp_path)) == ["export.json", "model.pt2"]


class OfTwo(nn.Linear):
    def forward(self, x):
        return super().forward(x.reshape(2, 4))


class OfAny(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Named(nn.Linear):
    def forward(self, x):
        return "no tensor"


class Text:
    def export_inputs(self, batch):
        return "text"


@pytest.mark.parametrize(
    ("model", "task", "said"),
    [
        (OfAny(4, 3), None, r"torch\.export cannot trace OfAny .*to=safetensors exports the weights"),
        (
            OfTwo(4, 3),
            None,
            r"the model cannot be called with tensors of shape \[\(4, 4\)\].*export_inputs\(batch\)",
        ),
        (Named(4, 3), None, r"the model returned str, not tensors"),
        (nn.Linear(4, 3), Text(), r"inputs of type str: .*Give Text a method export_inputs"),
    ],
)
def test_what_cannot_be_exported_says_what_to_do(model, task, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        write_exports(made_of(tmp_path, model, task), ["program"], tmp_path, 1e-4)
    assert os.listdir(tmp_path) == []


def test_half_precision_is_exported_in_full(tmp_path):
    done = write_exports(made_of(tmp_path, nn.Linear(4, 3).bfloat16()), ["program"], tmp_path, 1e-4)
    program = torch.export.load(done[0].path)
    assert {each.dtype for each in program.state_dict.values()} == {torch.float32}


def test_a_missing_package_is_said_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"to=onnx needs the package onnxruntime: pip install -e '\.\[onnx\]'"):
        chosen_formats("onnx")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("to=onx", r"to=onx: 'onx' is none of onnx, program, safetensors\. Did you mean 'onnx'"),
        ("to=[program,]", r"'' is none of"),
        ("tolerance=small", r"tolerance=small: it is a number from 0"),
        ("tolerence=1", r"Did you mean 'tolerance'"),
        ("device=cuda", r"device=cuda: a plain model is exported"),
        ("checkpoint=bets", r"checkpoint=bets: it is last or best"),
    ],
)
def test_what_does_not_fit_is_said_by_its_key(argument, said, digits_run):
    with pytest.raises(ConfigError, match=said):
        export.main([f"run={digits_run}", argument])
