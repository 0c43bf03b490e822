"""X-VLM with the official names of its parameters: encoders, and the heads of each task."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.families.hf.matching import Similarity, unit
from exeunt.export.families.xvlm.config import TextConfig, XvlmConfig
from exeunt.export.families.xvlm.decoder import TextDecoder
from exeunt.export.families.xvlm.pruning import Masks, prune_bert, prune_vit
from exeunt.export.layers.bert import BertLayer
from exeunt.export.layers.cross import BertCrossLayer
from exeunt.export.layers.vit import VitLayer

ITM, ITC, NLVR2, VQA = "itm", "itc", "nlvr2", "vqa"
PAIR = 2  # images that NLVR2 compares


class VisionEncoder(nn.Module):
    """CLIP's vision encoder, and the norm of what it ends with."""

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__()
        sizes = config.vision
        width, patch = sizes.vision_width, sizes.patch_size
        layers = [
            VitLayer(
                width,
                sizes.num_attention_heads,
                sizes.intermediate_size,
                activation=sizes.hidden_act,
            )
            for _ in range(sizes.num_hidden_layers)
        ]
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.pos_embed = nn.Embedding(config.patches, width)
        self.pre_layrnorm = nn.LayerNorm(width)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.post_layernorm = nn.LayerNorm(width)

    @property
    def layers(self) -> list[VitLayer]:
        """The layers."""
        return [cast(VitLayer, layer) for layer in self.encoder["layers"].children()]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the state f32[B, P, D] before the first layer, of f32[B, 3, H, W]."""
        patches = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        hidden: Tensor = self.pre_layrnorm(torch.cat([first, patches], 1) + self.pos_embed.weight)
        return hidden


class TextEncoder(nn.Module):
    """BERT, whose last layers look at images."""

    def __init__(self, sizes: TextConfig, cross_layers: int, context: int) -> None:
        super().__init__()
        width, heads, ffn = sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size
        self.fusion_layer = sizes.fusion_layer
        self.embeddings = TextEmbeddings(
            sizes.vocab_size,
            sizes.max_position_embeddings,
            width,
            sizes.layer_norm_eps,
            types=sizes.type_vocab_size,
        )
        plain = [BertLayer(width, heads, ffn) for _ in range(sizes.fusion_layer)]
        cross = [BertCrossLayer(width, heads, ffn, context) for _ in range(cross_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([*plain, *cross])})

    @property
    def text_layers(self) -> list[BertLayer]:
        """The layers that see the text alone."""
        layers = list(self.encoder["layer"].children())
        return [cast(BertLayer, layer) for layer in layers[: self.fusion_layer]]

    @property
    def cross_layers(self) -> list[BertCrossLayer]:
        """The layers that look at images; those of a pair take turns."""
        layers = list(self.encoder["layer"].children())
        return [cast(BertCrossLayer, layer) for layer in layers[self.fusion_layer :]]


class XvlmModel(nn.Module):
    """A checkpoint.

    Args:
        config: its sizes.
        task: whose head it has; ITM stands for retrieval, with ITC.
        classes: of the head.
        space: width of the space in which images and texts are compared.
    """

    def __init__(self, config: XvlmConfig, task: str, classes: int, space: int) -> None:
        super().__init__()
        text, context = config.text, config.vision.vision_width
        width = text.hidden_size
        self.config, self.classes = config, classes
        self.images = PAIR if task == NLVR2 else 1
        self.vision_encoder = VisionEncoder(config)
        self.text_encoder = TextEncoder(text, self.images * config.cross_layers, context)
        if task == VQA:
            if config.decoder_layers is None:
                raise ValueError("num_dec_layers is missing, and there is a decoder")
            self.text_decoder = TextDecoder(text, config.decoder_layers)
        elif task == NLVR2:
            self.cls_head = classifier(width, classes)
        else:
            self.vision_proj = nn.Linear(context, space)
            self.text_proj = nn.Linear(width, space)
            self.itm_head = classifier(width, classes)

    def prune(self, masks: Masks) -> None:
        """Leave out heads and neurons."""
        for vit, mask in zip(self.vision_encoder.layers, masks.vision, strict=True):
            prune_vit(vit, mask)
        for plain, mask in zip(self.text_encoder.text_layers, masks.text, strict=True):
            prune_bert(plain, mask)
        cross = list(self.text_encoder.cross_layers)
        if masks.decoder:
            cross += self.text_decoder.layers
        for layer, mask in zip(cross, [*masks.cross, *masks.decoder], strict=True):
            prune_bert(layer, mask)

    def head(self) -> nn.Sequential:
        """Return what answers from the first token of the last cross layer."""
        return self.cls_head if self.images > 1 else self.itm_head

    def image(self, pixel_values: Tensor) -> Tensor:
        """Return an image as texts see it, f32[B, P, D], of f32[B, 3, H, W]."""
        hidden = self.vision_encoder(pixel_values)
        for layer in self.vision_encoder.layers:
            hidden = layer(hidden)
        seen: Tensor = self.vision_encoder.post_layernorm(hidden)
        return seen

    def text(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Return a text f32[B, S, D] of i64[B, S] and its mask f32[B, S]."""
        hidden: Tensor = self.text_encoder.embeddings(input_ids)
        for layer in self.text_encoder.text_layers:
            hidden = layer(hidden, mask)
        return hidden

    def fuse(self, hidden: Tensor, mask: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """Return a text f32[B, S, D] that has looked at images f32[B, P, C] in turn."""
        for place, layer in enumerate(self.text_encoder.cross_layers):
            hidden = layer(hidden, mask, contexts[place % len(contexts)])
        return hidden

    def forward(self, tensors: Mapping[str, Tensor], task: str) -> Tensor:
        """Return logits of the raw tensors; of VQA the question's states f32[B, S, D]."""
        pixels = tensors["pixel_values"]
        given = pixels.unbind(1) if self.images > 1 else (pixels,)
        contexts = [self.image(image) for image in given]
        mask = tensors["attention_mask"].to(torch.float32)
        text = self.text(tensors["input_ids"], mask)
        if task == ITC:
            similar: Tensor = Similarity()(*Embeds(self)(contexts[0], text))
            return similar
        fused = self.fuse(text, mask, contexts)
        if task == VQA:
            return fused
        logits: Tensor = self.head()(fused[:, 0])
        return logits


class Embeds(nn.Module):
    """An image and a text in one space, by their first tokens."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.vision_proj, self.text_proj = model.vision_proj, model.text_proj

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, E], of length 1, of f32[B, P, C] and f32[B, S, D]."""
        return unit(self.vision_proj(image[:, 0])), unit(self.text_proj(text[:, 0]))


def classifier(width: int, classes: int) -> nn.Sequential:
    """Return the two layers that answer from one token."""
    return nn.Sequential(
        nn.Linear(width, 2 * width),
        nn.LayerNorm(2 * width),
        nn.GELU(),
        nn.Linear(2 * width, classes),
    )
