import csv
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optwrap.loggers import CsvLogger


def _read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    logger = CsvLogger(path)
    logger.log("train", {"epoch": 1, "update": 20, "loss": 0.5})
    assert _read(path) == [{"split": "train", "epoch": "1", "update": "20", "loss": "0.5"}]
    logger.log("val", {"epoch": 1, "update": 20, "loss": 0.25})
    assert [row["loss"] for row in _read(path)] == ["0.5", "0.25"]


def test_new_columns_are_added_on_the_right_and_no_row_is_lost(tmp_path):
    with CsvLogger(tmp_path / "metrics.csv") as logger:
        logger.log("train", {"update": 1, "loss": 3.0})
        logger.log("train", {"update": 2, "grad_norm": 1.5, "loss": 2.0})
        logger.log("val", {"accuracy": 0.5, "update": 2})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "split,update,loss,grad_norm,accuracy",
        "train,1,3,,",
        "train,2,2,1.5,",
        "val,2,,,0.5",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_none_is_an_empty_cell_and_nan_says_so(tmp_path):
    with CsvLogger(tmp_path / "metrics.csv") as logger:
        logger.log("train", {"loss": math.nan, "grad_norm": None, "lr": math.inf})
    assert _read(tmp_path / "metrics.csv") == [{"split": "train", "loss": "nan", "grad_norm": "", "lr": "inf"}]


def test_an_existing_file_is_continued(tmp_path):
    path = tmp_path / "metrics.csv"
    for loss, extra in ((2.0, {}), (1.0, {"accuracy": 0.5})):
        with CsvLogger(path) as logger:
            logger.log("train", {"loss": loss, **extra})
    assert [(row["loss"], row["accuracy"]) for row in _read(path)] == [("2", ""), ("1", "0.5")]


def test_a_line_that_a_crash_cut_short_does_not_swallow_the_next_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("split,update,loss\ntrain,1,3.0\ntrain,2")
    with CsvLogger(path) as logger:
        logger.log("train", {"update": 3, "loss": 1.0})
    assert [row["update"] for row in _read(path)] == ["1", "2", "3"]


ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["epoch", "loss", "lr", "accuracy"]),
        st.none() | st.integers(0, 10**6) | st.floats(0, 1e6, allow_subnormal=False),
    ),
    max_size=6,
)


@given(rows=ROWS)
def test_any_rows_are_read_back_as_they_were_logged(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("run") / "metrics.csv"
    with CsvLogger(path) as logger:
        for row in rows:
            logger.log("val", row)
    read = _read(path)
    assert len(read) == len(rows)
    for cells, row in zip(read, rows, strict=True):
        filled = {name: float(cell) for name, cell in cells.items() if name != "split" and cell}
        assert filled == pytest.approx({name: value for name, value in row.items() if value is not None})
