"""Reading configs: bases of both kinds, variables, names that are not imported, and what is wrong with a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optwrap.errors import ConfigError
from optwrap.from_mmengine.reading.config import read_config

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_config_goes_over_its_bases_mapping_by_mapping(write: Write) -> None:
    write("base/model.py", "model = dict(depth=50, head=dict(classes=10, dim=8))\n")
    write("base/schedule.py", "_base_ = 'more.py'\nlr = 0.1\n")
    write("base/more.py", "seed = 3\n")
    path = write(
        "own.py",
        "_base_ = ['base/model.py', './base/schedule.py']\n"
        "model = dict(head=dict(classes=5), neck=dict(a=(1, 2)))\n",
    )
    assert read_config(path) == {
        "model": {"depth": 50, "head": {"classes": 5, "dim": 8}, "neck": {"a": [1, 2]}},
        "lr": 0.1,
        "seed": 3,
    }


def test_delete_replaces_a_mapping_and_stays_nowhere(write: Write) -> None:
    write("base.py", "model = dict(a=1)\nother = dict(a=1)\n")
    new = "new = dict(_delete_=True, inner=dict(_delete_=True))\n"
    text = f"_base_ = 'base.py'\nmodel = dict(_delete_=True, b=2)\n{new}"
    assert read_config(write("own.py", text)) == {"model": {"b": 2}, "other": {"a": 1}, "new": {"inner": {}}}


def test_a_config_reads_and_changes_what_its_bases_say(write: Write) -> None:
    write("base.py", "batch = dict(size=[4, 8])\nmodel = dict(a=1)\n")
    text = (
        "_base_ = 'base.py'\nsize = _base_.batch.size[1]\nagain = {{_base_.batch.size}}\n"
        "part = _base_.model\npart.a = 2\npart.update(dict(b=3))\ndel _base_.model\n"
    )
    expected = {"batch": {"size": [4, 8]}, "size": 8, "again": [4, 8], "part": {"a": 2, "b": 3}}
    assert read_config(write("own.py", text)) == expected


def test_what_is_put_into_a_base_does_not_follow_its_source(write: Write) -> None:
    write("base.py", "data = dict(steps=[])\n")
    text = "_base_ = 'base.py'\nsteps = [dict(size=1)]\n_base_.data.steps = steps\nsteps[0]['size'] = 2\n"
    assert read_config(write("own.py", text)) == {"data": {"steps": [{"size": 1}]}, "steps": [{"size": 2}]}


def test_a_lazy_config_takes_its_bases_by_import_and_names_as_texts(write: Write) -> None:
    write("base/model.py", "from mmpretrain.models import ResNet\nmodel = dict(type=ResNet, depth=50)\nlr = 1\n")
    path = write(
        "own/config.py",
        "import math\nimport torch\nfrom torch.optim import SGD\nfrom mmengine.config import read_base\n\n"
        "with read_base():\n    from ..base.model import *\n    from ..base.model import lr as base_lr\n\n"
        "model.merge(dict(depth=101))\nmodel.update(norm=dict(type='BN'))\n"
        "optim_wrapper = dict(optimizer=dict(type=SGD, lr=base_lr * 0.5), "
        "dtype=torch.float16, root=math.sqrt(4))\n",
    )
    assert read_config(path) == {
        "model": {"type": "mmpretrain.models.ResNet", "depth": 101, "norm": {"type": "BN"}},
        "lr": 1,
        "base_lr": 1,
        "optim_wrapper": {
            "optimizer": {"type": "torch.optim.SGD", "lr": 0.5},
            "dtype": "torch.float16",
            "root": 2.0,
        },
    }


def test_what_a_config_calls_is_imported(write: Write) -> None:
    text = "from yaml import safe_load\nmodel = safe_load('{a: 1}')\n"
    assert read_config(write("own.py", text)) == {"model": {"a": 1}}


def test_variables_of_the_file_and_of_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_ROOT", "/data")
    text = (
        "name = '{{ fileBasenameNoExtension }}{{fileExtname}}'\nplace = '{{ fileDirname }}'\n"
        "root = '{{ $OWN_ROOT:data }}'\nother = '{{$OWN_UNSET:default}}'\n"
    )
    path = write("own.py", text)
    place = path.parent.as_posix()
    assert read_config(path) == {"name": "own.py", "place": place, "root": "/data", "other": "default"}


def test_yaml_and_json_are_configs_too(write: Write) -> None:
    write("base.yaml", "lr: 0.1\nmodel: {a: 1}\n")
    path = write("own.json", json.dumps({"_base_": "base.yaml", "model": {"b": 2}}))
    assert read_config(path) == {"lr": 0.1, "model": {"a": 1, "b": 2}}


def test_helpers_of_a_config_are_no_entries(write: Write) -> None:
    text = "import os\nfrom copy import deepcopy\ndef twice(x):\n    return 2 * x\nlr = twice(deepcopy(2))\n"
    assert read_config(write("own.py", text)) == {"lr": 4}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "own.py: there is no such file"),
        ({"own.py": "_base_ = 'base.py'"}, "base.py, a base of .*own.py: there is no such file"),
        ({"own.py": "x = 1\nmodel = dict("}, "own.py, line 2: '.' was never closed"),
        ({"own.py": "x = 1\ny = 1 / 0"}, "own.py, line 2: ZeroDivisionError: division by zero"),
        ({"own.py": "_base_ = 'own.py'"}, "own.py: it is a base of itself"),
        ({"own.py": "_base_ = ['a.py', 'b.py']", "a.py": "x = 1", "b.py": "x = 2"}, "own.py: x stands in two"),
        ({"own.py": "_base_ = 'a.py'\nx = dict(a=1)", "a.py": "x = 2"}, "own.py: x: a mapping cannot be merged"),
        ({"own.py": "_base_ = name"}, "own.py, line 1: _base_ is a text"),
        ({"own.py": "_base_ = 3"}, "own.py: _base_ is a text"),
        ({"own.py": "x = '{{ $OWN_UNSET: }}'"}, "own.py: it asks for the environment variable OWN_UNSET"),
        ({"own.py": "from nowhere.at_all import f\nx = f(1)"}, "own.py: the config calls nowhere.at_all.f"),
        ({"own.py": "raise SystemExit(0)"}, "own.py, line 1: SystemExit: 0"),
        ({"own.py": "_base_ = 'nowhere_at_all::a.py'"}, "lies in nowhere_at_all, which is not installed"),
        (
            {"own.py": "with read_base():\n    from .a import y", "a.py": "x = 1"},
            "own.py.*ImportError: the base a has no 'y'",
        ),
    ],
)
def test_what_is_wrong_is_one_message(write: Write, tmp_path: Path, files: dict[str, Any], said: str) -> None:
    for name, text in files.items():
        write(name, text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_config(tmp_path / "own.py")
    assert "\n" not in str(caught.value)


def test_what_is_no_config_is_one_message(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"a config is a file \.py"):
        read_config(write("own.txt", ""))
    (binary := write("own.py", "")).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is no text"):
        read_config(binary)
    with pytest.raises(ConfigError, match="it holds no mapping"):
        read_config(write("own.yaml", "[1, 2]"))
