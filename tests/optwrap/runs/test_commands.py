import json
import os

import pytest

from optwrap.errors import ConfigError
from optwrap.runs import commands

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Four runs: two that have finished, one that was killed, and a job of a sweep that failed."""
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "outputs/day/one", ["seed=0"], 0.9, {"train.py": "a", "x.py": "b"})
    made(tmp_path / "outputs/day/two", ["seed=1", "optim_wrapper=[sgd,amp]"], 0.95, {"train.py": "a", "x.py": "c"})
    made(tmp_path / "outputs/day/three", ["seed=2"], None)
    failed = made(tmp_path / "outputs/multirun/s/0123", ["seed=3"], None)
    record = {"status": "failed", "overrides": ["seed=3"], "objective": "val/accuracy", "metric": None}
    record |= {"duration": 1.0, "attempts": 1, "error": "bad", "host": "", "pid": 0, "started": 1.0, "sweep": ""}
    (failed / "record.json").write_text(json.dumps(record))
    return tmp_path / "outputs"


def made(folder, overrides, value, files=None):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text("".join(f"- {each}\n" for each in overrides))
    (folder / ".hydra/config.yaml").write_text("".join(f"{each.replace('=', ': ')}\n" for each in overrides))
    status = "running" if value is None else "finished"
    (folder / "status.json").write_text(json.dumps({"status": status, "update": 3, "updates": 9}))
    start = {
        "commit": COMMIT,
        "dirty": True,
        "kept": True,
        "files": files,
        "threads": 1,
        "python": "3.11",
        "prefix": "",
    }
    start |= {"device": "cpu", "platform": "x", "environment": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}}
    (folder / "provenance.json").write_text(json.dumps({"starts": [start]}))
    (folder / "packages.txt").write_text("torch==2.11\n")
    (folder / "changes.diff").write_text("x")
    if value is not None:
        result = {"val/accuracy": value, "objective": "val/accuracy", "higher_is_better": True, "seconds": 2.0}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def said(capsys, *arguments, project=None):
    commands.run(arguments, project)
    return capsys.readouterr().out


def names(text):
    return [line.split("\t")[0] for line in text.splitlines()[1:-1]]


def test_a_list_has_a_row_a_run_the_newest_first(outputs, capsys):
    for age, name in enumerate(["day/two", "day/one", "multirun/s/0123", "day/three"]):
        for path in (outputs / name).rglob("*"):
            os.utime(path, (1e9 - age, 1e9 - age))
    text = said(capsys, "list")
    assert names(text) == ["day/two", "day/one", "multirun/s/0123", "day/three"]
    assert [line.split("\t")[1] for line in text.splitlines()[1:-1]] == [
        "finished",
        "finished",
        "failed",
        "killed",
    ]
    assert text.splitlines()[-1] == "4 runs in outputs"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["status=finished"], {"day/one", "day/two"}),
        (["objective>0.92"], {"day/two"}),
        (["val/accuracy<=0.9"], {"day/one"}),
        (["seed!=0", "status!=finished"], {"day/three", "multirun/s/0123"}),
        (["optim_wrapper=[sgd,amp]"], {"day/two"}),
        (["seed=1.0"], {"day/two"}),
    ],
)
def test_conditions_choose(conditions, expected, outputs, capsys):
    assert set(names(said(capsys, "list", *conditions))) == expected


def test_a_list_may_be_json(outputs, capsys):
    rows = json.loads(said(capsys, "list", "json=true", "sort=name", "status=finished"))
    assert [row["overrides"]["seed"] for row in rows] == ["0", "1"]
    assert rows[0]["result"]["val/accuracy"] == 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "lst: the commands are list, show.*Did you mean 'list'"),
        (["list", "sed=1"], "sed=1: no run has 'sed'.*Did you mean 'seed'"),
        (["list", "sort=agee"], "sort=agee: it is one of age.*Did you mean 'age'"),
        (["list", "nowhere"], "nowhere: there is no such folder"),
        (["list", "a", "b"], "a b: give one folder"),
        (["show"], "python runs.py show RUN: give 1 folder; got nothing"),
        (["show", "outputs"], r"outputs: this is no run's folder.*outputs/day/one"),
        (["diff", "outputs/day/one"], "give 2 folders"),
        (["clean", "best=x"], "best=x: it is a number"),
        (["clean", "keep=outputs/day/four"], "outputs/day/four: this is no run's folder"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message, outputs):
    with pytest.raises(ConfigError, match=message):
        commands.run(arguments, outputs)


def test_a_difference_names_config_code_and_results(outputs, capsys):
    text = said(capsys, "diff", "outputs/day/one", "outputs/day/two")
    kinds = {block.partition(":")[0]: block for block in text.replace("\n  ", "\t").splitlines()}
    assert set(kinds) == {"config", "code", "results"}
    assert "optim_wrapper" in kinds["config"]
    assert "x.py" in kinds["code"]
    assert "train.py" not in kinds["code"]
    assert "0.9  |  0.95" in kinds["results"]
    assert said(capsys, "diff", "outputs/day/one", "outputs/day/one") == "no difference\n"


def test_show_says_what_is_known(outputs, capsys):
    text = said(capsys, "show", "outputs/day/two")
    for each in ("status", "finished", "val/accuracy", "0.95", "told seed", "start 1 commit", COMMIT):
        assert each in text


def test_the_commands_that_make_a_run_again(outputs, capsys):
    text = said(capsys, "reproduce", "outputs/day/two", "to=../again", project=outputs.parent)
    folder = outputs / "day/two"
    assert text.splitlines()[1:] == [
        f"git -C {outputs.parent} worktree add --detach ../again {COMMIT}",
        "cd ../again",
        f"git apply {folder}/changes.diff",
        "python -m venv .venv && . .venv/bin/activate",
        f"pip install -e . -c {folder}/packages.txt",
        "PYTHONHASHSEED=0 python train.py seed=1 'optim_wrapper=[sgd,amp]' threads=1",
    ]


def test_clean_says_what_would_go_and_keeps_the_best_the_unfinished_and_the_named(outputs, capsys):
    text = said(capsys, "clean")
    assert "outputs/day/one" in text
    assert "outputs/day/two" not in text
    assert "1 runs" in text
    assert (outputs / "day/one").is_dir()
    assert "0 runs" in said(capsys, "clean", "keep=outputs/day/one")
    assert "0 runs" in said(capsys, "clean", "best=2")
    assert "0 runs" in said(capsys, "clean", "seed=1")


def test_clean_removes_where_it_is_told(outputs, capsys):
    assert "removed" in said(capsys, "clean", "delete=true")
    assert not (outputs / "day/one").exists()
    assert (outputs / "day/two").is_dir()
    assert (outputs / "day/three").is_dir()


def test_watch_shows_once_what_runs_where_there_is_no_terminal(outputs, capsys):
    assert "day/one" not in said(capsys, "watch")
