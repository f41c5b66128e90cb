"""The page of a report."""

from optwrap.sweep.report.page import page
from optwrap.sweep.report.results import Job
from optwrap.sweep.report.table import Table


def test_pictures_of_worst_samples_are_shown_as_long_as_the_page_stays_small(tmp_path):
    jobs = []
    for name, size in (("first", 300_000), ("second", 300_000), ("third", 100_000)):
        folder = tmp_path / name / "predictions"
        folder.mkdir(parents=True)
        (folder / "test_worst.png").write_bytes(bytes(size))
        jobs.append(Job(tmp_path / name, {}, None, {"test/accuracy": 0.5}))
    shown = page("title", Table([{"runs": "1"}]), [], jobs, tmp_path / "report")
    for name in ("first", "second", "third"):
        assert f'<a href="../{name}/predictions/test_worst.png">' in shown
    assert shown.count("data:image/png") == 2
    assert len(shown) < 1_000_000
    assert "Worst samples" not in page("title", Table([{"runs": "1"}]), [], [], tmp_path)
