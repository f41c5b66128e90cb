"""Runs that are ended and go on: what comes out is what an uninterrupted run gives."""

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from optwrap.checkpoint import file_saver
from optwrap.errors import ConfigError
from optwrap.vision import ClassificationTask

sys.path.insert(0, str(Path(__file__).parent / "resume"))
from compare import differences

from tests.optwrap.cases import one_in

QUICK = (
    *("data=fake", "data.size=40", "data.eval_size=8", "data.image_size=8", "data.augment=false", "batch_size=4"),
    *("epochs=2", "log_every=5", "checkpoint.every=2", "device=cpu", "deterministic=true"),
)
REFERENCES: dict[tuple[str, ...], Path] = {}
STRATEGIES = {
    "plain": [],
    "windows": ["optim_wrapper=[sgd,accum4,clip]", "schedule=one_cycle", "eval_every=2", "schedule.lr.max_lr=0.1"],
    "scaled": ["optim_wrapper=[adamw,amp,accum2]", "optim_wrapper.loss_scale={init_scale: 4, growth_interval: 2}"],
    "plateau": ["schedule=ReduceLROnPlateau", "schedule.lr.patience=0", "schedule.lr.threshold=1", "eval_every=2"],
    "hybrid": ["optim_wrapper=hybrid_muon", "model=small_vit"],
    "shards": ["optim_wrapper=[adamw,accum2]", "checkpoint.sharded=true"],
    "at once": ["checkpoint.asynchronous=false"],
    "background": ["checkpoint.asynchronous=true"],  # of a copy, as a large one is: see `written_as_is`
    "background shards": ["checkpoint.sharded=true", "checkpoint.asynchronous=true"],
}


@pytest.fixture(autouse=True)
def _steps_draw_random_numbers(monkeypatch):
    """From each of the global generators, as dropout does: else nothing would show that they are resumed."""
    train_step = ClassificationTask.train_step

    def step(self, batch, optim_wrapper):
        torch.rand(()), np.random.rand(), random.random()
        return train_step(self, batch, optim_wrapper)

    monkeypatch.setattr(ClassificationTask, "train_step", step)


@pytest.fixture
def at(monkeypatch, _steps_draw_random_numbers):
    """Do something in a micro-batch, once."""

    def arrange(micro_batch, action):
        train_step, count = ClassificationTask.train_step, 0

        def step(self, batch, optim_wrapper):
            nonlocal count
            count += 1
            if count == micro_batch:
                action()
            return train_step(self, batch, optim_wrapper)

        monkeypatch.setattr(ClassificationTask, "train_step", step)
        return lambda: monkeypatch.setattr(ClassificationTask, "train_step", train_step)

    return arrange


@pytest.fixture
def uninterrupted(train):
    """The folder of a run to the end, made once a set of overrides."""

    def find(*overrides):
        if overrides not in REFERENCES:
            REFERENCES[overrides] = train(*overrides)
        return REFERENCES[overrides]

    return find


@pytest.fixture
def written_as_is(monkeypatch):
    """Let checkpoints of one file be written as those of that strategy are."""

    def arrange(strategy):
        if strategy == "background":
            monkeypatch.setattr(file_saver, "LARGE", 0)

    return arrange


def power_cut():
    raise RuntimeError("the power went")


def sends(signum):
    return lambda: os.kill(os.getpid(), signum)


def ends_with(code, train, *overrides):
    with pytest.raises(SystemExit) as end:
        train(*overrides)
    assert end.value.code == code


