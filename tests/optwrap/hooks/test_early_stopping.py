"""Early stopping against a loop by hand."""

import json
import math
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from optwrap.errors import ConfigError
from optwrap.hooks import EarlyStopping, Run
from tests.optwrap.cases import one_in
from tests.optwrap.hooks.runs import QUICK, result, rows

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
from compare import differences

PLAIN = (*QUICK, "max_updates=16", "eval_every=2")
RUN = (*PLAIN, "hooks=early_stopping", "hooks.early_stopping.patience=2")


def stopped_at(hook, values, directions=None):
    """How many evaluations are made, at most `len(values)`."""
    said = []
    objective = SimpleNamespace(metric="loss", directions=directions or {"loss": False, "accuracy": True})
    run = SimpleNamespace(key="early_stopping", objective=objective, has_val=True, stop=said.append)
    run.followed = partial(Run.followed, run)
    hook.start(run)
    for made, value in enumerate(values, start=1):
        hook.after_evaluation(run, {"loss": value, "accuracy": -value})
        if said:
            return made
    return None


@pytest.mark.parametrize(
    ("arguments", "values", "expected"),
    [
        ({"patience": 2}, [3, 2, 2, 1, 1, 1, 0], 6),  # an equal value is no better
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 2.2, 2.0], 5),
        ({"patience": 3}, [3, 2, 4, 5, 1, 6], None),
        ({"patience": 2, "metric": "val/accuracy"}, [3, 2, 2, 2], 4),
        ({"patience": 2, "better": "max"}, [1, 2, 3, 2, 3, 4], 5),
        ({"patience": 2}, [math.nan, 2, math.nan, math.nan], 4),
        ({"patience": 2}, [math.nan, math.nan], 2),
    ],
)
def test_it_stops_where_patience_is_at_its_end(arguments, values, expected):
    assert stopped_at(EarlyStopping(**arguments), values) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    one_in(
        3,
        [
            ("patience=0", "hooks.early_stopping.patience=0: patience must be 1 or more"),
            (
                "metric=acuracy",
                "hooks.early_stopping.metric=acuracy: an evaluation on val has no such metric. Did you",
            ),
            ("better=most", "better must be min or max"),
            ("patients=3", "hooks.early_stopping has no key 'patients'. Did you mean 'patience'?"),
        ],
    ),
)
def test_an_argument_that_cannot_be_is_refused_before_the_run(override, message, train, capsys):
    with pytest.raises(SystemExit):
        train(*QUICK, "epochs=1", "hooks=early_stopping", f"hooks.early_stopping.{override}")
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_an_argument_of_a_hook_that_was_not_chosen_says_how_to_choose_it(train, capsys):
    with pytest.raises(SystemExit):
        train("hooks.early_stopping.patience=3")
    assert "hooks=early_stopping is not chosen" in capsys.readouterr().err


def test_a_metric_that_does_not_say_which_way_it_is_better_has_to_be_told():
    with pytest.raises(ConfigError, match=r"better: loss does not say which way\. Give min or max"):
        stopped_at(EarlyStopping(), [1.0], {"loss": None})


def test_a_stopped_run_is_the_beginning_of_the_whole_one_and_ends_as_that_would(once):
    whole = once(*PLAIN)
    values = [float(row["accuracy"]) for row in rows(whole, "val")]
    best, last = -1.0, 0
    for made, value in enumerate(values):  # by hand
        if value > best:
            best, last = value, made
        if made - last == 2:
            break
    assert made < 7, "the run without the hook must go on"
    folder = once(*RUN)
    own, expected = rows(folder), rows(whole)
    assert own[:-1] == expected[: len(own) - 1]
    assert own[-1]["split"] == "test"
    found, updates = result(folder), 2 * (made + 1)
    assert (found["updates"], found["micro_batches"]) == (updates, updates)
    assert found["stopped"].endswith(f"val/accuracy has not been better than {best:.6g} for 2 evaluations")
    status = json.loads((folder / "status.json").read_text())
    assert status == {"status": "finished", "update": updates, "updates": 16}
    assert (folder / "checkpoints" / f"update_{updates:06}.pt").exists()


@pytest.mark.slow
def test_a_stopped_run_is_finished_until_its_patience_is_longer(train, once, capsys, tmp_path):
    folder = shutil.copytree(once(*RUN), tmp_path / "stopped")
    before = (folder / "metrics.csv").read_text()
    capsys.readouterr()
    train(*RUN, "resume=auto", f"hydra.run.dir={folder}")
    said = capsys.readouterr().out
    assert "this run is finished" in said
    assert "It was stopped by early_stopping: val/accuracy" in said
    assert (folder / "metrics.csv").read_text() == before
    longer = (*RUN, "hooks.early_stopping.patience=3")
    train(*longer, "resume=auto", f"hydra.run.dir={folder}")
    assert result(folder)["updates"] > int(before.splitlines()[-1].split(",")[2])
    assert differences(once(*longer), folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before the last evaluation", "in the test", "in the middle"])
def test_a_run_that_died_stops_where_it_would_have(place, train, once, monkeypatch, tmp_path):
    whole = once(*RUN)
    updates = result(whole)["updates"]
    from optwrap.run import evaluation

    folder, evaluations = tmp_path / "died", updates // 2
    dies_in = {"before the last evaluation": evaluations, "in the test": evaluations + 1, "in the middle": 2}[
        place
    ]
    made, evaluate = 0, evaluation.evaluate

    def dying(task, batches):
        nonlocal made
        made += 1
        if made == dies_in:
            raise RuntimeError("the power went")
        return evaluate(task, batches)

    monkeypatch.setattr("optwrap.run.evaluate", dying, raising=False)
    with pytest.raises(SystemExit):
        train(*RUN, f"hydra.run.dir={folder}")
    assert made == dies_in
    monkeypatch.setattr("optwrap.run.evaluate", evaluate, raising=False)
    train(*RUN, "resume=auto", f"hydra.run.dir={folder}")
    assert differences(whole, folder) == []
