"""The data sets of text: the sources of Python's standard library, and any folder of files."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optwrap.errors import ConfigError
from optwrap.text.compression import content_of, lzma_bits, single_bytes, zlib_bits
from optwrap.text.files import SPLITS, folder_files, split_files, stdlib_files
from optwrap.text.token_file import TokenRow, fingerprint, kept_file, kept_row
from optwrap.text.vocabulary import ByteVocabulary, PairVocabulary, Vocabulary, given_vocabulary, train_pairs
from optwrap.text.windows import Documents, Packed, Windows

Samples = Windows | Documents | Packed
LAYOUTS = ("windows", "documents", "packed")
MADE = ("bytes", "bpe")


@dataclass(frozen=True)
class TextData:
    """What a data function of text returns: samples of three splits, the vocabulary, what tells it from others.

    `rows` are the tokens of each split, `for_task` what it gives the task.
    """

    train: Samples
    val: Samples
    test: Samples
    vocabulary: Vocabulary
    rows: Mapping[str, TokenRow]
    fingerprint: str

    @property
    def for_task(self) -> dict[str, Any]:
        """What the task may take of the data."""
        return {"vocabulary": self.vocabulary, "references": self.references}

    def references(self) -> dict[str, float]:
        """Return the bits that others take for a byte of val: a model of single bytes, zlib and lzma."""
        train, val = (content_of(self.rows[split], self.vocabulary) for split in ("train", "val"))
        return {"single bytes": single_bytes(train, val), "zlib": zlib_bits(val), "lzma": lzma_bits(val)}


def stdlib(**options: Any) -> TextData:
    """The sources of Python's own standard library, without its tests. `options`: as `text_folder`."""
    about = f"Python {sys.version.split()[0]}"
    return _text_data(stdlib_files(), about, **options)


def text_folder(root: str, pattern: str = "**/*.txt", **options: Any) -> TextData:
    """The files of a folder that fit a pattern, a document each.

    Files are split by their names' hashes. They are made tokens once, in a file below `cache`.

    Args:
        root, pattern: where the files are, and which.
        options: `cache`, a folder for files of tokens; `tokenizer`, bytes, bpe, or a run whose vocabulary it is;
            `vocab_size`; `length`, tokens a sample; `layout`, windows, documents or packed; `split_at`, a text at
            which files are cut into documents; `val_share`, `test_share`, of the files.

    Raises:
        ConfigError: there are no files, a split has none, or an option is no such value.
    """
    return _text_data(folder_files(Path(root), pattern), "", **options)


def _text_data(
    files: dict[str, Path],
    about: str,
    *,
    cache: str = "data/tokens",
    tokenizer: str = "bytes",
    vocab_size: int = ByteVocabulary.size,
    length: int = 256,
    layout: str = "windows",
    split_at: str | None = None,
    val_share: float = 0.05,
    test_share: float = 0.05,
) -> TextData:
    _check(tokenizer, vocab_size, length, layout, val_share, test_share)
    splits = split_files(list(files), {"val": val_share, "test": test_share})
    if empty := [name for name in SPLITS if not splits[name]]:
        raise ConfigError(
            f"data.{empty[0]} has none of the {len(files)} files: they are split by their names. Give more files, "
            f"or larger shares than data.val_share={val_share} and data.test_share={test_share}."
        )
    where = Path(cache).expanduser()
    given = None if tokenizer in MADE else given_vocabulary(tokenizer, vocab_size)
    tokens = tokenizer if given is None else given.fingerprint
    known = fingerprint(files, about, tokens, vocab_size, val_share, test_share, split_at)
    train_files = [files[name] for name in splits["train"]]
    vocabulary = given or _vocabulary(tokenizer, vocab_size, train_files, where / known)
    rows = {
        split: kept_row(where / f"{known}-{split}.npy", [files[name] for name in names], split_at, vocabulary)
        for split, names in splits.items()
    }
    if (shortest := min(len(row.tokens) for row in rows.values())) <= length:
        raise ConfigError(f"data.length={length}: a split has {shortest} tokens in all. Give less, or more text.")
    samples = {split: _samples(layout, row, length, vocabulary, split == "train") for split, row in rows.items()}
    told = ", ".join([about] * bool(about) + [known])
    return TextData(**samples, vocabulary=vocabulary, rows=rows, fingerprint=told)


def _check(tokenizer: str, vocab_size: int, length: int, layout: str, val_share: float, test_share: float) -> None:
    if tokenizer == "bytes" and vocab_size != ByteVocabulary.size:
        raise ConfigError(f"data.vocab_size={vocab_size}: with data.tokenizer=bytes it is {ByteVocabulary.size}.")
    if length < 1:
        raise ConfigError(f"data.length={length}: it is 1 or more.")
    if layout not in LAYOUTS:
        raise ConfigError(f"data.layout={layout}: there are {', '.join(LAYOUTS)}.")
    if not (val_share > 0 and test_share > 0 and val_share + test_share < 1):
        raise ConfigError(
            f"data.val_share={val_share} and data.test_share={test_share}: each is above 0, and together below 1."
        )


def _vocabulary(tokenizer: str, size: int, files: list[Path], place: Path) -> Vocabulary:
    if tokenizer == "bytes":
        return ByteVocabulary()
    kept = kept_file(
        place.with_name(f"{place.name}-pairs.json"),
        lambda kept: train_pairs([file.read_bytes() for file in files], size, kept),
    )
    return PairVocabulary(kept)


def _samples(layout: str, row: TokenRow, length: int, vocabulary: Vocabulary, trains: bool) -> Samples:
    if layout == "windows":
        return Windows(row, length, vocabulary.bytes_of, shifted=trains)
    return (Documents if layout == "documents" else Packed)(row, length, vocabulary.bytes_of)