def status(folder):
    return json.loads((folder / "status.json").read_text())


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def files(folder):
    """Every file of a run but its log, by content."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(each, marks=pytest.mark.slow)
        if each in ("plateau", "background", "background shards", "hybrid", "shards", "scaled", "at once")
        else each
        for each in STRATEGIES
    ],
)
def test_a_run_that_died_ends_as_the_uninterrupted_one(
    strategy, train, at, uninterrupted, written_as_is, tmp_path
):
    written_as_is(strategy)
    whole = uninterrupted(*QUICK, *STRATEGIES[strategy])
    again = at(14, power_cut)
    folder = tmp_path / "died"
    ends_with(1, train, *QUICK, *STRATEGIES[strategy], f"hydra.run.dir={folder}")
    assert status(folder)["status"] == "failed"
    again()
    torch.manual_seed(5)
    train(f"resume={folder}")
    assert differences(whole, folder) == []


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_inside_a_window_saves_it_and_says_how_to_go_on(
    signum, code, train, at, capsys, uninterrupted, tmp_path
):
    overrides = (*QUICK, "optim_wrapper=[sgd,amp,accum4,clip]", "optim_wrapper.dtype=float16")
    whole = uninterrupted(*overrides)
    again = at(6, sends(signum))
    folder = tmp_path / "interrupted"
    ends_with(code, train, *overrides, f"hydra.run.dir={folder}")
    assert f"resume={folder}" in capsys.readouterr().err
    assert status(folder) == {"status": "interrupted", "update": 1, "updates": 5}
    assert (folder / "checkpoints" / "update_000001_2.pt").exists()
    again()
    train(*overrides, "resume=auto", f"hydra.run.dir={folder}")
    assert differences(whole, folder) == []
    assert status(folder)["status"] == "finished"


@pytest.mark.slow
def test_a_signal_ends_a_run_that_saves_at_each_update_too(train, at, tmp_path):
    folder = tmp_path / "interrupted"
    at(3, sends(signal.SIGTERM))
    ends_with(143, train, *QUICK, "checkpoint.every=1", f"hydra.run.dir={folder}")
    assert status(folder)["update"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(("how", "files"), [("background", ["pt"]), ("background shards", ["pt", "shards"])])
def test_what_is_written_in_the_background_is_there_when_a_signal_has_ended_the_run(
    how, files, train, at, uninterrupted, written_as_is, tmp_path
):
    written_as_is(how)
    whole = uninterrupted(*QUICK)
    again = at(7, sends(signal.SIGTERM))
    folder = tmp_path / "interrupted"
    ends_with(143, train, *QUICK, *STRATEGIES[how], f"hydra.run.dir={folder}")
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    assert {f"update_000007.{ending}" for ending in files} <= kept
    again()
    train(*QUICK, "resume=auto", f"hydra.run.dir={folder}")
    found = [each for each in differences(whole, folder) if ".config.checkpoint." not in each]
    assert found == []


@pytest.mark.slow
def test_a_scheduler_that_requeues_is_called_when_the_checkpoint_is_on_disk(train, at, monkeypatch, tmp_path):
    folder, seen, flush = tmp_path / "requeued", [], os.fsync

    def slowly(descriptor):
        time.sleep(0.3)
        flush(descriptor)

    def requeue(signum, frame):
        seen.extend(path.name for path in (folder / "checkpoints").iterdir())
        raise SystemExit(7)

    monkeypatch.setattr(os, "fsync", slowly)
    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        at(3, sends(signal.SIGUSR2))
        ends_with(7, train, *QUICK, *STRATEGIES["background"], f"hydra.run.dir={folder}")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert "update_000003.pt" in seen


def test_a_signal_in_an_evaluation_ends_it_at_once_and_nothing_is_lost(
    train, monkeypatch, uninterrupted, tmp_path
):
    whole = uninterrupted(*QUICK)
    eval_step, folder = ClassificationTask.eval_step, tmp_path / "interrupted"

    def interrupted(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on evaluating")

    monkeypatch.setattr(ClassificationTask, "eval_step", interrupted)
    ends_with(143, train, *QUICK, f"hydra.run.dir={folder}")
    monkeypatch.setattr(ClassificationTask, "eval_step", eval_step)
    train(f"resume={folder}")
    assert differences(whole, folder) == []


@pytest.fixture
def poisoned(monkeypatch):
    """Make the images of these micro-batches NaN, counted over all parts of a run."""

    def arrange(*micro_batches):
        train_step = ClassificationTask.train_step

        def step(self, batch, optim_wrapper):
            wrong = optim_wrapper.inner_count + 1 in micro_batches
            return train_step(self, (batch[0] * float("nan"), batch[1]) if wrong else batch, optim_wrapper)

        monkeypatch.setattr(ClassificationTask, "train_step", step)

    return arrange


@pytest.mark.slow
def test_a_run_that_goes_on_after_a_rollback_does_not_roll_back_again(train, at, poisoned, tmp_path):
    overrides = (*QUICK, "on_nonfinite=rollback", "optim_wrapper=[sgd,accum2,clip]", "log_every=100")
    poisoned(10)  # the last before a checkpoint
    whole = train(*overrides)
    again = at(11, power_cut)
    folder = tmp_path / "died"
    ends_with(1, train, *overrides, f"hydra.run.dir={folder}")
    again()
    train(f"resume={folder}")
    assert (folder / "train.log").read_text().count("back to the last checkpoint") == 1
    assert differences(whole, folder) == []


@pytest.mark.slow
def test_a_run_ended_inside_a_window_with_nan_goes_on_with_the_buffers_from_before_it(
    train, at, poisoned, tmp_path
):
    overrides = (*QUICK, "on_nonfinite=skip", "optim_wrapper=[sgd,accum4]")
    poisoned(5)
    whole = train(*overrides)
    assert json.loads((whole / "result.json").read_text())["skipped_steps"] == 1
    again = at(6, sends(signal.SIGTERM))
    folder = tmp_path / "interrupted"
    ends_with(143, train, *overrides, f"hydra.run.dir={folder}")
    again()
    train(f"resume={folder}")
    assert differences(whole, folder) == []
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.isfinite(each).all() for each in weights.values())


@pytest.mark.slow
def test_auto_starts_anew_where_there_is_no_checkpoint(train, at, uninterrupted, tmp_path):
    whole = uninterrupted(*QUICK)
    folder = tmp_path / "died"
    again = at(1, power_cut)
    ends_with(1, train, *QUICK, "resume=auto", f"hydra.run.dir={folder}")
    again()
    train(*QUICK, "resume=auto", f"hydra.run.dir={folder}")
    assert differences(whole, folder) == []


@pytest.mark.parametrize("damage", one_in(3, ["a flipped bit", "truncated", "empty"]))
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_used(
    damage, train, at, uninterrupted, tmp_path
):
    whole = uninterrupted(*QUICK)
    folder = tmp_path / "died"
    again = at(14, power_cut)
    ends_with(1, train, *QUICK, f"hydra.run.dir={folder}")
    newest = max((folder / "checkpoints").glob("update_*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"truncated": content[:-100], "a flipped bit": content, "empty": b""}[damage])
    again()
    train(f"resume={folder}")
    assert f"{newest}: this is no readable checkpoint" in (folder / "train.log").read_text()
    assert differences(whole, folder) == []


@pytest.mark.slow
def test_where_every_checkpoint_is_damaged_nothing_is_started_anew(train, capsys):
    folder = train(*QUICK)
    for path in (folder / "checkpoints").glob("update_*"):
        path.write_bytes(b"")
    before = files(folder)
    ends_with(1, train, f"resume={folder}", "epochs=3")
    assert "no checkpoint can be read" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.slow
def test_a_finished_run_says_so_and_changes_nothing_and_more_epochs_extend_it(train):
    folder = train(*QUICK)
    before = files(folder)
    train(f"resume={folder}")
    assert "this run is finished (val/accuracy" in (folder / "train.log").read_text()
    assert files(folder) == before
    train(f"resume={folder}", "epochs=3")
    longer = train(*QUICK, "epochs=3", "schedule=constant")
    assert [(row["split"], row["update"]) for row in rows(folder)] == [
        (row["split"], row["update"]) for row in rows(longer)
    ]
    assert status(folder) == {"status": "finished", "update": 30, "updates": 30}


@pytest.mark.slow
def test_a_resume_finishes_what_a_kill_after_the_last_checkpoint_has_left(train, tmp_path):
    folder = train(*QUICK, "checkpoint.keep=1")
    before = files(folder)
    older = folder / "checkpoints" / "update_000018.pt"
    shutil.copyfile(folder / "checkpoint.pt", older)
    with older.open("ab") as file:
        file.write(b"another")
    (folder / "checkpoint.pt").unlink()
    os.link(older, folder / "checkpoint.pt")  # as before the last link, and before the oldest is dropped
    (folder / "checkpoint.pt.tmp").touch()
    (folder / "status.json").write_text('{"status": "running", "update": 0, "updates": 20}')
    (folder / "curves.png").unlink()
    for left in ("status.json.12.tmp", "metrics.csv.7.tmp", ".hydra/config.yaml.99.tmp", "checkpoints/x.tmp"):
        (folder / left).touch()
    (folder / "notes.tmp").write_text("mine")
    train(f"resume={folder}")
    assert files(folder) == before | {"notes.tmp": b"mine"}


@pytest.mark.slow
def test_the_result_of_a_shorter_run_is_not_that_of_the_longer_one(train):
    folder = train(*QUICK)
    shorter = (folder / "result.json").read_bytes()
    train(f"resume={folder}", "epochs=3")
    longer = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_bytes(shorter)  # as where a kill came after the last checkpoint
    train(f"resume={folder}", "epochs=3")
    again = json.loads((folder / "result.json").read_text())
    assert {**again, "seconds": 0} == {**longer, "seconds": 0, "peak_memory_mib": again["peak_memory_mib"]}


@pytest.mark.slow
def test_a_run_in_two_halves_of_a_longer_plan_is_the_longer_run(train, uninterrupted):
    whole = uninterrupted(*QUICK, "epochs=4", "schedule=constant")
    folder = train(*QUICK, "epochs=2", "schedule=constant")
    train(f"resume={folder}", "epochs=4")
    ends = ("best.updates_planned", "checkpoint.config.")  # what the first half was told
    assert [each for each in differences(whole, folder) if not each.startswith(ends)] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    one_in(6, [
        (["optim_wrapper.optimizer.lr=0.01"], "optim_wrapper.optimizer.lr: 0.05 -> 0.01"),
        (["optim_wrapper=[adamw,clip,no_norm_decay]"], "The optimizer is another than before"),
        (["optim_wrapper=[sgd,amp,accum2]", "optim_wrapper.dtype=float16"], "accumulative_counts: 1 -> 2"),
        (["batch_size=8"], "batch_size: 4 -> 8"),
        (["batch_size=3", "schedule=cosine"], "batch_size: 4 -> 3"),
        (["optim_wrapper.paramwise_cfg.norm_decay_mult=0", "seed=3"], "norm_decay_mult: None -> 0"),
    ]),
)  # fmt: skip
def test_a_changed_plan_goes_on_and_says_what_changed(changes, said, train, at, tmp_path):
    again = at(15, power_cut)
    folder = tmp_path / "died"
    ends_with(1, train, *QUICK, f"hydra.run.dir={folder}")
    again()
    train(f"resume={folder}", "epochs=3", *changes)
    assert said in (folder / "train.log").read_text()
    updates = [int(row["update"]) for row in rows(folder)]
    assert updates == sorted(updates)
    assert status(folder)["status"] == "finished"
    assert rows(folder)[-1]["epoch"] == "3"


@pytest.mark.slow
def test_another_model_is_an_error_that_lists_what_does_not_fit_and_changes_no_file(train, capsys):
    folder = train(*QUICK)
    before = files(folder)
    ends_with(1, train, f"resume={folder}", "model.width=8", "epochs=3")
    said = capsys.readouterr().err
    assert "does not fit the model" in said
    assert "stem.0.weight (saved (32, 3, 3, 3), here (8, 3, 3, 3))" in said
    assert files(folder) == before
    ends_with(1, train, f"resume={folder}", "model=small_vit", "epochs=3")
    said = capsys.readouterr().err
    assert "The model also has: " in said
    assert "The checkpoint also has: " in said
    assert files(folder) == before


def test_a_folder_that_is_used_without_resume_stays_as_it_is(train, capsys):
    folder = train(*QUICK)
    before = files(folder)
    ends_with(1, train, *QUICK, "seed=1", f"hydra.run.dir={folder}")
    assert "resume=auto" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["resume=/nowhere"], "no run's folder"),
        (["-m", "resume=/nowhere"], "resume=auto"),
        (["epochs=1"], "epochs=1: the run to go on with is already in epoch 2"),
    ],
)
def test_a_resume_that_cannot_be_is_one_message(overrides, said, train, capsys):
    folder = train(*QUICK) if overrides == ["epochs=1"] else None
    ends_with(1, train, *overrides, *([f"resume={folder}"] if folder else []))
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_foreign_folder_whose_overrides_together_name_code_is_refused_before_the_run_starts(train, capsys):
    folder = train(*QUICK)
    saved = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    hostile = ["+a=torch", "+data.b=load", "+data.source=${a}.${data.b}", "epochs=3"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*saved, *hostile]))
    before = files(folder)
    ends_with(1, train, f"resume={folder}")
    assert f"resume={folder}: data.source=torch.load: the config of a run is data" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.slow
def test_the_last_k_and_the_best_are_kept(train):
    folder = train(*QUICK, "checkpoint.keep=3", "eval_every=5", "objective=val/loss")
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["best.pt", "update_000016.pt", "update_000018.pt", "update_000020.pt"]
    losses = {row["update"]: float(row["loss"]) for row in rows(folder) if row["split"] == "val"}
    best = torch.load(folder / "checkpoints/best.pt", weights_only=True)["progress"]["update"]
    assert best == int(min(losses, key=losses.get))


def test_a_folder_that_goes_while_the_run_writes_into_it_is_one_message(train, at, capsys, tmp_path):
    folder = tmp_path / "gone"

    def take_away():
        while folder.exists():  # a checkpoint that is being written hinders the first try
            shutil.rmtree(folder, ignore_errors=True)

    at(6, take_away)
    ends_with(1, train, *QUICK, f"hydra.run.dir={folder}")
    said = capsys.readouterr().err
    assert f"{folder}: the run's folder is gone" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "number"),
    one_in(5, [("micro_batches", 10**15), ("micro_batches", -1), ("held", 1), ("update", 3), ("per_epoch", 0)]),
)
def test_a_checkpoint_whose_numbers_contradict_each_other_is_no_run(name, number, train, capsys):
    folder = train(*QUICK)
    for path in (folder / "checkpoints").glob("update_*"):
        state = torch.load(path, weights_only=True)
        state["progress"][name] = number
        torch.save(state, path)
    before = files(folder)
    ends_with(1, train, f"resume={folder}", "epochs=3")
    assert "holds no run to go on with" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.slow
def test_a_link_in_place_of_the_checkpoints_is_not_followed(train, capsys, tmp_path):
    folder = train(*QUICK)
    (folder / "checkpoints").rename(tmp_path / "elsewhere")
    (folder / "checkpoints").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "mine.tmp").touch()
    ends_with(1, train, f"resume={folder}", "epochs=3")
    assert f"{folder / 'checkpoints'}: this is a link" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "mine.tmp").exists()


@pytest.mark.slow
def test_metrics_that_are_no_runs_are_an_error_before_the_run_goes_on(train, capsys):
    folder = train(*QUICK)
    (folder / "metrics.csv").write_text("a,b\n1,2\n")
    ends_with(1, train, f"resume={folder}", "epochs=3")
    assert "metrics.csv: its first column is not split" in capsys.readouterr().err
    assert (folder / "metrics.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.slow
def test_a_log_that_cannot_be_written_is_one_message(train, capsys):
    folder = train(*QUICK)
    (folder / "train.log").unlink()
    (folder / "train.log").mkdir()
    ends_with(1, train, f"resume={folder}", "epochs=3")
    said = capsys.readouterr().err
    assert f"{folder / 'train.log'}: Is a directory. resume={folder} goes on in the run's own folder: make" in said
    assert "Traceback" not in said


def raises(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    one_in(3, [
        (SystemExit(0), 1, "sys.exit(0) in "),
        (SystemExit(None), 1, "sys.exit(None) in "),
        (SystemExit(7), 7, "sys.exit(7) in "),
        (ConfigError("task.x=1: no."), 1, "task.x=1: no."),
        (ValueError("bad \ud800 text"), 1, r"ValueError: bad \ud800 text"),
        (BrokenPipeError(32, "a pipe of mine"), 1, "BrokenPipeError: [Errno 32] a pipe of mine"),
    ]),
)  # fmt: skip
def test_whatever_ends_a_run_is_said_and_logged_and_no_success(error, code, said, train, at, capsys, tmp_path):
    folder = tmp_path / "ended"
    at(3, raises(error))
    ends_with(code, train, *QUICK, f"hydra.run.dir={folder}")
    assert said in capsys.readouterr().err.encode("utf-8", "backslashreplace").decode()
    assert said in (folder / "train.log").read_text()
    assert status(folder)["status"] == "failed"


def test_an_end_that_is_no_exception_is_logged_too(train, at, tmp_path):
    folder = tmp_path / "ended"
    at(3, raises(GeneratorExit("closed")))
    with pytest.raises(GeneratorExit):
        train(*QUICK, f"hydra.run.dir={folder}")
    assert "GeneratorExit: closed" in (folder / "train.log").read_text()
    assert status(folder)["status"] == "failed"


@pytest.mark.parametrize("number", ["num_workers=1000000", "nproc=100000"])
def test_a_number_of_processes_that_no_machine_has_is_refused(number, train, capsys, tmp_path):
    ends_with(1, train, *QUICK, number, f"hydra.run.dir={tmp_path / 'refused'}")
    assert f"{number}: each is a" in capsys.readouterr().err
