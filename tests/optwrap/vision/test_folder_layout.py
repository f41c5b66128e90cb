"""Which files of a folder train, validate and test."""

from itertools import chain

import pytest

from optwrap.errors import ConfigError
from optwrap.vision.folder_layout import Sharing, find_images, make_splits

SHARES = {"val": 0.2, "test": 0.2}


@pytest.fixture
def folder(tmp_path):
    """Make files, of one byte each, and return the folder that holds them."""

    def make(*names, content=b"x"):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(tmp_path / "images")

    return make


def flat(count=20, classes=("cat", "dog")):
    return [f"{name}/{number:02}.png" for name in classes for number in range(count)]


def names(splits):
    return {split: [file.name for file in files] for split, files in splits.items()}


def every(splits):
    return sorted(chain(*splits.values()))


def split(root, by="seed", seed=0, shares=SHARES, **fold):
    classes, found = find_images(root)
    return names(make_splits(found, classes, Sharing(shares, by, seed), **fold))


def test_classes_are_folders_by_name_and_images_lie_at_any_depth_in_them(folder):
    root = folder("dog/b.JPG", "cat/deep/er/a.png", "cat/notes.txt", "cat/.hidden.png", ".git/x.png", "loose.txt")
    classes, found = find_images(root)
    assert classes == ["cat", "dog"]
    assert [(file.name, file.label, file.size) for file in found["all"]] == [
        ("cat/deep/er/a.png", 0, 1),
        ("dog/b.JPG", 1, 1),
    ]


def test_a_share_of_each_class_is_drawn_by_the_seed_alone(folder):
    root = folder(*flat(20))
    first, again, other = split(root), split(root), split(root, seed=1)
    assert first == again != other
    assert every(first) == flat(20)
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        assert [sum(each.startswith(cls) for each in first[name]) for cls in ("cat", "dog")] == [count, count]


def test_by_name_a_file_stays_where_it_is_when_others_come(folder):
    before = split(folder(*flat(60)), by="name")
    after = split(folder(*flat(90, ("ant", "cat", "dog"))), by="name")
    assert every(after) == flat(90, ("ant", "cat", "dog"))
    for name, files in before.items():
        assert set(files) <= set(after[name])
    assert 0.1 < len(after["val"]) / 270 < 0.3
    assert 0.1 < len(after["test"]) / 270 < 0.3


def test_splits_that_are_given_stay_and_a_missing_test_is_missing(folder):
    given = [f"{name}/{cls}/{n}.png" for name in ("train", "val") for cls in ("cat", "dog") for n in range(5)]
    root = folder(*given)
    assert split(root) == {"train": given[:10], "val": given[10:], "test": []}


def test_a_val_that_is_missing_beside_train_is_a_share_of_it(folder):
    root = folder(*(f"train/{each}" for each in flat(10)), "test/cat/x.png", "test/dog/x.png")
    made = split(root)
    assert [len(made[name]) for name in ("train", "val", "test")] == [16, 4, 2]
    assert made["test"] == ["test/cat/x.png", "test/dog/x.png"]
    assert split(root, shares={"val": 0.0})["val"] == []


def test_a_class_may_be_called_train(folder):
    classes, found = find_images(folder("train/a.png", "bus/b.png"))
    assert (classes, list(found)) == (["bus", "train"], ["all"])


def test_folds_validate_on_each_file_once_and_leave_test_alone(folder):
    root = folder(*flat(20))
    made = [split(root, fold=fold, folds=4) for fold in range(4)]
    assert {tuple(each["test"]) for each in made} == {tuple(split(root)["test"])}
    assert every({"test": made[0]["test"]} | {fold: each["val"] for fold, each in enumerate(made)}) == flat(20)
    assert all(every(each) == flat(20) for each in made)


def test_folds_of_given_splits_are_of_train_and_val(folder):
    given = [f"{name}/{cls}/{n}.png" for name in ("train", "val") for cls in ("cat", "dog") for n in range(4)]
    made = [split(folder(*given), fold=fold, folds=2) for fold in range(2)]
    assert sorted(made[0]["val"] + made[1]["val"]) == given


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "it holds no folders of classes"),
        (["a.png", "b.png"], "its 2 images lie in no folder of a class. Each class has a folder"),
        (["cat/notes.txt", "dog/a.png"], r"has no image of class 'cat'\. Put some into .*cat \(\.bmp"),
        (["cat/notes.txt"], "has no image of any class"),
        (["train/cat/a.png", "train/dog/a.png", "val/cat/a.png"], "val has no image of class 'dog'"),
        (["train/cat/a.png", "val/cats/a.png"], "has a class 'cats' that train has not. Did you mean 'cat'"),
        (["train/cat/a.png", "vali/cat/a.png"], "beside train there is vali. Did you mean 'val'"),
        (["val/cat/a.png", "test/cat/a.png"], "beside val, test there is no train"),
    ],
)
def test_what_is_no_such_folder_is_one_message_that_names_the_root(files, said, folder, tmp_path):
    (tmp_path / "images").mkdir()
    root = folder(*files) if files else str(tmp_path / "images")
    with pytest.raises(ConfigError, match=said) as error:
        find_images(root)
    assert str(error.value).startswith(f"data.root={root}: ")
    assert "\n" not in str(error.value)


def test_a_root_that_is_not_there_or_not_given_is_named(folder, tmp_path):
    folder("cat/a.png")
    with pytest.raises(ConfigError, match=r"data\.root=.*image: there is no such folder\. Did you mean 'images'"):
        find_images(str(tmp_path / "image"))
    with pytest.raises(ConfigError, match=r"data\.root=null: give the folder"):
        find_images(None)


def test_an_empty_file_is_named(folder):
    root = folder("cat/a.png", content=b"")
    with pytest.raises(ConfigError, match=rf"data\.root={root}: the file cat/a\.png is empty"):
        find_images(root)


@pytest.mark.parametrize(
    ("shares", "by", "said"),
    [
        ({"vall": 0.1}, "seed", r"data\.shares\.vall: .* Did you mean 'val'"),
        ({"val": 1.5}, "seed", r"data\.shares\.val=1\.5: it is a part"),
        ({"val": "half"}, "seed", r"data\.shares\.val=half"),
        ({"val": 0.5, "test": 0.5}, "seed", "they leave nothing to train on"),
        ({"val": 0.1}, "nam", r"data\.split_by=nam: .*'name'"),
        ({"val": 0.9}, "seed", r"data\.shares\.val=0\.9: val would get 3 of the 3 images of class 'cat'"),
        ({"test": 0.01}, "name", r"test=0\.01: test would get 0 of .*, or data\.split_by=seed"),
    ],
)
def test_shares_that_cannot_be_are_named(shares, by, said, folder):
    with pytest.raises(ConfigError, match=said):
        split(folder(*flat(3)), by=by, shares=shares)
