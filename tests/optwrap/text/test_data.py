import zlib

import numpy as np
import pytest

from optwrap.errors import ConfigError
from optwrap.text import stdlib, text_folder
from optwrap.text.files import split_files
from optwrap.text.vocabulary import ByteVocabulary, PairVocabulary


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    for number in range(60):
        file = root / f"{number % 3}" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"text number {number}, ünïcode and all. " * (number % 7 + 1), encoding="utf-8")
    return root


def made(folder, **options):
    return text_folder(str(folder), **({"cache": str(folder.parent / "cache"), "length": 8, "val_share": 0.1,
                                        "test_share": 0.1} | options))  # fmt: skip


def contents(data, split):
    """The documents of a split."""
    row = data.rows[split]
    return [
        data.vocabulary.decode(row.tokens[start + 1 : end].tolist())
        for start, end in zip(row.starts[:-1], row.starts[1:], strict=True)
    ]


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe", "vocab_size": 290}])
def test_each_file_is_in_one_split_and_comes_back_as_it_was(folder, options):
    data = made(folder, **options)
    texts = [text for split in ("train", "val", "test") for text in contents(data, split)]
    assert sorted(texts) == sorted(file.read_text(encoding="utf-8") for file in folder.rglob("*.txt"))
    for row in data.rows.values():
        assert int(data.vocabulary.bytes_of[row.tokens].sum()) == sum(
            len(text.encode()) for text in contents(data, next(k for k, v in data.rows.items() if v is row))
        )


def test_more_files_move_none_of_the_others(folder):
    before = {split: contents(made(folder), split) for split in ("train", "val", "test")}
    (folder / "new.txt").write_text("new")
    after = made(folder)
    for split, texts in before.items():
        assert [text for text in contents(after, split) if text != "new"] == texts


def test_tokens_are_kept_and_made_anew_where_a_file_has_changed(folder):
    first = made(folder)
    files = sorted((folder.parent / "cache").iterdir())
    stamps = [file.stat().st_mtime_ns for file in files]
    assert made(folder).fingerprint == first.fingerprint
    assert [file.stat().st_mtime_ns for file in files] == stamps
    next(folder.rglob("7.txt")).write_text("other")
    assert made(folder).fingerprint != first.fingerprint


def test_a_batch_of_any_layout_holds_what_a_model_takes(folder):
    for layout in ("windows", "documents", "packed"):
        batch = made(folder, layout=layout).train.collated([0, 1])
        assert {"inputs", "targets", "bytes"} <= set(batch)
        assert ("documents" in batch) == (layout == "packed")


def test_files_are_cut_into_documents_where_told(folder):
    whole, cut = (contents(made(folder, split_at=at), "train") for at in (None, "all. "))
    assert "".join(text.replace("all. ", "") for text in whole) == "".join(cut)
    assert len(cut) > 2 * len(whole)


@pytest.mark.slow
def test_python_s_own_sources_are_a_corpus(tmp_path):
    data = stdlib(cache=str(tmp_path), length=64)
    assert data.fingerprint.startswith("Python 3.")
    assert len(data.rows["train"].tokens) > 5_000_000
    val = data.rows["val"].tokens
    content = bytes(val[val < 256].astype(np.uint8))
    assert len(zlib.compress(content, 9)) < len(content) / 2
    assert b"import" in content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "nowhere"}, "data.root=nowhere: there is no such folder"),
        ({"pattern": "*.md"}, "data.pattern=\\*.md: no file in"),
        ({"tokenizer": "words"}, "data.tokenizer=words: it is bytes, bpe, or the folder of a run"),
        ({"vocab_size": 300}, "data.vocab_size=300: with data.tokenizer=bytes it is 257"),
        ({"tokenizer": "bpe", "vocab_size": 5000}, "data.vocab_size=5000: the corpus gives"),
        ({"tokenizer": "bpe", "vocab_size": 20}, "data.vocab_size=20: byte pairs need from 257"),
        ({"length": 0}, "data.length=0: it is 1 or more"),
        ({"length": 100_000}, "data.length=100000: a split has"),
        ({"layout": "rows"}, "data.layout=rows: there are windows, documents, packed"),
        ({"val_share": 0.0}, "data.val_share=0.0 and data.test_share=0.1: each is above 0"),
        ({"val_share": 1e-6}, "data.val has none of the 60 files"),
    ],
)
def test_what_cannot_be_had_is_named(options, message, folder):
    with pytest.raises(ConfigError, match=message):
        made(**({"folder": folder} | options)) if "root" not in options else text_folder(**options)


