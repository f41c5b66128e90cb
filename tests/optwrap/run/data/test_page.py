"""The data of one's own in docs/extend.md, in a run."""

import sys
from importlib import import_module
from types import ModuleType

import pytest

import evaluate
from tests.optwrap.run.data.runs import result, rows
from tests.pages import IS_TEMPLATE, blocks, section

pytestmark = pytest.mark.skipif(not IS_TEMPLATE, reason="a project need not have the pages")


@pytest.fixture
def command(monkeypatch):
    """As if the page's code stood in experiments/crops.py; what the page types."""
    text = section("docs/extend.md", "Data of one's own")
    (code,), (typed,) = blocks(text, "python"), blocks(text, "bash")
    module = ModuleType("experiments.crops")
    monkeypatch.setitem(sys.modules, "experiments.crops", module)
    monkeypatch.setattr(import_module("experiments"), "crops", module, raising=False)
    exec(compile(code, "crops.py", "exec"), vars(module))
    return typed.removeprefix("python train.py ").split()


def test_the_data_of_the_page_is_trained_on_and_its_folder_is_trusted(command, train):
    folder = train(*command, "max_updates=2", "device=cpu")
    assert rows(folder)[-1]["split"] == "val"
    assert evaluate.main([f"run={folder}", "split=val"])["accuracy"] == result(folder)["val/accuracy"]
