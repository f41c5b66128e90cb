"""A decoder of today's form: RMS norms, rotary positions, normalised queries and keys, no biases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optwrap.errors import ConfigError


@dataclass
class Cache:
    """Keys and values of the tokens so far, a pair a block, each (N, heads, room, width of a head)."""

    pairs: list[tuple[Tensor, Tensor]]
    used: int = 0


class Place(NamedTuple):
    """Where tokens stand: cosines and sines of their positions, what they may see, how many are before them."""

    rotation: tuple[Tensor, Tensor]
    mask: Tensor | None = None
    used: int = 0


class Attention(nn.Module):
    """Causal attention with rotary positions; queries and keys are normalised (Henry et al., 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, place: Place, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return what each position (N, T, width) takes from those before it, as far as `place.mask` allows."""
        count, length, width = hidden.shape
        shape = (count, length, self.heads, width // self.heads)
        query, key, value = (
            layer(hidden).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        query, key = (_rotated(F.rms_norm(each, each.shape[-1:]), place.rotation) for each in (query, key))
        if kept is not None:
            last = place.used + length
            for whole, new in zip(kept, (key, value), strict=True):
                whole[:, :, place.used : last] = new
            key, value = (whole[:, :, :last] for whole in kept)
        # One new token may look at all that are kept; of several, each at those before it.
        causal = place.mask is None and length > 1
        taken = F.scaled_dot_product_attention(query, key, value, attn_mask=place.mask, is_causal=causal)
        return self.project(taken.transpose(1, 2).reshape(count, length, width))


class SquaredReluMlp(nn.Module):
    """Two layers with a squared ReLU between them. Source: So et al., Primer, 2021."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=False)
        self.project = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to each position (N, T, width)."""
        return self.project(F.relu(self.up(hidden)).square())


class SwigluMlp(nn.Module):
    """A gated layer. Source: Shazeer, GLU Variants Improve Transformer, 2020."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.project = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to each position (N, T, width)."""
        return self.project(F.silu(self.gate(hidden)) * self.up(hidden))


MLPS: dict[str, tuple[Callable[[int, int], nn.Module], float]] = {
    "squared_relu": (SquaredReluMlp, 4),
    "swiglu": (SwigluMlp, 8 / 3),  # as many weights
}


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and added to what was there."""

    def __init__(self, width: int, heads: int, mlp: str) -> None:
        super().__init__()
        kind, ratio = MLPS[mlp]
        self.norm1 = nn.RMSNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.RMSNorm(width)
        self.mlp = kind(width, int(ratio * width))

    def forward(self, hidden: Tensor, place: Place, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the hidden states (N, T, width) after this block."""
        hidden = hidden + self.attention(self.norm1(hidden), place, kept)
        return hidden + self.mlp(self.norm2(hidden))


class GPT(nn.Module):
    """A language model: tokens (N, T) to logits (N, T, vocab_size) of the next one.

    `length` is the most positions that it is trained on. `tied`: the head's weight is the embedding's. Layers that
    add to the hidden states begin with zeros, so that the whole begins as its embedding and head.

    Raises:
        ConfigError: the width cannot be divided among heads in pairs, or there is no such `mlp`.

    Source: Radford et al., 2019, with rotary positions after Su et al., RoFormer, 2021.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(
        self,
        vocab_size: int,
        length: int = 256,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        mlp: str = "squared_relu",
        tied: bool = False,
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ConfigError(f"model.width={width}: it must be a multiple of twice model.heads={heads}.")
        if mlp not in MLPS:
            raise ConfigError(f"model.mlp={mlp}: there are {' and '.join(MLPS)}.")
        self.length, self.heads = length, heads
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
        cosine, sine = rotations(length, width // heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if name.endswith(".project"):
                nn.init.zeros_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for ends in (self.embedding, self.head):
            nn.init.normal_(ends.weight, std=0.02)

    def forward(self, tokens: Tensor, documents: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return the logits at each position.

        `documents` (N, T) numbers what each position belongs to: it looks at no other. With a `cache` the tokens
        go on after those that it holds, and are added to it.

        Raises:
            ValueError: both are given.
        """
        if documents is not None and cache is not None:
            raise ValueError("a cache holds one text a row, so it takes no documents")
        used = 0 if cache is None else cache.used
        last = used + tokens.shape[1]
        mask = None if documents is None else _same_document(documents)
        if used and last - used > 1:  # attention that is called causal counts from the first key
            mask = torch.ones(last - used, last, dtype=torch.bool, device=tokens.device).tril(used)
        place = Place((self.cosine[used:last], self.sine[used:last]), mask, used)
        hidden = self.embedding(tokens)
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, place, None if cache is None else cache.pairs[number])
        if cache is not None:
            cache.used = last
        return self.head(self.norm(hidden))

    def new_cache(self, count: int) -> Cache:
        """Return room for `length` tokens of `count` texts."""
        weight = self.embedding.weight
        shape = (count, self.heads, self.length, weight.shape[1] // self.heads)
        # Plain tensors, also where the weight is a shard.
        kept = [[torch.zeros(shape, dtype=weight.dtype, device=weight.device) for _ in "kv"] for _ in self.blocks]
        return Cache([(key, value) for key, value in kept])


def rotations(length: int, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (length, width / 2) of the angles by which positions turn pairs of features."""
    speeds = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), speeds)
    return angles.cos().float(), angles.sin().float()


def _rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = (each.to(heads.dtype) for each in rotation)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def _same_document(documents: Tensor) -> Tensor:
    """Return (N, 1, T, T): whether a position may look at another."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()
