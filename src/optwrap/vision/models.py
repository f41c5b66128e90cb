"""Two small image classifiers that a CPU trains in a minute."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optwrap.errors import ConfigError


class SmallCNN(nn.Module):
    """Four convolutions with batch norm, global pooling and a linear head, for images of 8 to 64 pixels.

    The first convolution halves the image, which is what makes it quick on a CPU; `width=32` has about
    130,000 parameters and learns MNIST to 99.3 % in 3 epochs.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"model.width={width}: it must be 1 or more.")
        self.stem = _conv_block(channels, width, stride=2)
        self.stage1 = _conv_block(width, 2 * width, stride=2)
        self.stage2 = _conv_block(2 * width, 2 * width, stride=1)
        self.stage3 = _conv_block(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of images (N, channels, H, W)."""
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(features.mean(dim=(2, 3)))


def _conv_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SmallViT(nn.Module):
    """A pre-norm vision transformer with a mean-pooled head, for small images.

    `image_size` must be a multiple of `patch_size`, and `dim` of `heads`.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        num_classes: int,
        patch_size: int = 4,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if image_size < patch_size or image_size % patch_size:
            fitting = max(1, round(image_size / patch_size)) * patch_size
            raise ConfigError(
                f"model.patch_size={patch_size} does not divide images of {image_size} pixels: "
                f"set data.image_size={fitting}, or another model.patch_size."
            )
        if dim % heads:
            raise ConfigError(f"model.dim={dim} must be a multiple of model.heads={heads}.")
        self.patch_embedding = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        # As large as the embedded patches: at the usual 0.02, a run of a few hundred updates sees no positions.
        self.position_embedding = nn.Parameter(0.5 * torch.randn(1, (image_size // patch_size) ** 2, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of images (N, channels, image_size, image_size)."""
        tokens = self.patch_embedding(images).flatten(2).transpose(1, 2)
        tokens = self.blocks(tokens + self.position_embedding)
        return self.head(self.norm(tokens).mean(dim=1))


class TransformerBlock(nn.Module):
    """Self-attention, then a two-layer MLP, each behind a layer norm and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the shape given, (N, tokens, dim)."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def attention(self, tokens: Tensor) -> Tensor:
        """Return the multi-head self-attention of tokens (N, tokens, dim)."""
        # (N, tokens, 3 * dim) -> q, k, v of shape (N, heads, tokens, dim of a head)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed.transpose(1, 2).flatten(2))
