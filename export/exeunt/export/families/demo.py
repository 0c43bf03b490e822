"""The embedded demo model: a single-stream vision-language transformer with an exit per layer."""

import itertools
import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

# Finite, so that a row with every token masked still gives numbers, and bf16 holds it.
MASKED = -1e4


class DemoConfig(BaseModel):
    """Sizes of a demo model; `config.json` of a checkpoint directory holds exactly these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["demo"] = "demo"
    hidden: PositiveInt = 96
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    ffn: PositiveInt = 192
    image_size: PositiveInt = 64
    patch: PositiveInt = 16
    stem_channels: tuple[PositiveInt, ...] = (16, 32, 64)  # empty: linear patches, as ViLT's
    max_tokens: PositiveInt = 20
    vocab: PositiveInt = 64
    labels: PositiveInt = 16

    @property
    def image_tokens(self) -> int:
        """Count the image tokens of one sample."""
        return (self.image_size // self.patch) ** 2


class DemoStem(nn.Module):
    """Embed an image as patch tokens: 3 x 3 convolutions of stride 2, then linear patches.

    It recognises little things on its own; the relations between them are left to the layers.
    """

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        channels = (3, *config.stem_channels)
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(before, after, 3, stride=2, padding=1)
                for before, after in itertools.pairwise(channels)
            ]
        )
        size = config.patch >> len(config.stem_channels)
        if size << len(config.stem_channels) != config.patch:
            raise ValueError(
                f"patch {config.patch} is not a multiple of 2 to the {len(config.stem_channels)}: "
                "each of the stem's convolutions halves the image"
            )
        self.project = nn.Conv2d(channels[-1], config.hidden, size, stride=size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return tokens f32[B, V, D] of `pixel_values` f32[B, 3, H, W]."""
        maps = pixel_values
        for convolution in self.convolutions:
            maps = F.relu(convolution(maps))
        tokens: Tensor = self.project(maps).flatten(2).transpose(1, 2)
        return tokens


class DemoLayer(nn.Module):
    """One pre-LN transformer layer."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        if config.hidden % config.heads:
            raise ValueError(
                f"hidden size {config.hidden} is not a multiple of {config.heads} heads"
            )
        self.num_heads = config.heads
        self.norm_attention = nn.LayerNorm(config.hidden)
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.out = nn.Linear(config.hidden, config.hidden)
        self.norm_ffn = nn.LayerNorm(config.hidden)
        self.ffn_in = nn.Linear(config.hidden, config.ffn)
        self.ffn_out = nn.Linear(config.ffn, config.hidden)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the next state.

        Args:
            hidden: f32[B, T, D], the state after the layer before.
            mask: f32[B, T], 1 at valid tokens and 0 at padding.

        Returns:
            f32[B, T, D].
        """
        batch, tokens, width = hidden.shape
        bias = ((1.0 - mask) * MASKED)[:, None, None, :]  # [B, 1, 1, T]
        qkv = self.qkv(self.norm_attention(hidden))
        qkv = qkv.view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, T, D / heads]
        scores = query @ key.transpose(-1, -2) * (width // self.num_heads) ** -0.5
        weights = torch.softmax(scores + bias, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, tokens, width)
        hidden = hidden + self.out(mixed)
        update: Tensor = self.ffn_out(F.gelu(self.ffn_in(self.norm_ffn(hidden))))
        return hidden + update


class DemoHead(nn.Module):
    """The exit classifier of one layer: LayerNorm and a linear map on [CLS].

    Reference: UNITER-MSD, Eq. (2)
    """

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden)
        self.classify = nn.Linear(config.hidden, config.labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of the state `hidden` f32[B, T, D]."""
        logits: Tensor = self.classify(self.norm(hidden[:, 0]))
        return logits


class DemoModel(nn.Module):
    """A single stream of [CLS], image tokens and text tokens, with an exit after each layer."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = DemoStem(config)
        self.words = nn.Embedding(config.vocab, config.hidden)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.hidden))
        self.image_positions = nn.Parameter(torch.zeros(1, config.image_tokens, config.hidden))
        self.text_positions = nn.Parameter(torch.zeros(1, config.max_tokens, config.hidden))
        self.layers = nn.ModuleList([DemoLayer(config) for _ in range(config.layers)])
        self.heads = nn.ModuleList([DemoHead(config) for _ in range(config.layers)])
        self._initialise()

    def _initialise(self) -> None:
        for parameter in (self.words.weight, self.cls, self.text_positions):
            nn.init.normal_(parameter, std=0.1)
        # Rows and columns start as a sum of two codes: relations compare one of the two.
        side = self.config.image_size // self.config.patch
        row, column = torch.randn(2, side, self.config.hidden) * 0.1
        grid = row[:, None] + column[None, :]
        self.image_positions.data.copy_(grid.reshape(1, -1, self.config.hidden))
        for convolution in self.stem.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        depth_scale = (2 * self.config.layers) ** -0.5
        for layer in self.layers:
            assert isinstance(layer, DemoLayer)
            with torch.no_grad():
                layer.out.weight.mul_(depth_scale)
                layer.ffn_out.weight.mul_(depth_scale)

    def embed(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed both modalities as one sequence.

        Args:
            pixel_values: f32[B, 3, 64, 64], in [-1, 1].
            input_ids: i64[B, S], S at most `max_tokens`.
            attention_mask: i64[B, S], 1 at words and 0 at padding.

        Returns:
            The state f32[B, 1 + V + S, D] and its mask f32[B, 1 + V + S].
        """
        image = self.stem(pixel_values) + self.image_positions
        words = self.words(input_ids)
        text = words + self.text_positions[:, : input_ids.shape[1]]
        cls = self.cls + self._mean_word(words, attention_mask)
        hidden = torch.cat([cls, image, text], dim=1)
        seen = torch.ones_like(hidden[:, : 1 + self.config.image_tokens, 0])
        return hidden, torch.cat([seen, attention_mask.to(seen.dtype)], dim=1)

    @staticmethod
    def _mean_word(words: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean f32[B, 1, D] of the valid words f32[B, S, D].

        [CLS] begins with it: what a text asks for in a word or two, the first layer can look up.
        """
        valid = attention_mask.to(words.dtype)[:, None, :]  # [B, 1, S]
        # A product, since ONNX Runtime's ReduceSum adds in an order that depends on the batch.
        mean: Tensor = (valid @ words) / valid.sum(2, keepdim=True).clamp(1.0)
        return mean

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> list[Tensor]:
        """Return the logits f32[B, C] of each exit, first layer first."""
        hidden, mask = self.embed(pixel_values, input_ids, attention_mask)
        logits = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            hidden = layer(hidden, mask)
            logits.append(head(hidden))
        return logits


def load_config(directory: Path) -> DemoConfig:
    """Read `config.json` of a checkpoint directory.

    Raises:
        FileNotFoundError: the directory holds no `config.json`.
        pydantic.ValidationError: a field is missing, unknown or out of range.
    """
    return DemoConfig.model_validate(
        json.loads((directory / "config.json").read_text(encoding="utf-8"))
    )


def load_checkpoint(directory: Path) -> DemoModel:
    """Load a demo model in eval mode.

    Args:
        directory: holds `config.json` and `model.safetensors`.

    Raises:
        FileNotFoundError: one of the two files is missing.
        pydantic.ValidationError: the config is not a demo config.
        RuntimeError: the weights do not fit the config.
    """
    directory = Path(directory)
    model = DemoModel(load_config(directory))
    model.load_state_dict(load_file(directory / "model.safetensors"))
    return model.eval()
