"""The hook of one's own in docs/extend.md, in a run."""

import sys
from importlib import import_module
from types import ModuleType

import pytest

from tests.optwrap.hooks.runs import QUICK, result, rows
from tests.pages import IS_TEMPLATE, TEXTS, blocks

pytestmark = pytest.mark.skipif(not IS_TEMPLATE, reason="a project need not have the pages")


@pytest.fixture
def _budget(monkeypatch):
    """As if the page's code stood in experiments/budget.py."""
    (code,) = [each for each in blocks(TEXTS["docs/extend.md"], "python") if "class Budget" in each]
    module = ModuleType("experiments.budget")
    monkeypatch.setitem(sys.modules, "experiments.budget", module)
    monkeypatch.setattr(import_module("experiments"), "budget", module, raising=False)
    exec(compile(code, "budget.py", "exec"), vars(module))


@pytest.mark.usefixtures("_budget")
def test_the_hook_of_the_page_stops_a_run_and_its_folder_is_trusted(train, tmp_path):
    folder = tmp_path / "run"
    budget = ("hooks.budget._target_=experiments.budget.Budget", "hooks.budget.minutes=-1")
    train(*QUICK, "max_updates=3", "log_every=1", *budget, f"hydra.run.dir={folder}")
    assert (result(folder)["updates"], result(folder)["stopped"]) == (1, "budget: its time is up")
    train(f"resume={folder}", "hooks.budget.minutes=30")
    assert result(folder)["updates"] == 3
    assert all(float(row["budget/minutes_left"]) > 29 for row in rows(folder, "train")[1:])