def test_a_share_of_the_names_is_about_that_share_of_them():
    splits = split_files([f"{number}.py" for number in range(4000)], {"val": 0.1, "test": 0.05})
    assert [len(splits[split]) for split in ("val", "test")] == pytest.approx([400, 200], rel=0.15)


def test_byte_pairs_shorten_a_text_and_count_its_bytes(folder):
    data = made(folder, tokenizer="bpe", vocab_size=290)
    assert isinstance(data.vocabulary, PairVocabulary)
    assert data.vocabulary.size == 290
    text = "text number 1, ünïcode"
    tokens = data.vocabulary.encode(text.encode())
    assert len(tokens) < len(text) / 2
    assert data.vocabulary.decode(tokens.tolist()) == text
    assert int(data.vocabulary.bytes_of[tokens].sum()) == len(text.encode())
    assert data.vocabulary.decode([data.vocabulary.separator, *tokens]) == f"\n---\n{text}"
    assert ByteVocabulary().decode([*b"ab", 256, *b"c"]) == "ab\n---\nc"


PAIRS = {"tokenizer": "bpe", "vocab_size": 290}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_other_text_is_taken_in_the_tokens_that_a_run_has_left(folder, tmp_path, kind):
    trained = made(folder, **PAIRS)
    trained.vocabulary.write(tmp_path / "vocabulary.json")
    other = tmp_path / "other"
    for number in range(60):
        (other / f"{number}").mkdir(parents=True)
        (other / f"{number}" / "a.txt").write_text("quite different words " * 9)
    place = str(tmp_path) if kind == "folder" else str(tmp_path / "vocabulary.json")
    data = made(other, tokenizer=place, vocab_size=290)
    assert data.vocabulary.encode(b"text number").tolist() == trained.vocabulary.encode(b"text number").tolist()
    own = made(other, tokenizer="bpe", vocab_size=270)
    assert data.vocabulary.encode(b"words").tolist() != own.vocabulary.encode(b"words").tolist()
    assert set(contents(data, "val")) == {"quite different words " * 9}


def test_another_vocabulary_makes_other_tokens(folder, tmp_path):
    """The files of tokens are kept by what made them."""
    made(folder, **PAIRS).vocabulary.write(tmp_path / "vocabulary.json")
    first = made(folder, tokenizer=str(tmp_path), vocab_size=290)
    made(folder, tokenizer="bpe", vocab_size=280).vocabulary.write(tmp_path / "vocabulary.json")
    assert made(folder, tokenizer=str(tmp_path), vocab_size=280).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("content", "size", "said"),
    [
        (None, 290, r"data\.tokenizer=.*: it is bytes, bpe, or the folder of a run"),
        ("{}", 290, r"vocabulary\.json is no vocabulary"),
        ("pairs", 300, r"data\.vocab_size=300: that of data\.tokenizer=.* has 290"),
    ],
)
def test_a_vocabulary_that_is_none_or_another_is_one_message(folder, tmp_path, content, size, said):
    if content == "pairs":
        made(folder, **PAIRS).vocabulary.write(tmp_path / "vocabulary.json")
    elif content is not None:
        (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        made(folder, tokenizer=str(tmp_path), vocab_size=size)
