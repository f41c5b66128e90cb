"""A tracker that fails, hangs or runs out of disk is warned of once, and the run neither waits nor ends."""

import errno
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from optwrap.loggers import Logger
from optwrap.loggers.delivery import Delivery
from optwrap.loggers.protocol import Run
from tests.optwrap.loggers import part
from tests.optwrap.loggers.stored import identity, rows
from tests.pages import IS_TEMPLATE, blocks, section


class Lines(Logger):
    """Writes a line a row, and can fail or hang at its third."""

    def __init__(self, path: str, fails: str | None = None) -> None:
        self.path, self.fails, self.rows = Path(path), fails, 0

    def start(self, run):
        self.file = self.path.open("a")
        self.log_line("start", run.id, run.name, run.group, run.resumed)

    def log(self, split, row):
        self.rows += 1
        if self.fails and self.rows == 3:
            {"hang": hang, "exit": sys.exit, "full": full_disk, "raise": broken}[self.fails]()
        self.log_line(split, row["update"], *(name for name in row if name in ("loss", "accuracy")))

    def artifact(self, path):
        self.log_line("artifact", path.name)

    def close(self, status):
        self.log_line("close", status)
        self.file.close()

    def log_line(self, *words):
        self.file.write(" ".join(map(str, words)) + "\n")
        self.file.flush()


def hang():
    threading.Event().wait()


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def broken():
    raise ConnectionError("the server is gone\nand this is a second line")


def node(path, **more):
    return {"mine": {"_target_": Lines, "path": str(path), **more}}


def lines(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("start")]


def test_a_logger_of_ones_own_is_told_each_row_in_order(tmp_path):
    part.main(tmp_path / "run", node(tmp_path / "lines"), group="sweep")
    start, *told = (tmp_path / "lines").read_text().splitlines()
    assert start == f"start {identity(tmp_path / 'run')['id']} run sweep False"
    assert told[:4] == ["train 5 loss", "train 10 loss", "val 10 accuracy", "train 15 loss"]
    assert told[-3:] == ["test 30 accuracy", "artifact picture.png", "close finished"]
    assert len(told) == len(rows(tmp_path / "run")) + 2


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("fails", ["raise", "exit", "full", "hang"])
def test_one_that_fails_or_hangs_is_warned_of_once_and_the_run_goes_on(fails, live, tmp_path, caplog):
    reasons = {
        "raise": "ConnectionError: the server is gone. It is told nothing more",
        "exit": "SystemExit",
        "full": "No space left on device",
        "hang": "did not end within 0.2 s",
    }
    began = time.monotonic()
    part.main(tmp_path / "run", node(tmp_path / "lines", fails=fails, live=live, wait=0.2))
    assert time.monotonic() - began < 2
    assert len(rows(tmp_path / "run")) == 10
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("logger.mine: ")
    assert reasons[fails] in warning
    assert warning.endswith("metrics.csv has every row.")
    assert lines(tmp_path / "lines") == ["train 5 loss", "train 10 loss"]


@pytest.mark.parametrize("fails", ["raise", "hang"])
def test_what_one_lacked_is_sent_when_the_run_goes_on(fails, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(KeyboardInterrupt):
        part.main(tmp_path / "run", node(tmp_path / "lines", fails=fails, wait=0.1), "stop")
    part.main(tmp_path / "run", node(tmp_path / "lines"))
    written = [f"{split} {row['update']:g}" for split, row in rows(tmp_path / "run")]
    assert [line.rsplit(" ", 1)[0] for line in lines(tmp_path / "lines")[:-2]] == written


def test_one_that_hangs_in_a_long_run_is_warned_of_before_its_end(tmp_path, caplog):
    run = Run(tmp_path, {}, "id", "run")
    delivery = Delivery("mine", Lines(str(tmp_path / "lines"), "hang"), run, live=True, wait=0.05)
    delivery.begin([])
    for number in range(1, 5):
        delivery.log(number, ("train", {"update": number, "loss": 1.0}))
    time.sleep(0.3)
    delivery.deliver(4)
    delivery.deliver(4)
    assert [record.message[:36] for record in caplog.records] == ["logger.mine: it has not answered for"]


def test_rows_wait_for_a_checkpoint_unless_they_are_live(tmp_path):
    for live, expected in (
        (False, ["train 1 loss", "close failed"]),
        (True, ["train 1 loss", "train 2 loss", "close failed"]),
    ):
        path = tmp_path / f"lines{live}"
        delivery = Delivery("mine", Lines(str(path)), Run(tmp_path / f"{live}", {}, "id", "run"), live=live)
        (tmp_path / f"{live}").mkdir()
        delivery.begin([])
        for number in (1, 2):
            delivery.log(number, ("train", {"update": number, "loss": 1.0}))
        delivery.deliver(1)
        delivery.close("failed")
        delivery.join(time.monotonic())
        assert lines(path) == expected


@pytest.mark.slow
def test_a_process_ends_though_a_tracker_hangs(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.optwrap.loggers import part;"
        "from tests.optwrap.loggers.test_delivery import node;"
        f"part.main(Path({str(tmp_path / 'run')!r}), node({str(tmp_path / 'lines')!r}, fails='hang', wait=0.2))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=Path(__file__).parents[3])


@pytest.mark.slow
@pytest.mark.parametrize("point", part.POINTS)
def test_a_journal_knows_what_a_killed_run_had_sent(point, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.optwrap.loggers import part;"
        "from tests.optwrap.loggers.test_delivery import node;"
        f"part.main(Path({str(tmp_path / 'run')!r}), node({str(tmp_path / 'lines')!r}), *sys.argv[1:])"
    )
    for words, code_of_end in (([point], -9), ([], 0)):
        command = [sys.executable, "-c", code, *words]
        assert subprocess.run(command, timeout=60, cwd=Path(__file__).parents[3]).returncode == code_of_end
    sent = [line.rsplit(" ", 1)[0] for line in lines(tmp_path / "lines")[:-2]]
    written = [f"{split} {row['update']:g}" for split, row in rows(tmp_path / "run")]
    assert list(dict.fromkeys(sent)) == written
    assert len(sent) == len(written) + (point == "after_log")  # the row that was cut short


@pytest.mark.skipif(not IS_TEMPLATE, reason="own pages")
def test_the_logger_of_the_pages_writes_a_line_a_row(tmp_path, monkeypatch):
    code = blocks(section("docs/extend.md", "A logger of one's own in fifteen lines"), "python")[0]
    (tmp_path / "lines_of_json.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"lines": {"_target_": "lines_of_json.JsonLines", "file": "lines.jsonl"}}
    part.main(tmp_path / "run", own)
    told = [json.loads(line) for line in (tmp_path / "run" / "lines.jsonl").read_text().splitlines()]
    assert [(line["split"], line["update"]) for line in told] == [
        (split, row["update"]) for split, row in rows(tmp_path / "run")
    ]
    assert {line["run"] for line in told} == {"run"}
