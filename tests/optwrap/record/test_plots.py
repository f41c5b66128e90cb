import matplotlib.image
import numpy as np
import pytest

from optwrap.record.plots import plot_curves

FULL = """split,epoch,update,seconds,loss,accuracy,lr,grad_norm,top5
train,1,20,0.1,2.0,0.3,0.05,1.0,
train,1,40,0.2,1.5,0.5,0.04,1.0,
val,1,40,0.2,1.4,0.6,,,0.9
test,1,40,0.3,1.3,0.65,,,0.91
"""


def _plot(tmp_path, text: str) -> np.ndarray:
    source, png = tmp_path / "metrics.csv", tmp_path / "curves.png"
    source.write_text(text)
    plot_curves(source, png)
    return matplotlib.image.imread(png)


def _panels(image: np.ndarray) -> int:
    """The width of a figure tells how many panels it has."""
    return round(image.shape[1] / (4.2 * 130))


def test_loss_every_metric_and_lr_have_a_panel_each(tmp_path):
    assert _panels(_plot(tmp_path, FULL)) == 4


@pytest.mark.slow
def test_many_panels_are_wrapped_into_lines(tmp_path):
    names = ",".join(f"metric{i}" for i in range(7))
    image = _plot(tmp_path, f"split,update,{names}\ntrain,1,{'1,' * 6}1\n")
    assert _panels(image) == 5
    assert round(image.shape[0] / (3.4 * 130)) == 2
    width = image.shape[1]
    assert image[image.shape[0] // 2 :, width // 2 :, :3].min() == 1  # two panels in the second line, then nothing


@pytest.mark.parametrize(
    ("text", "panels"),
    [
        ("split,update,loss,lr\ntrain,20,2.0,0.05\n", 2),
        ("split,update,loss\nval,20,2.0\n", 1),
        ("split,update,accuracy\ntrain,20,0.5\n", 1),
        ("split,update,loss,lr\ntrain,20,nan,0.05\ntrain,40,,0.05\n", 1),
        ("split,update,loss,lr\ntrain,20,1.0,0.05\ntrain,40,nan,0.05\ntrain,60,inf,0.05\n", 2),
        ("split,loss\ntrain,1.0\n", 1),
        ("split\n", 1),
    ],
    ids=["one row", "one evaluation", "no loss", "no finite loss", "NaN on the way", "no updates", "no rows"],
)
def test_what_is_missing_or_not_finite_is_left_out(tmp_path, text, panels):
    image = _plot(tmp_path, text)
    assert _panels(image) == panels
    assert image[..., :3].min() < 0.5  # something is drawn


def test_a_curve_is_drawn_where_its_numbers_are(tmp_path):
    few = _plot(tmp_path, FULL.replace("val,", "skip,").replace("test,", "skip,"))
    red = np.array([0xD1, 0x49, 0x5B]) / 255
    assert not (np.abs(few[..., :3] - red).max(axis=2) < 0.02).any()
    assert (np.abs(_plot(tmp_path, FULL)[..., :3] - red).max(axis=2) < 0.02).any()


@pytest.mark.slow
def test_what_others_reach_is_drawn_beside_the_metric_and_into_no_other_panel(tmp_path):
    before = _plot(tmp_path, FULL)
    (tmp_path / "references.json").write_text('{"accuracy": {"chance": 0.4}}')
    changed = (before != _plot(tmp_path, FULL)).any(axis=(0, 2))
    panels = [bool(part.any()) for part in np.array_split(changed, 4)]
    assert panels == [False, True, False, False]
