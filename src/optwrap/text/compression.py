"""What a text can be made of without a language model: lines to compare one with."""

import lzma
import math
import zlib
from collections import Counter

from optwrap.text.token_file import TokenRow
from optwrap.text.vocabulary import Vocabulary


def content_of(row: TokenRow, vocabulary: Vocabulary) -> bytes:
    """Return the bytes of all documents, one after the other."""
    documents = zip(row.starts[:-1], row.starts[1:], strict=True)
    return b"".join(vocabulary.content(row.tokens[start + 1 : end].tolist()) for start, end in documents)


def single_bytes(train: bytes, val: bytes) -> float:
    """Return the bits a byte of val by how often each byte occurs in train, each once more than it does.

    >>> single_bytes(bytes(range(256)), b"abc")
    8.0
    """
    counts = Counter(train)
    total = len(train) + 256
    return sum(-count * math.log2((counts[byte] + 1) / total) for byte, count in Counter(val).items()) / len(val)


def zlib_bits(content: bytes) -> float:
    """Return the bits a byte of zlib at its best."""
    return 8 * len(zlib.compress(content, 9)) / len(content)


def lzma_bits(content: bytes) -> float:
    """Return the bits a byte of lzma at its best."""
    return 8 * len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)) / len(content)
