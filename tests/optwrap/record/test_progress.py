import io
import logging

import pytest
from rich.console import Console

from optwrap.record.progress import ConsoleHandler, Progress, summary

TRAIN = {
    "epoch": 2,
    "update": 40,
    "seconds": 3.2,
    "loss": 0.51239,
    "accuracy": 0.875,
    "lr": 0.05,
    "grad_norm": 1.5,
    "skipped_steps": 0,
    "images_per_second": 5230.4,
}
VAL = {"epoch": 2, "update": 40, "loss": 0.4, "accuracy": 0.9}


@pytest.fixture
def log_file():
    """What the log file of a run would hold."""
    return io.StringIO()


@pytest.fixture
def make_console(log_file):
    """Make a console, a terminal or not, that the root logger prints to beside the log file, as in a run."""
    root = logging.getLogger()
    before = root.level
    added: list[logging.Handler] = []

    def make(terminal: bool) -> Console:
        console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
        added.extend([ConsoleHandler(console), logging.StreamHandler(log_file)])
        for handler in added:
            root.addHandler(handler)
        root.setLevel(logging.INFO)
        return console

    yield make
    for handler in added:
        root.removeHandler(handler)
    root.setLevel(before)


def _printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_without_a_terminal_every_row_is_one_plain_line_in_both_places(make_console, log_file):
    console = make_console(terminal=False)
    with Progress(100, console=console) as progress:
        progress.log("train", TRAIN)
        progress.log("val", VAL)
    train, val = _printed(console).splitlines()
    assert train.startswith("train  epoch   2  update  40/100  seconds 3.2  loss 0.5124  accuracy 0.8750  lr 0.05")
    assert "grad norm 1.500" in train
    assert "images/s 5,230" in train
    assert val == "val    epoch   2  update  40/100  loss 0.4000  accuracy 0.9000"
    assert log_file.getvalue() == _printed(console)
    assert "\x1b" not in _printed(console)


def test_on_a_terminal_training_rows_move_the_bar_and_land_in_the_log_file_alone(make_console, log_file):
    console = make_console(terminal=True)
    with Progress(100, console=console) as progress:
        progress.log("train", TRAIN)
    assert "train  epoch" not in _printed(console)
    assert "40 of 100 updates" in _printed(console)
    assert "loss 0.5124" in _printed(console)
    assert log_file.getvalue().count("train  epoch") == 1


def test_on_a_terminal_evaluations_are_printed_once_in_both_places(make_console, log_file):
    console = make_console(terminal=True)
    with Progress(100, console=console) as progress:
        progress.log("val", VAL)
    assert _printed(console).count("val    epoch   2  update  40/100  loss 0.4000") == 1
    assert log_file.getvalue().count("val    epoch   2  update  40/100  loss 0.4000") == 1


def test_live_false_prints_lines_on_a_terminal_too(make_console):
    console = make_console(terminal=True)
    with Progress(100, console=console, live=False) as progress:
        progress.log("train", TRAIN)
    assert _printed(console).count("train  epoch") == 1
    assert "updates" not in _printed(console)


@pytest.mark.parametrize(("skipped", "shown"), [(0, False), (3, True)])
def test_skipped_steps_show_once_there_are_some(make_console, skipped, shown):
    console = make_console(terminal=False)
    with Progress(100, console=console) as progress:
        progress.log("train", {**TRAIN, "skipped_steps": skipped})
    assert ("skipped steps 3" in _printed(console)) is shown


def test_what_is_none_is_left_out_and_nan_shows(make_console):
    console = make_console(terminal=False)
    with Progress(100, console=console) as progress:
        progress.log("train", {"update": 1, "loss": float("nan"), "grad_norm": None})
    assert "loss nan" in _printed(console)
    assert "grad norm" not in _printed(console)


def test_the_time_left_follows_the_pace_since_the_first_row(make_console, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    console = make_console(terminal=False)
    with Progress(1000, console=console) as progress:
        for update in (500, 520):  # a resumed run
            progress.log("train", {"update": update})
            now[0] += 10.0
    first, second = _printed(console).splitlines()
    assert first.endswith("? left")
    assert second.endswith("4:00 left")


def test_the_bar_goes_away_when_a_run_fails(make_console):
    console = make_console(terminal=True)
    with pytest.raises(RuntimeError), Progress(100, console=console):
        raise RuntimeError
    console.print("after")
    assert _printed(console).endswith("after\n")
    assert "\x1b[?25h" in _printed(console)  # the cursor is back


def test_a_long_log_line_is_not_broken_up(make_console):
    console = make_console(terminal=False)
    logging.getLogger("test").info("word " * 60 + "end")
    assert len(_printed(console).splitlines()) == 1


def test_square_brackets_in_a_message_stay(make_console):
    console = make_console(terminal=False)
    logging.getLogger("test").warning("optim_wrapper=[sgd,amp] [red]x[/red]")
    assert _printed(console) == "optim_wrapper=[sgd,amp] [red]x[/red]\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_summary_shows_results_and_the_files_that_exist(make_console, log_file, tmp_path, terminal):
    console = make_console(terminal)
    metrics = tmp_path / "metrics.csv"
    metrics.touch()
    summary(
        {"test/accuracy": 0.991666, "updates": 306, "seconds": 12.34},
        {"metrics": metrics, "curves": tmp_path / "curves.png"},
    )
    for text in (_printed(console), log_file.getvalue()):
        assert "test/accuracy" in text
        assert "0.9917" in text
        assert "306" in text
        assert "12.3" in text
        assert "curves.png" not in text
    assert str(metrics) in log_file.getvalue()


def test_the_summary_gives_paths_below_the_working_directory_as_relative(
    make_console, log_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_console(terminal=False)
    (tmp_path / "metrics.csv").touch()
    summary({}, {"metrics": tmp_path / "metrics.csv"})
    assert log_file.getvalue().splitlines() == ["Finished", "  metrics  metrics.csv"]
