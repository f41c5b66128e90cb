"""Folders of labelled images: their classes and files, and which of these train, validate and test."""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch

from optwrap.errors import ConfigError, did_you_mean, first_line
from optwrap.vision.files import ENDINGS
from optwrap.vision.folds import fold_rows

_EVALUATED = ("val", "test")
_SPLITS = ("train", *_EVALUATED)
_WAYS = ("seed", "name")
_SHOWN = 5  # names in a message


class ImageFile(NamedTuple):
    """An image in a file: its path below the root, the number of its class, its size in bytes and its time."""

    name: str
    label: int
    size: int
    time: int


Splits = dict[str, list[ImageFile]]


@dataclass(frozen=True)
class Sharing:
    """How files are shared out: `shares` of val and test, by seed (a share of each class) or by name (a hash)."""

    shares: Mapping[str, float]
    by: str = "seed"
    seed: int = 0


def find_images(root: str | None) -> tuple[list[str], Splits]:
    """Return the names of the classes and the files by split; all of them are in `all` where there are no splits.

    The layout is that of torchvision's ImageFolder, root/CLASS/x.png, or root/train/CLASS/x.png beside val and
    test.

    Raises:
        ConfigError: there is no such folder, no image, a class without images, or one that a split lacks.
    """
    folder = _existing(root)
    try:
        return _found(root, folder)
    except OSError as error:
        raise ConfigError(f"data.root={root}: it cannot be read ({first_line(error)}).") from error


def _found(root: str | None, folder: Path) -> tuple[list[str], Splits]:
    there = [name for name in _SPLITS if _is_split(folder / name)]
    if not there:
        classes, files = _classes(folder, folder), _files(folder, folder)
        return classes, {"all": _labelled(root, folder, classes, files)}
    others = [name for name in _folders(folder) if name not in there]
    if "train" not in there or others:
        wrong = f"beside {', '.join(there)} there is {', '.join(others[:_SHOWN]) or 'no train'}"
        raise ConfigError(
            f"data.root={root}: {wrong}.{did_you_mean(others[0], _SPLITS) if others else ''} It holds train, and "
            "val and test where there are any, or a folder a class."
        )
    classes = _classes(folder, folder / "train")
    return classes, {
        name: _labelled(root, folder / name, classes, _files(folder, folder / name)) for name in there
    }


def _existing(root: str | None) -> Path:
    if root is None:
        raise ConfigError("data.root=null: give the folder of the images, data.root=DIR with DIR/CLASS/x.png.")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        beside = _folders(folder.parent) if folder.parent.is_dir() else []
        raise ConfigError(f"data.root={root}: there is no such folder.{did_you_mean(folder.name, beside)}")
    return folder


def _folders(folder: Path) -> list[str]:
    return sorted(each.name for each in os.scandir(folder) if each.is_dir() and not each.name.startswith("."))


def _is_split(folder: Path) -> bool:
    """Whether the folder holds folders, of classes, and no image: one that is called train may be a class."""
    return folder.is_dir() and bool(_folders(folder)) and not any(map(_is_image, os.listdir(folder)))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def _classes(root: Path, folder: Path) -> list[str]:
    if classes := _folders(folder):
        return classes
    loose = sum(map(_is_image, os.listdir(folder)))
    what = f"its {loose} images lie in no folder of a class" if loose else "it holds no folders of classes"
    raise ConfigError(f"data.root={root}: {what}. Each class has a folder of images: {folder}/CLASS/x.png.")


