"""ViLT: pre-LN layers over words and image patches."""

from typing import cast

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.hf.config import HfConfig
from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.layers.bert import BertIntermediate, BertPooler, BertSelfAttention


class ViltConfig(HfConfig):
    """`config.json` of a ViLT checkpoint; Hugging Face's defaults."""

    hidden_size: PositiveInt = 768
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    layer_norm_eps: PositiveFloat = 1e-12
    vocab_size: PositiveInt = 30522
    type_vocab_size: PositiveInt = 2
    modality_type_vocab_size: PositiveInt = 2
    max_position_embeddings: PositiveInt = 40
    image_size: PositiveInt = 384
    patch_size: PositiveInt = 32
    num_images: int = -1

    @property
    def side(self) -> int:
        """Patches a side of the grid that the positions were trained for."""
        return self.image_size // self.patch_size


class Dense(nn.Module):
    """A linear map called `dense`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)

    def forward(self, update: Tensor) -> Tensor:
        """Return f32[B, T, D] of f32[B, T, W]."""
        mapped: Tensor = self.dense(update)
        return mapped


class ViltAttention(nn.Module):
    """Self-attention with its output projection."""

    def __init__(self, config: ViltConfig) -> None:
        super().__init__()
        self.attention = BertSelfAttention(config.hidden_size, config.num_attention_heads)
        self.output = Dense(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, T, D]; see `ViltLayer.forward`."""
        mixed: Tensor = self.output(self.attention(hidden, mask))
        return mixed


class ViltLayer(nn.Module):
    """One pre-LN layer with BERT's names."""

    def __init__(self, config: ViltConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layernorm_before = nn.LayerNorm(width, eps=eps)
        self.attention = ViltAttention(config)
        self.layernorm_after = nn.LayerNorm(width, eps=eps)
        self.intermediate = BertIntermediate(width, config.intermediate_size)
        self.output = Dense(config.intermediate_size, width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the next state f32[B, T, D] of the state and its mask f32[B, T]."""
        hidden = hidden + self.attention(self.layernorm_before(hidden), mask)
        update: Tensor = self.output(self.intermediate(self.layernorm_after(hidden)))
        return hidden + update


class Patches(nn.Module):
    """The linear projection of an image's patches."""

    def __init__(self, config: ViltConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.projection = nn.Conv2d(3, config.hidden_size, patch, stride=patch)


class ViltEmbeddings(nn.Module):
    """Words, [CLS] of the image and its patches as one sequence.

    Images of one batch are padded to one size, and the positions of the training grid are
    interpolated to each image's own.
    """

    def __init__(self, config: ViltConfig, images: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.side, self.images = config.side, images
        self.text_embeddings = TextEmbeddings(
            config.vocab_size,
            config.max_position_embeddings,
            width,
            config.layer_norm_eps,
            types=config.type_vocab_size,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embeddings = Patches(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        self.token_type_embeddings = nn.Embedding(config.modality_type_vocab_size, width)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        pixel_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, T, D] and its mask f32[B, T].

        Args:
            input_ids: i64[B, S].
            attention_mask: i64[B, S].
            pixel_values: f32[B, 3, H, W], H and W multiples of the patch's size.
            pixel_mask: i64[B, H, W], 1 where the image is, its top left corner first.
        """
        types = self.token_type_embeddings.weight
        # The images of a sample are rows one after the other, each of a type of its own.
        rows = torch.arange(len(input_ids))
        kind = types[1] if self.images == 1 else types[1 + rows % self.images][:, None]
        patches = self.patch_embeddings.projection(pixel_values)  # [B, D, h, w]
        seen = self._seen(pixel_mask, patches.shape[2], patches.shape[3])
        image = patches.permute(0, 2, 3, 1) + self._positions(seen)
        first = (self.cls_token + self.position_embeddings[:, :1]).expand(len(image), 1, -1)
        text = self.text_embeddings(input_ids) + types[0]
        hidden = torch.cat([text, first + kind, image.flatten(1, 2) + kind], dim=1)
        valid = torch.cat(
            [attention_mask, torch.ones_like(attention_mask[:, :1]), seen.flatten(1)], dim=1
        )
        return hidden, valid.to(hidden.dtype)

    def _seen(self, pixel_mask: Tensor, rows: int, columns: int) -> Tensor:
        """Return i64[B, h, w], 1 at the patches of the image: a patch counts by its first pixel."""
        size = self.patch_embeddings.projection.stride[0]
        across = pixel_mask.index_select(1, torch.arange(rows) * size)
        return across.index_select(2, torch.arange(columns) * size)

    def _positions(self, seen: Tensor) -> Tensor:
        """Return f32[B, h, w, D], the trained grid brought to each image's by bilinear weights.

        As `interpolate(..., align_corners=True)` does it, for a size that each row has its own.
        """
        side = self.side
        grid = self.position_embeddings[0, 1:]  # [side * side, D]
        down = _bilinear(seen[:, :, 0], side)  # [B, h, side]
        right = _bilinear(seen[:, 0, :], side)  # [B, w, side]
        by_row = down @ grid.view(side, -1)  # [B, h, side * D]
        return right[:, None] @ by_row.view(*by_row.shape[:2], side, -1)


def _bilinear(line: Tensor, side: int) -> Tensor:
    """Return the weights f32[B, n, side] of `side` points at each place of a line i64[B, n].

    The line's valid places, from the first, are spread from the first point to the last.
    """
    steps = (line.sum(1) - 1).clamp(min=1).to(torch.float32)
    stride = (side - 1) / steps  # [B]
    places = torch.arange(line.shape[1], dtype=torch.float32) * stride[:, None]
    points = torch.arange(side, dtype=torch.float32)
    return F.relu(1.0 - (places[:, :, None] - points).abs())


class ViltBackbone(nn.Module):
    """Everything before the classifier."""

    def __init__(self, config: ViltConfig, images: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.embeddings = ViltEmbeddings(config, images)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList([ViltLayer(config) for _ in range(config.num_hidden_layers)])}
        )
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.pooler = BertPooler(width)


class ViltModel(nn.Module):
    """The checkpoint, with the official names."""

    def __init__(self, config: ViltConfig, images: int, classes: int, inner: int) -> None:
        super().__init__()
        self.classes = classes
        self.vilt = ViltBackbone(config, images)
        self.classifier = nn.Sequential(
            nn.Linear(images * config.hidden_size, inner),
            nn.LayerNorm(inner),
            nn.GELU(),
            nn.Linear(inner, classes),
        )

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers, the first one first."""
        return tuple(cast(nn.ModuleList, self.vilt.encoder["layer"]))


class ViltHead(nn.Module):
    """The final head, which every layer answers through."""

    def __init__(self, model: ViltModel) -> None:
        super().__init__()
        self.layernorm, self.pooler = model.vilt.layernorm, model.vilt.pooler
        self.classifier = model.classifier

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of f32[B, T, D], or of a group's rows f32[B, I, T, D]."""
        rows = hidden.flatten(0, -3)  # of all groups
        pooled = self.pooler(self.layernorm(rows[:, :1]))
        logits: Tensor = self.classifier(pooled.reshape(len(hidden), -1))
        return logits
