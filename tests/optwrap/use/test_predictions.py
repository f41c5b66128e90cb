"""predict.py: what a run's checkpoint says of each sample, against plain PyTorch."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import predict
from optwrap import vision
from optwrap.errors import ConfigError
from optwrap.sweep.report import make_report


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return torch.tensor([float(row[name]) for row in rows])


def normalised(data, split):
    """The images of a split as the model gets them, by hand."""
    train = data.train.images.float() / 255
    return (getattr(data, split).images.float() / 255 - train.mean()) / train.std(correction=0)


@pytest.mark.parametrize("split", ["test", "train"])
@torch.no_grad()
def test_every_sample_is_predicted_once_in_its_order_and_without_augmentation(
    split, digits_run, digits_model, tmp_path
):
    out = tmp_path / "some.csv"
    predict.main([f"run={digits_run}", f"split={split}", f"out={out}", "batch_size=77", "worst=0"])
    rows, data = rows_of(out), vision.digits()
    labels = getattr(data, split).labels
    logits = digits_model(normalised(data, split))
    probabilities = torch.stack([column(rows, f"probability_{label}") for label in range(10)], dim=1)

    assert [row["index"] for row in rows] == [str(number) for number in range(len(labels))]
    assert torch.equal(column(rows, "target").long(), labels)
    assert torch.equal(column(rows, "prediction").long(), logits.argmax(dim=1))
    assert torch.equal(column(rows, "correct").bool(), logits.argmax(dim=1) == labels)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), rtol=1e-4, atol=1e-5)
    losses = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(column(rows, "loss"), losses, rtol=1e-4, atol=1e-5)


def test_the_means_are_the_runs_own_results_and_the_files_are_named(digits_run, capsys):
    done = predict.main([f"run={digits_run}"])
    result = json.loads((digits_run / "result.json").read_text())
    assert done.means["correct"] == pytest.approx(result["test/accuracy"])
    assert done.means["loss"] == pytest.approx(result["test/loss"], rel=1e-5)
    about = json.loads((digits_run / "predictions" / "test_facts.json").read_text())
    assert (about["split"], about["rows"], about["checkpoint"], about["updates"]) == ("test", 360, "last", 6)
    assert about["preprocessing"]["mean"] == pytest.approx([0.3048], abs=1e-3)
    files = [digits_run / "predictions" / name for name in ("test.csv", "test_worst.png")]
    assert capsys.readouterr().out.splitlines()[-2:] == list(map(str, files))
    assert all(file.is_file() for file in files)


def test_a_prediction_that_is_stopped_leaves_what_was_there(digits_run, monkeypatch):
    predict.main([f"run={digits_run}", "split=val", "worst=0"])
    folder = digits_run / "predictions"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    predict_step, calls = vision.ClassificationTask.predict_step, []

    def stopped(task, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict_step(task, batch)

    monkeypatch.setattr(vision.ClassificationTask, "predict_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict.main([f"run={digits_run}", "split=val"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_call_replaces_the_files_of_the_first(digits_run, tmp_path):
    out = tmp_path / "some.csv"
    predict.main([f"run={digits_run}", f"out={out}", "worst=1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.csv", "some_facts.json", "some_worst.png"]
    predict.main([f"run={digits_run}", f"out={out}", "worst=0", "split=val"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.csv", "some_facts.json"]
    assert len(rows_of(out)) == 359


@pytest.mark.slow
def test_a_report_shows_the_picture_and_stays_small(digits_run, capsys):
    predict.main([f"run={digits_run}"])
    make_report(digits_run.parent)
    page = digits_run.parent / "report" / "index.html"
    assert 'href="../run/predictions/test_worst.png"' in page.read_text()
    assert 'alt="test_worst" src="data:image/png;base64,' in page.read_text()
    assert page.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("split=tset", r"split=tset: it is train, val or test"),
        ("checkpoint=bets", r"checkpoint=bets: it is last or best"),
        ("weights=mean", r"weights=mean: it is evaluated or raw"),
        ("worts=3", r"worts=3: .*Did you mean 'worst'"),
        ("worst=-1", r"worst=-1: it is a number"),
        ("out=there/x.csv", r"there is no folder there"),
        ("out=RUN/metrics.csv", r"metrics\.csv: this is the run's own folder"),
        ("out=x.txt", r"out=x\.txt: name a file, such as x\.csv"),
    ],
)
def test_what_does_not_fit_is_said_by_its_key(argument, said, digits_run):
    with pytest.raises(ConfigError, match=said):
        predict.main([f"run={digits_run}", argument.replace("RUN", str(digits_run))])


def test_a_folder_without_a_checkpoint_is_named(digits_run, tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text((digits_run / ".hydra" / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"checkpoint\.pt: there is no"):
        predict.main([f"run={tmp_path}"])


@torch.no_grad()
def test_images_in_files_are_predicted_as_those_of_the_data_set(digits_run, digits_model, tmp_path):
    data, photos = vision.digits(), tmp_path / "photos"
    (photos / "some").mkdir(parents=True)
    for row in range(5):  # the last two in colour, twice as large
        image = Image.fromarray(data.test.images[row, 0].numpy())
        image = image if row < 3 else image.convert("RGB").resize((16, 16), Image.Resampling.NEAREST)
        image.save(photos / ("some" if row % 2 else "") / f"{row}.png")
    (photos / "notes.txt").touch()
    predict.main([f"run={digits_run}", f"data={photos}", "worst=2"])
    rows = rows_of(digits_run / "predictions" / "data_photos.csv")
    assert [row["name"] for row in rows] == ["0.png", "2.png", "4.png", "some/1.png", "some/3.png"]
    assert "target" not in rows[0]
    logits = digits_model(normalised(data, "test")[[0, 2, 1]])
    found = torch.stack([column(rows, f"probability_{label}") for label in range(10)], dim=1)[[0, 1, 3]]
    torch.testing.assert_close(found, logits.softmax(dim=1), rtol=1e-4, atol=1e-5)
    about = json.loads((digits_run / "predictions" / "data_photos_facts.json").read_text())
    assert (about["data"], about["rows"]) == (str(photos), 5)


def test_files_that_are_no_images_are_named(digits_run, tmp_path):
    def refused(said):
        with pytest.raises(ConfigError, match=said):
            predict.main([f"run={digits_run}", f"data={tmp_path}"])

    refused("there is no image in it")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    refused(r"cut\.png: this is no image that can be read")
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(tmp_path / "cut.png")
    refused(r"cut\.png: its pixels are of type I;16\. Save it with 8 bits")
    with pytest.raises(ConfigError, match="split=val data=photos: give one of them"):
        predict.main([f"run={digits_run}", "data=photos", "split=val"])
    with pytest.raises(ConfigError, match=r"data=photos: there is no such folder"):
        predict.main([f"run={digits_run}", "data=photos"])
