import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optwrap.text.token_file import TokenRow
from optwrap.text.vocabulary import ByteVocabulary
from optwrap.text.windows import IGNORED, Documents, Packed, Windows

BYTES_OF = ByteVocabulary().bytes_of
SEPARATOR = ByteVocabulary.separator

DOCUMENTS = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8)


def row_of(documents):
    return TokenRow.of((np.frombuffer(each, np.uint8).astype(np.uint16) for each in documents), SEPARATOR)


def predicted(batch):
    """Pairs of a token and what is to be predicted of it."""
    kept = batch["targets"] != IGNORED
    return list(zip(batch["inputs"][kept].tolist(), batch["targets"][kept].tolist(), strict=True))


@given(DOCUMENTS, st.integers(1, 20), st.sampled_from([Windows, Documents, Packed]))
def test_every_layout_predicts_each_token_once_from_the_one_before_it(documents, length, kind):
    row = row_of(documents)
    samples = kind(row, length, BYTES_OF)
    batch = samples.collated(list(range(len(samples))))
    tokens = row.tokens.tolist()
    assert sorted(predicted(batch)) == sorted(itertools.pairwise(tokens))
    assert int(batch["bytes"].sum()) == sum(map(len, documents))
    assert batch["inputs"].shape[1] <= length


@given(DOCUMENTS, st.integers(1, 20))
def test_a_document_in_a_packed_row_is_one_that_the_text_has(documents, length):
    row = row_of(documents)
    packed = Packed(row, length, BYTES_OF)
    text = row.tokens.tolist()
    whole = packed.collated(list(range(len(packed))))
    for inputs, targets, numbers in zip(whole["inputs"], whole["targets"], whole["documents"], strict=True):
        for number in range(1, int(numbers.max()) + 1):
            its = numbers == number
            tokens = [*inputs[its].tolist(), int(targets[its][-1])]
            assert any(text[start : start + len(tokens)] == tokens for start in range(len(text)))
        assert bool((targets[numbers == 0] == IGNORED).all())


def test_rows_are_packed_closely():
    documents = [b"x" * size for size in (9, 5, 3, 1, 6, 2, 4)]
    packed = Packed(row_of(documents), 10, BYTES_OF)
    assert len(packed) == 4  # 37 tokens, of which one document fills a row of 10


def test_shifted_windows_depend_on_torch_s_random_numbers_and_stay_in_the_text():
    row = row_of([bytes(range(200))])
    windows = Windows(row, 16, BYTES_OF, shifted=True)
    torch.manual_seed(0)
    first = windows.collated([0, 5, len(windows) - 1])
    torch.manual_seed(0)
    again = windows.collated([0, 5, len(windows) - 1])
    other = windows.collated([0, 5, len(windows) - 1])
    assert torch.equal(first["inputs"], again["inputs"])
    assert not torch.equal(first["inputs"], other["inputs"])
    for batch in (first, other):
        assert bool((batch["targets"] != IGNORED).all())
        assert bool(((batch["inputs"][:, 1:] - batch["inputs"][:, :-1]) == 1)[:, 1:].all())


def test_documents_are_filled_up_to_the_longest_of_their_batch():
    documents = Documents(row_of([b"abc", b"defgh"]), 10, BYTES_OF)
    batch = documents.collated([0, 1])
    assert batch["inputs"].tolist() == [
        [SEPARATOR, *b"abc", SEPARATOR, SEPARATOR],
        [SEPARATOR, *b"defgh"],
    ]
    assert batch["targets"].tolist() == [[*b"abc", SEPARATOR, IGNORED, IGNORED], [*b"defgh", SEPARATOR]]
    assert documents.collated([0])["inputs"].shape == (1, 4)


@pytest.mark.parametrize("kind", [Windows, Documents, Packed])
def test_one_sample_is_that_of_a_batch(kind):
    samples = kind(row_of([b"abcdefgh", b"ij"]), 4, BYTES_OF)
    assert torch.equal(samples[1]["inputs"][: len(samples[1]["inputs"])], samples.collated([1])["inputs"][0])
    with pytest.raises(IndexError):
        samples[len(samples)]
