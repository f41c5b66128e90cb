"""What a token is: a byte, or a pair of a vocabulary trained on the corpus."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from optwrap.errors import ConfigError
from optwrap.files import replacing

Tokens = npt.NDArray[np.uint16]
BYTES = 256
VOCABULARY = "vocabulary.json"
"""What a run of byte pairs leaves in its folder."""


class ByteVocabulary:
    """Each byte is a token; number 256 stands between documents."""

    size = BYTES + 1
    separator = BYTES

    @property
    def bytes_of(self) -> npt.NDArray[np.int64]:
        """How many bytes each token stands for."""
        return np.array([1] * BYTES + [0])

    def encode(self, content: bytes) -> Tokens:
        """Return the tokens of a document."""
        return np.frombuffer(content, np.uint8).astype(np.uint16)

    def content(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes of tokens of one document."""
        return bytes(tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; a separator is a line of its own."""
        return _decode(self, tokens)


class PairVocabulary:
    """Byte pairs merged by how often they occur, from a file of tokenizers. Source: Sennrich et al., 2016."""

    separator = 0

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer  # here, since most runs have no use for it

        self._pairs = Tokenizer.from_file(str(file))

    def write(self, file: Path) -> None:
        """Write a file that gives the same vocabulary."""
        with replacing(file) as whole:
            whole.write(self._pairs.to_str().encode())

    @property
    def fingerprint(self) -> str:
        """What tells it from any other."""
        return hashlib.sha256(self._pairs.to_str().encode()).hexdigest()

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._pairs.get_vocab_size())

    @cached_property
    def bytes_of(self) -> npt.NDArray[np.int64]:
        """How many bytes each token stands for."""
        # One character of the vocabulary stands for each byte.
        names = sorted(self._pairs.get_vocab().items(), key=lambda pair: pair[1])
        return np.array([0 if number == self.separator else len(name) for name, number in names])

    def encode(self, content: bytes) -> Tokens:
        """Return the tokens of a document in UTF-8; bytes that are none are replaced."""
        return np.array(self._pairs.encode(content.decode(errors="replace")).ids, np.uint16)

    def content(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes of tokens of one document."""
        return str(self._pairs.decode(list(tokens))).encode()

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; a separator is a line of its own."""
        return _decode(self, tokens)


Vocabulary = ByteVocabulary | PairVocabulary


def _decode(vocabulary: Vocabulary, tokens: Iterable[int]) -> str:
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == vocabulary.separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return "\n---\n".join(vocabulary.content(part).decode(errors="replace") for part in parts)


def given_vocabulary(place: str, size: int) -> PairVocabulary:
    """Return the vocabulary that a run has left in its folder, or that lies in a file of tokenizers.

    Raises:
        ConfigError: there is none, or it has another size.
    """
    file = Path(place) / VOCABULARY if Path(place).is_dir() else Path(place)
    if not file.is_file():
        raise ConfigError(
            f"data.tokenizer={place}: it is bytes, bpe, or the folder of a run of byte pairs, which leaves its "
            f"{VOCABULARY} there at the first evaluation."
        )
    try:
        vocabulary = PairVocabulary(file)
    except Exception as error:  # tokenizers raises its base class
        raise ConfigError(f"data.tokenizer={place}: {file} is no vocabulary of tokenizers ({error}).") from error
    if vocabulary.size != size:
        raise ConfigError(f"data.vocab_size={size}: that of data.tokenizer={place} has {vocabulary.size}.")
    return vocabulary


def train_pairs(documents: Sequence[bytes], size: int, file: BinaryIO) -> None:
    """Train a vocabulary of byte pairs on documents and write it.

    Raises:
        ConfigError: it cannot have so many tokens.
    """
    if not BYTES < size <= 2**16:
        raise ConfigError(f"data.vocab_size={size}: byte pairs need from {BYTES + 1} to {2**16}.")
    import tokenizers

    pairs = tokenizers.Tokenizer(tokenizers.models.BPE())
    pairs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|separator|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator((document.decode(errors="replace") for document in documents), trainer)
    if (made := pairs.get_vocab_size()) < size:
        raise ConfigError(f"data.vocab_size={size}: the corpus gives {made} byte pairs. Give that, or more text.")
    file.write(pairs.to_str().encode())
