"""CLIP: an image encoder and a text encoder, each projected to one space."""

from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from exeunt.export.families.hf.config import HfConfig
from exeunt.export.families.hf.matching import Similarity, unit
from exeunt.export.layers.vit import Activation, VitLayer

LEGACY_EOS = 2  # what old configs say: their texts end at the token of the largest id


class _Tower(BaseModel):
    """Sizes of one lane; Hugging Face's defaults are those of the subclasses."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_hidden_layers: PositiveInt = 12
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: PositiveFloat = 1e-5


class ClipTextConfig(_Tower):
    """The text lane's sizes."""

    hidden_size: PositiveInt = 512
    num_attention_heads: PositiveInt = 8
    intermediate_size: PositiveInt = 2048
    vocab_size: PositiveInt = 49408
    max_position_embeddings: PositiveInt = 77
    eos_token_id: int = 49407


class ClipVisionConfig(_Tower):
    """The image lane's sizes."""

    hidden_size: PositiveInt = 768
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 32


class ClipConfig(HfConfig):
    """`config.json` of a CLIP checkpoint."""

    projection_dim: PositiveInt = 512
    text_config: ClipTextConfig = Field(default_factory=ClipTextConfig)
    vision_config: ClipVisionConfig = Field(default_factory=ClipVisionConfig)


class ClipLayers(nn.Module):
    """The layers of one lane."""

    def __init__(self, sizes: ClipTextConfig | ClipVisionConfig, *, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                VitLayer(
                    sizes.hidden_size,
                    sizes.num_attention_heads,
                    sizes.intermediate_size,
                    eps=sizes.layer_norm_eps,
                    activation=sizes.hidden_act,
                    causal=causal,
                )
                for _ in range(sizes.num_hidden_layers)
            ]
        )


class ClipWords(nn.Module):
    """Words with their positions."""

    def __init__(self, sizes: ClipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.position_embedding = nn.Embedding(sizes.max_position_embeddings, sizes.hidden_size)


class ClipText(nn.Module):
    """The text lane's parameters."""

    def __init__(self, sizes: ClipTextConfig) -> None:
        super().__init__()
        self.eos = sizes.eos_token_id
        self.embeddings = ClipWords(sizes)
        self.encoder = ClipLayers(sizes, causal=True)
        self.final_layer_norm = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state f32[B, S, D], its mask f32[B, S] and f32[B, S], 1 at the end token."""
        places = self.embeddings.position_embedding.weight[: input_ids.shape[1]]
        hidden: Tensor = self.embeddings.token_embedding(input_ids) + places
        ends = input_ids if self.eos == LEGACY_EOS else (input_ids == self.eos).to(torch.int64)
        first = ends.argmax(dim=1, keepdim=True)
        end = torch.arange(input_ids.shape[1])[None, :] == first
        return hidden, attention_mask.to(hidden.dtype), end.to(hidden.dtype)


class ClipPatches(nn.Module):
    """[CLS] and an image's patches, row by row, with their positions."""

    def __init__(self, sizes: ClipVisionConfig) -> None:
        super().__init__()
        width, patch = sizes.hidden_size, sizes.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(1 + (sizes.image_size // patch) ** 2, width)


class ClipVision(nn.Module):
    """The image lane's parameters."""

    def __init__(self, sizes: ClipVisionConfig) -> None:
        super().__init__()
        width, eps = sizes.hidden_size, sizes.layer_norm_eps
        self.embeddings = ClipPatches(sizes)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)
        self.encoder = ClipLayers(sizes, causal=False)
        self.post_layernorm = nn.LayerNorm(width, eps=eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the state f32[B, 1 + P, D] of f32[B, 3, H, W]."""
        parts = self.embeddings
        patches = parts.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        first = parts.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + parts.position_embedding.weight
        hidden: Tensor = self.pre_layrnorm(tokens)
        return hidden


class ClipModel(nn.Module):
    """The checkpoint, with the official names."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        text, vision, width = config.text_config, config.vision_config, config.projection_dim
        self.text_model = ClipText(text)
        self.vision_model = ClipVision(vision)
        self.text_projection = nn.Linear(text.hidden_size, width, bias=False)
        self.visual_projection = nn.Linear(vision.hidden_size, width, bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the logit f32[B, 1] of the raw tensors."""
        image = self.vision_model(tensors["pixel_values"])
        for layer in self.vision_model.encoder.layers:
            image = layer(image)
        text, mask, end = self.text_model(tensors["input_ids"], tensors["attention_mask"])
        for layer in self.text_model.encoder.layers:
            text = layer(text, mask)
        embeds = ClipJoin(self)(image, text, end)
        logit: Tensor = Similarity(self.logit_scale)(*embeds)
        return logit


class ClipJoin(nn.Module):
    """What both lanes end with, projected to one space, of length 1."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.post_layernorm = model.vision_model.post_layernorm
        self.final_layer_norm = model.text_model.final_layer_norm
        self.visual_projection, self.text_projection = (
            model.visual_projection,
            model.text_projection,
        )

    def forward(self, image: Tensor, text: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, E] of f32[B, P, D], f32[B, S, D] and f32[B, S], 1 at the end token."""
        last = (end[:, None, :] @ self.final_layer_norm(text))[:, 0]
        seen = self.visual_projection(self.post_layernorm(image[:, 0]))
        return unit(seen), unit(self.text_projection(last))