def _files(root: Path, folder: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Return the name, size and time of each image by the folder of its class, in the order of names."""
    found: dict[str, list[tuple[str, int, int]]] = {name: [] for name in _folders(folder)}
    for name, images in found.items():
        for where, below, files in os.walk(folder / name, followlinks=True):
            below[:] = [each for each in below if not each.startswith(".")]
            for file in filter(_is_image, files):
                path = Path(where, file)
                about = path.stat()
                images.append((path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns))
        images.sort()
    return found


def _labelled(
    root: str | None, folder: Path, classes: Sequence[str], found: Mapping[str, list[tuple[str, int, int]]]
) -> list[ImageFile]:
    if other := [name for name in found if name not in classes]:
        raise ConfigError(
            f"data.root={root}: {folder} has a class {other[0]!r} that train has not."
            f"{did_you_mean(other[0], classes)} Give train images of it, or take it away."
        )
    if lacking := [name for name in classes if not found.get(name)]:
        is_all = len(lacking) == len(classes)
        which = "any class" if is_all else f"class {', '.join(map(repr, lacking[:_SHOWN]))}"
        raise ConfigError(
            f"data.root={root}: {folder} has no image of {which}. Put some into {folder / lacking[0]} "
            f"({', '.join(sorted(ENDINGS))}), or take that folder away."
        )
    files = [
        ImageFile(name, label, size, time)
        for label, each in enumerate(classes)
        for name, size, time in found[each]
    ]
    if empty := next((file.name for file in files if not file.size), None):
        raise ConfigError(f"data.root={root}: the file {empty} is empty. Remove or replace it.")
    return files


def make_splits(
    found: Splits, classes: Sequence[str], sharing: Sharing, fold: int | None = None, folds: int = 5
) -> Splits:
    """Return the files of train, val and test, those that were `found` as splits as they are.

    Of files without splits, val and test are shares; a val that is missing beside train is a share of that. With a
    `fold`, val is that fold of all that is not test.

    Raises:
        ConfigError: a share is out of range, or leaves a split without a class.
    """
    shares = _checked(sharing)
    rest, test = found.get("all") or found["train"], found.get("test", [])
    if "all" in found and shares["test"]:
        rest, test = _taken(rest, "test", shares["test"], classes, sharing)
    if fold is not None:
        rest = sorted(rest + found.get("val", []))
        rows = fold_rows(torch.tensor([file.label for file in rest]), fold, folds, sharing.seed)
        train, val = ([rest[row] for row in part.tolist()] for part in rows)
        return {"train": train, "val": val, "test": test}
    if "val" in found or not shares["val"]:
        return {"train": rest, "val": found.get("val", []), "test": test}
    of_rest = shares["val"] / (1 - shares["test"]) if "all" in found else shares["val"]
    train, val = _taken(rest, "val", of_rest, classes, sharing)
    return {"train": train, "val": val, "test": test}


def _checked(sharing: Sharing) -> dict[str, float]:
    if sharing.by not in _WAYS:
        raise ConfigError(f"data.split_by={sharing.by}: it is seed or name.{did_you_mean(sharing.by, _WAYS)}")
    given: dict[str, float] = {"val": 0.0, "test": 0.0} | dict(sharing.shares)
    for name, share in given.items():
        if name not in _EVALUATED:
            raise ConfigError(f"data.shares.{name}: shares are of val and test.{did_you_mean(name, _EVALUATED)}")
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise ConfigError(f"data.shares.{name}={share}: it is a part of all images, from 0 to below 1.")
    if sum(given.values()) >= 1:
        raise ConfigError(f"data.shares={given}: they leave nothing to train on. Their sum is to be below 1.")
    return given


def _taken(
    files: Sequence[ImageFile], split: str, share: float, classes: Sequence[str], sharing: Sharing
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return what is left and what is taken for a split, both in the order of files."""
    of_class: dict[int, list[ImageFile]] = {}
    for file in files:
        of_class.setdefault(file.label, []).append(file)
    taken: set[ImageFile] = set()
    for label, each in of_class.items():
        part = (
            _drawn(each, split, share, sharing) if sharing.by == "seed" else _hashed(each, split, share, sharing)
        )
        if not 0 < len(part) < len(each):
            way = "" if sharing.by == "seed" else ", or data.split_by=seed, which takes a share of each class"
            raise ConfigError(
                f"data.shares.{split}={sharing.shares[split]}: {split} would get {len(part)} of the {len(each)} "
                f"images of class {classes[label]!r}. Give more images of it, or another share{way}."
            )
        taken.update(part)
    return [file for file in files if file not in taken], [file for file in files if file in taken]


def _drawn(files: Sequence[ImageFile], split: str, share: float, sharing: Sharing) -> list[ImageFile]:
    count = max(1, round(share * len(files)))
    return random.Random(f"{sharing.seed}/{split}/{files[0].label}").sample(files, count)


def _hashed(files: Sequence[ImageFile], split: str, share: float, sharing: Sharing) -> list[ImageFile]:
    def place(file: ImageFile) -> float:
        told = f"{sharing.seed}/{split}/{file.name}".encode(errors="surrogateescape")
        return int.from_bytes(blake2b(told, digest_size=8).digest(), "big") / 2**64

    return [file for file in files if place(file) < share]
