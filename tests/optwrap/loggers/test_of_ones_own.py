"""A logger of one's own in a whole run of train.py: told of all that happens, and of what it lacked."""

import csv
import json

import pytest

LOGGER = """
from optwrap.loggers import Logger


class Words(Logger):
    broken = False

    def start(self, run):
        self.path = run.folder / "words.txt"
        self.say("start", run.config["model"]["width"], run.project, run.resumed)

    def log(self, split, row):
        if self.broken:
            raise RuntimeError("it is broken")
        self.say(split, row["update"])

    def artifact(self, path):
        self.say("artifact", path.name)

    def close(self, status):
        self.say("close", status)

    def say(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)
"""
SHORT = ("data=fake", "data.size=64", "batch_size=16", "model.width=4", "epochs=1", "log_every=1")


@pytest.fixture
def words(tmp_path, monkeypatch):
    (tmp_path / "words_of_run.py").write_text(LOGGER)
    monkeypatch.syspath_prepend(tmp_path)
    import words_of_run

    monkeypatch.setattr(words_of_run.Words, "broken", False)
    return words_of_run.Words


def said(folder):
    return (folder / "words.txt").read_text().splitlines()


def written(folder):
    with (folder / "metrics.csv").open() as file:
        return [f"{row['split']} {row['update']}" for row in csv.DictReader(file)]


def test_a_run_tells_it_all_and_a_finished_one_what_it_lacked(words, train, root):
    words.broken = True
    folder = train(*SHORT, "logger.mine._target_=words_of_run.Words")
    assert said(folder) == [f"start 4 {root.name} False"]
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    words.broken = False
    told = (*SHORT, "logger.mine._target_=words_of_run.Words", f"hydra.run.dir={folder}", "resume=auto")
    train(*told)
    _, again, *rest = said(folder)
    assert again == f"start 4 {root.name} True"
    assert rest == [*written(folder), "artifact curves.png", "artifact result.json", "close finished"]
    train(*told)
    assert said(folder)[-4:] == [again, "artifact curves.png", "artifact result.json", "close finished"]


def test_training_rows_can_be_left_out_of_all(words, train):
    folder = train(*SHORT, "logger=evaluations_only", "logger.mine._target_=words_of_run.Words")
    assert said(folder)[1:3] == written(folder) == ["val 4", "test 4"]


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", ["false", "true"])
def test_rows_are_sent_when_the_shards_of_a_checkpoint_are_written(words, train, asynchronous):
    sharded = ("checkpoint.sharded=true", f"checkpoint.asynchronous={asynchronous}", "checkpoint.every=1")
    folder = train(*SHORT, "logger.mine._target_=words_of_run.Words", *sharded)
    assert said(folder)[1:-3] == written(folder)
