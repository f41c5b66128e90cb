"""The table, the pictures and the page, for sweeps of two jobs and of two hundred."""

import csv
import itertools
import json
import re
import warnings

import matplotlib.image
import pytest
from rich.console import Console

from optwrap.errors import ConfigError
from optwrap.sweep.records import Record, write_record
from optwrap.sweep.report.baseline import named_baseline
from optwrap.sweep.report.results import read_jobs
from optwrap.sweep.report.settings import default_metrics, settings
from optwrap.sweep.report.table import make_table, to_csv, to_markdown, to_rich
from optwrap.sweep.report.write import write_report
from tests.optwrap.cases import one_in


def make_sweep(folder, points, accuracy=lambda index: 0.5 + index / 1000, higher_is_better=True):
    """A finished job a point, as train.py leaves it."""
    for index, point in enumerate(points):
        job = folder / f"job{index:03}"
        job.mkdir(parents=True)
        overrides = [f"{key}={value}" for key, value in point.items()]
        record = Record().begun(overrides, "val/accuracy", "call").ended("finished", metric=accuracy(index))
        write_record(job, record)
        result = {"val/accuracy": accuracy(index), "test/loss": 1.0, "seconds": 2.0}
        result |= {"objective": "val/accuracy", "higher_is_better": higher_is_better}
        (job / "result.json").write_text(json.dumps(result))
        curve = "".join(f"val,{update},{accuracy(index) * update / 30}\n" for update in (10, 20, 30))
        (job / "metrics.csv").write_text(f"split,update,accuracy\ntrain,5,0.1\n{curve}")
    return read_jobs(folder)


def rows(jobs, metrics):
    return make_table(jobs, metrics).rows


def report_on(folder, jobs, metrics):
    return write_report(folder, jobs, make_table(jobs, metrics))


def grid(**values):
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


@pytest.fixture
def two_by_two(tmp_path):
    return make_sweep(tmp_path, grid(**{"optim_wrapper.optimizer.lr": ["0.1", "0.2"], "seed": ["0", "1"]}))


def test_rows_have_mean_and_spread_over_seeds_and_the_best_is_marked(two_by_two):
    # By seed the two differ by 0.002 each time: nothing is uncertain about it.
    assert rows(two_by_two, ["val/accuracy", "test/loss"]) == [
        {"lr": "0.1", "runs": "2", "val/accuracy": "0.50050 ± 0.00071", "test/loss": "1 ± 0"},
        {"lr": "0.2", "runs": "2", "val/accuracy": "0.50250 ± 0.00071 *", "test/loss": "1 ± 0"},
    ]


def test_the_best_is_the_lowest_where_lower_is_better(tmp_path):
    jobs = make_sweep(tmp_path, grid(lr=["0.1", "0.2"], seed=["0", "1"]), higher_is_better=False)
    assert make_table(jobs, ["val/accuracy"]).best == 0
    assert [row["val/accuracy"][-1] for row in rows(jobs, ["val/accuracy"])] == ["*", "1"]


def test_of_one_run_each_the_best_has_no_star_and_the_table_says_why(tmp_path):
    table = make_table(make_sweep(tmp_path, grid(lr=["0.1", "0.2"])), ["val/accuracy"])
    assert [row["val/accuracy"] for row in table.rows] == ["0.5", "0.501"]
    assert table.best == 1
    assert table.notes == [
        "best mean: lr=0.2; no *, since one run each shows no difference: repeat them, as by seed=0,1,2"
    ]


def test_where_the_interval_over_the_next_holds_zero_there_is_no_star_but_how_many_pairs_would_tell(tmp_path):
    accuracies = [0.5, 0.6, 0.7, 0.55, 0.6, 0.74]  # differences 0.05, 0, 0.04
    points = grid(lr=["0.1", "0.2"], seed=["0", "1", "2"])
    table = make_table(make_sweep(tmp_path, points, accuracy=accuracies.__getitem__), ["val/accuracy"])
    assert table.best == 1
    assert "*" not in "".join(row["val/accuracy"] for row in table.rows)
    (note,) = table.notes
    assert note == (
        "best mean: lr=0.2; no *, since the interval holds zero: +0.030 [-0.036, +0.096] over lr=0.1 (95 %, 3 "
        "pairs); if it is so, about 9 pairs would show it"
    )


