"""BLIP for retrieval: an image encoder, and a text encoder that may look at the image."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from exeunt.export.families.hf.config import HfConfig, set_eps
from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.families.hf.matching import Similarity, unit
from exeunt.export.layers.cross import BertCrossLayer
from exeunt.export.layers.vit import VitLayer

ITM, ITC = "itm", "itc"


class _Tower(BaseModel):
    """Sizes of one lane; Hugging Face's defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hidden_size: PositiveInt = 768
    num_hidden_layers: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: Literal["gelu"] = "gelu"


class BlipTextConfig(_Tower):
    """The text's sizes."""

    num_attention_heads: PositiveInt = 8
    encoder_hidden_size: PositiveInt = 768
    layer_norm_eps: PositiveFloat = 1e-12
    vocab_size: PositiveInt = 30524
    max_position_embeddings: PositiveInt = 512


class BlipVisionConfig(_Tower):
    """The image's sizes."""

    num_attention_heads: PositiveInt = 12
    layer_norm_eps: PositiveFloat = 1e-5
    image_size: PositiveInt = 384
    patch_size: PositiveInt = 16

    @property
    def tokens(self) -> int:
        """Tokens of an image, [CLS] included."""
        return 1 + (self.image_size // self.patch_size) ** 2


class BlipConfig(HfConfig):
    """`config.json` of a BLIP checkpoint for retrieval."""

    image_text_hidden_size: PositiveInt = 256
    text_config: BlipTextConfig = Field(default_factory=BlipTextConfig)
    vision_config: BlipVisionConfig = Field(default_factory=BlipVisionConfig)


class BlipPatches(nn.Module):
    """[CLS] and an image's patches, row by row, with their positions."""

    def __init__(self, sizes: BlipVisionConfig) -> None:
        super().__init__()
        width, patch = sizes.hidden_size, sizes.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch)
        self.position_embedding = nn.Parameter(torch.zeros(1, sizes.tokens, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return f32[B, 1 + P, D] of f32[B, 3, H, W]."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding


class BlipVision(nn.Module):
    """The image lane's parameters, and the norm of what it ends with."""

    def __init__(self, sizes: BlipVisionConfig) -> None:
        super().__init__()
        width, heads, eps = sizes.hidden_size, sizes.num_attention_heads, sizes.layer_norm_eps
        layers = [
            VitLayer(width, heads, sizes.intermediate_size, eps=eps, fused=True)
            for _ in range(sizes.num_hidden_layers)
        ]
        self.embeddings = BlipPatches(sizes)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.post_layernorm = nn.LayerNorm(width, eps=eps)


class BlipText(nn.Module):
    """The text's parameters."""

    def __init__(self, sizes: BlipTextConfig) -> None:
        super().__init__()
        width, heads, eps = sizes.hidden_size, sizes.num_attention_heads, sizes.layer_norm_eps
        words, positions = sizes.vocab_size, sizes.max_position_embeddings
        layers = [
            BertCrossLayer(width, heads, sizes.intermediate_size, sizes.encoder_hidden_size)
            for _ in range(sizes.num_hidden_layers)
        ]
        self.embeddings = TextEmbeddings(words, positions, width, eps, types=0)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        set_eps(self, eps)


class BlipModel(nn.Module):
    """The checkpoint, with the official names."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        text, vision = config.text_config, config.vision_config
        if text.encoder_hidden_size != vision.hidden_size:
            raise ValueError(
                f"the text looks at states {text.encoder_hidden_size} wide, the image's are"
                f" {vision.hidden_size}"
            )
        self.vision_model = BlipVision(vision)
        self.text_encoder = BlipText(text)
        self.vision_proj = nn.Linear(vision.hidden_size, config.image_text_hidden_size)
        self.text_proj = nn.Linear(text.hidden_size, config.image_text_hidden_size)
        self.itm_head = nn.Linear(text.hidden_size, 2)

    @property
    def image_layers(self) -> list[nn.Module]:
        """The image lane's layers."""
        return list(self.vision_model.encoder["layers"].children())

    @property
    def fusion_layers(self) -> list[nn.Module]:
        """The text's layers, with cross-attention."""
        return list(self.text_encoder.encoder["layer"].children())

    @property
    def text_layers(self) -> list[nn.Module]:
        """The same layers without it."""
        return [PlainLayer(layer) for layer in self.fusion_layers]

    def forward(self, tensors: Mapping[str, Tensor], task: str) -> Tensor:
        """Return the task's logits, f32[B, 2] or f32[B, 1], of the raw tensors."""
        image = self.vision_model.embeddings(tensors["pixel_values"])
        for layer in self.image_layers:
            image = layer(image)
        words, mask = TextEntry(self)(tensors["input_ids"], tensors["attention_mask"])
        if task == ITM:
            context = self.vision_model.post_layernorm(image)
            for layer in self.fusion_layers:
                words = layer(words, mask, context)
            logits: Tensor = MatchHead(self)(words)
            return logits
        for layer in self.text_layers:
            words = layer(words, mask)
        similar: Tensor = Similarity()(*MatchJoin(self)(image, words))
        return similar


class PlainLayer(nn.Module):
    """A text layer whose cross-attention is left out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, BertCrossLayer), "a text's layers have cross-attention"
        self.attention = layer.attention
        self.intermediate, self.output = layer.intermediate, layer.output

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the next state f32[B, S, D] of the state and its mask f32[B, S]."""
        attended = self.attention(hidden, mask)
        following: Tensor = self.output(self.intermediate(attended), attended)
        return following


class TextEntry(nn.Module):
    """A text's embedding."""

    def __init__(self, model: BlipModel) -> None:
        super().__init__()
        self.embeddings = model.text_encoder.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, S, D] and its mask f32[B, S]."""
        return self.embeddings(input_ids), attention_mask.to(torch.float32)


class FusionJoin(nn.Module):
    """A text's embedding beside the image that it looks at."""

    def __init__(self, model: BlipModel) -> None:
        super().__init__()
        self.text = TextEntry(model)
        self.post_layernorm = model.vision_model.post_layernorm

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state f32[B, S, D], its mask f32[B, S] and the context f32[B, P, C]."""
        return *self.text(input_ids, attention_mask), self.post_layernorm(image)


class MatchJoin(nn.Module):
    """The first tokens of both lanes, projected to one space, of length 1."""

    def __init__(self, model: BlipModel) -> None:
        super().__init__()
        self.post_layernorm = model.vision_model.post_layernorm
        self.vision_proj, self.text_proj = model.vision_proj, model.text_proj

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, E] of f32[B, P, C] and f32[B, S, D]."""
        seen = self.vision_proj(self.post_layernorm(image[:, 0]))
        return unit(seen), unit(self.text_proj(text[:, 0]))


class MatchHead(nn.Module):
    """The logits that the text does not fit, and that it does; every layer answers through it."""

    def __init__(self, model: BlipModel) -> None:
        super().__init__()
        self.itm_head = model.itm_head

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[B, 2] of f32[B, S, D]."""
        logits: Tensor = self.itm_head(hidden[:, 0])
        return logits
