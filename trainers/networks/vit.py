"""The small vision transformer of P1, appendix B.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from rankscope.errors import UsageError
from trainers.networks.network import Network

# P1, appendix B.1.
PATCH = 4
HEADS = 8
LAYERS = 6
DROPOUT = 0.1

# P1 does not say how wide. These are the sizes that public ViTs for CIFAR have which share the
# numbers above (dim 512, mlp_dim 512); Dosovitskiy et al. make the MLP four times as wide.
WIDTH = 512
MLP_WIDTH = 512

# Dosovitskiy et al.'s own code starts the position embedding with this deviation.
POSITION_DEVIATION = 0.02


class Attention(nn.Module):
    """Self-attention with `HEADS` heads, without dropout; query, key and value are three weights.

    Many implementations stack the three to one matrix, whose rank says nothing of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape (samples, tokens, width) to the same."""
        query, key, value = (
            linear(tokens).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Mlp(nn.Module):
    """Two linear layers, each followed by dropout, and a GELU in between."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, MLP_WIDTH)
        self.down = nn.Linear(MLP_WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape (samples, tokens, width) to the same."""
        inner = self.dropout(gelu(self.up(tokens)))
        result: Tensor = self.dropout(self.down(inner))
        return result


class Layer(nn.Module):
    """Attention, then the MLP, each behind a layer norm and beside the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = Mlp()

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape (samples, tokens, width) to the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class Vit(Network):
    """A ViT with patches of 4x4: 64 patches of a 32x32 image, and a token of the class first.

    Nothing is padded: 28x28 has 49 patches, 8x8 four. The output reads the class's token.

    Args:
        image_shape: channels, height and width of an image.
        classes: logits per sample.

    Raises:
        UsageError: the image does not consist of whole patches.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height % PATCH or width % PATCH:
            raise UsageError(f"images are {height}x{width}, vit expects multiples of {PATCH}")
        patches = height // PATCH * (width // PATCH)
        self.patch_embedding = nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.zeros(WIDTH))
        self.position_embedding = nn.Parameter(torch.randn(patches + 1, WIDTH) * POSITION_DEVIATION)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (samples, classes), of images, shape (samples, C, H, W)."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(images), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.position_embedding
        for layer in self.layers:
            tokens = layer(tokens)
        logits: Tensor = self.output(self.norm(tokens[:, 0]))
        return logits

    def averaged(self) -> frozenset[str]:
        """The patch embedding, and six weights of each layer: 37."""
        parts = ("attention.query", "attention.key", "attention.value", "attention.out")
        inside = (
            f"layers.{layer}.{part}.weight"
            for layer in range(LAYERS)
            for part in (*parts, "mlp.up", "mlp.down")
        )
        return frozenset({"patch_embedding.weight", *inside})