def test_a_baseline_gives_each_other_setting_its_paired_difference(tmp_path):
    accuracies = [0.5, 0.6, 0.7, 0.6, 0.71, 0.79]  # differences 0.1, 0.11, 0.09
    points = grid(lr=["0.1", "0.2"], seed=["0", "1", "2"])
    jobs = make_sweep(tmp_path, points, accuracy=accuracies.__getitem__)
    table = make_table(jobs, ["val/accuracy"], named_baseline(settings(jobs), ["lr=0.10"]))
    assert [row["difference"] for row in table.rows] == ["baseline", "+0.100 [+0.075, +0.125]"]
    assert table.notes[0].startswith("difference: val/accuracy less that of lr=0.1")
    with pytest.raises(ConfigError, match=r"lr=3: no setting has these values. Name one of: lr=0.1; lr=0.2"):
        named_baseline(settings(jobs), ["lr=3"])


def test_a_job_with_nan_is_never_the_best(tmp_path):
    values = [float("nan"), 0.1]
    jobs = make_sweep(tmp_path, grid(lr=["0.1", "0.2"]), accuracy=values.__getitem__)
    table = make_table(jobs, ["val/accuracy"])
    assert ([row["val/accuracy"] for row in table.rows], table.best) == (["nan", "0.1"], 1)


def test_what_a_search_has_pruned_is_never_the_best_and_says_so(tmp_path):
    make_sweep(tmp_path, grid(lr=["0.1", "0.2", "0.3"]))
    file = tmp_path / "job002" / "result.json"
    pruned = {"pruning/trial": {"losses": [1.0], "pruned": True}}
    file.write_text(json.dumps(json.loads(file.read_text()) | pruned))
    table = make_table(read_jobs(tmp_path), ["val/accuracy"])
    assert table.best == 1
    assert [row["runs"] for row in table.rows] == ["1", "1", "1 (pruned)"]
    assert table.notes[-1] == "1 of 3 jobs were pruned: their numbers are those of where they ended"


def test_a_setting_of_which_one_job_diverged_says_so_and_is_not_the_best(tmp_path):
    values = [float("inf"), 0.9, 0.1, 0.2]
    jobs = make_sweep(tmp_path, grid(lr=["0.1", "0.2"], seed=["0", "1"]), accuracy=values.__getitem__)
    table = make_table(jobs, ["val/accuracy"])
    assert [row["val/accuracy"] for row in table.rows] == ["inf (1 of 2)", "0.150 ± 0.071"]
    assert table.best == 1


def test_one_setting_is_not_called_the_best_and_has_no_spread(tmp_path):
    jobs = make_sweep(tmp_path, [{"seed": "0"}])
    assert rows(jobs, ["val/accuracy"]) == [{"runs": "1", "val/accuracy": "0.5"}]


def test_unfinished_jobs_are_counted_apart(two_by_two, tmp_path):
    record = Record().begun(["optim_wrapper.optimizer.lr=0.2", "seed=2"], "val/accuracy", "call")
    (tmp_path / "bad").mkdir()
    write_record(tmp_path / "bad", record.ended("failed", error="<oops>"))
    assert [row["runs"] for row in rows(read_jobs(tmp_path), ["test/loss"])] == ["2", "2 of 3"]
    report_on(tmp_path, read_jobs(tmp_path), ["test/loss"])
    page = (tmp_path / "report/index.html").read_text()
    assert "Not finished: 1" in page
    assert "&lt;oops&gt;" in page


def test_a_table_is_markdown_csv_and_shown_on_a_terminal(two_by_two):
    table = make_table(two_by_two, ["val/accuracy"])
    assert to_markdown(table.rows).splitlines()[:3] == [
        "| lr | runs | val/accuracy |",
        "| --- | --- | --- |",
        "| 0.1 | 2 | 0.50050 ± 0.00071 |",
    ]
    assert list(csv.DictReader(to_csv(table.rows).splitlines())) == table.rows
    console = Console(width=100)
    with console.capture() as shown:
        console.print(to_rich(table))
    assert "0.50250 ± 0.00071 *" in shown.get()


@pytest.mark.slow
def test_any_text_can_be_swept(tmp_path):
    points = grid(a=["$_$ \\frac{", "${x} <b>"], b=["1|2", "two\nlines"], c=["[bold]", "c" * 300])
    jobs = make_sweep(tmp_path, points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a picture that does not fit
        report_on(tmp_path, jobs, ["val/accuracy"])
    table = (tmp_path / "report/table.md").read_text()
    assert len(table.partition("\n\n")[0].splitlines()) == 2 + len(points)
    assert "| ${x} &lt;b> | 1&#124;2 | [bold] |" in table
    assert "two lines" in table


def test_settings_that_all_diverge_are_drawn_as_far_as_they_can_be(tmp_path):
    jobs = make_sweep(tmp_path, grid(**NUMBERS), accuracy=lambda index: float("nan"))
    files = report_on(tmp_path, jobs, ["val/accuracy"])
    assert [path.name for path in files if path.suffix == ".png"] == ["settings.png", "curves.png"]


TEN = [str(i / 9) for i in range(1, 11)]
NUMBERS = {"lr": ["0.001", "0.01", "0.1"], "decay": ["0", "0.1"]}
CASES = {
    "two jobs": (grid(optim_wrapper=["[sgd]", "[sgd,amp]"]), []),
    "two hundred jobs": (grid(lr=TEN, decay=["0", "1"], model=list("abcde"), seed=["0", "1"]), ["parallel.png"]),
    "three keys": (grid(**NUMBERS, model=["a", "b"]), ["parallel.png"]),
    "a search": ([{"lr": str(0.01 * 2**i), "decay": str(i / 7)} for i in range(9)], ["heat_map.png"]),
    "two numbers": (grid(**NUMBERS, seed=["0", "1"]), ["heat_map.png"]),
}  # fmt: skip


@pytest.mark.parametrize("case", one_in(2, list(CASES)))
def test_the_report_has_the_pictures_that_its_keys_allow_and_one_page_with_all(case, tmp_path):
    points, expected = CASES[case]
    jobs = make_sweep(tmp_path, points)
    files = report_on(tmp_path, jobs, default_metrics(jobs))
    pictures = [path for path in files if path.suffix == ".png"]
    assert [path.name for path in pictures] == ["settings.png", "curves.png", *expected]
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert pixels[..., :3].std() > 0.02  # something is drawn
        assert max(pixels.shape) < 2400
    page = (tmp_path / "report/index.html").read_text()
    assert page.count("<img") == len(pictures)
    assert not re.findall(r'src="(?!data:)', page)
    links = re.findall(r'href="([^"]+)"', page)
    assert [(tmp_path / "report" / link).resolve() for link in links] == [job.folder for job in jobs]
    settings = len({tuple(p.items() - {("seed", p.get("seed"))}) for p in points})
    assert page.count("<tr") == 2 + settings + len(jobs)
    assert '<meta name="viewport"' in page
    assert "color-scheme: light dark" in page


def test_the_page_says_when_it_was_made_and_by_which_command(two_by_two, tmp_path):
    (tmp_path / "sweep.json").write_text(
        json.dumps({"jobs": 4, "overrides": ["lr=0.1,0.2", "optim_wrapper=[sgd]"]})
    )
    report_on(tmp_path, two_by_two, ["val/accuracy"])
    page = (tmp_path / "report/index.html").read_text()
    assert re.search(
        r"\d{4}-\d\d-\d\d \d\d:\d\d: python train.py -m lr=0.1,0.2 &#x27;optim_wrapper=\[sgd\]&#x27;", page
    )


@pytest.mark.slow
def test_a_picture_of_an_earlier_report_that_no_longer_fits_is_removed(tmp_path):
    jobs = make_sweep(tmp_path, grid(**NUMBERS))
    report_on(tmp_path, jobs, ["val/accuracy"])
    report_on(tmp_path, [job for job in jobs if job.value("decay") == "0"], ["val/accuracy"])
    assert not (tmp_path / "report/heat_map.png").exists()
