"""VisualBERT: BERT over words and a detector's regions."""

from typing import Literal, cast

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from exeunt.export.families.hf.config import HfConfig, set_eps
from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.layers.bert import BertLayer, BertPooler


class VisualBertConfig(HfConfig):
    """`config.json` of a VisualBERT checkpoint; Hugging Face's defaults."""

    hidden_size: PositiveInt = 768
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12
    vocab_size: PositiveInt = 30522
    type_vocab_size: PositiveInt = 2
    max_position_embeddings: PositiveInt = 512
    visual_embedding_dim: PositiveInt = 512
    bypass_transformer: Literal[False] = False


class VisualBertEmbeddings(TextEmbeddings):
    """Words and regions as one sequence, normed together."""

    def __init__(self, config: VisualBertConfig) -> None:
        width, types = config.hidden_size, config.type_vocab_size
        positions = config.max_position_embeddings
        super().__init__(config.vocab_size, positions, width, config.layer_norm_eps, types=types)
        self.visual_token_type_embeddings = nn.Embedding(types, width)
        self.visual_position_embeddings = nn.Embedding(positions, width)
        self.visual_projection = nn.Linear(config.visual_embedding_dim, width)

    def embed(self, input_ids: Tensor, features: Tensor, types: Tensor | None = None) -> Tensor:
        """Return f32[B, S + R, D] of i64[B, S], f32[B, R, F] and i64[B, R]; types are 1 by default.

        Regions are not aligned with words: all have the first position.
        """
        table = self.visual_token_type_embeddings.weight
        kind = table[1] if types is None else self.visual_token_type_embeddings(types)
        place = self.visual_position_embeddings.weight[0]
        regions = self.visual_projection(features) + kind + place
        state: Tensor = self.LayerNorm(torch.cat([self.summed(input_ids), regions], dim=1))
        return state


class VisualBertBackbone(nn.Module):
    """Everything before the classifier."""

    def __init__(self, config: VisualBertConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.embeddings = VisualBertEmbeddings(config)
        layers = [
            BertLayer(width, heads, config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.pooler = BertPooler(width)


class VisualBertModel(nn.Module):
    """The checkpoint, with the official names."""

    def __init__(self, config: VisualBertConfig, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.visual_bert = VisualBertBackbone(config)
        self.cls = nn.Linear(config.hidden_size, classes)
        set_eps(self, config.layer_norm_eps)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers, the first one first."""
        return tuple(cast(nn.ModuleList, self.visual_bert.encoder["layer"]))


class QuestionEntry(nn.Module):
    """The state, its mask, and the place of the token that answers."""

    def __init__(self, model: VisualBertModel) -> None:
        super().__init__()
        self.embeddings = model.visual_bert.embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, features: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return f32[B, T, D], f32[B, T] and i64[B] of a text [B, S] and regions [B, R, F]."""
        hidden = self.embeddings.embed(input_ids, features)
        place = (attention_mask.sum(1) - 2).clamp(min=0)
        return hidden, joined_mask(attention_mask, seen), place


class QuestionHead(nn.Module):
    """The answer of one token."""

    def __init__(self, model: VisualBertModel) -> None:
        super().__init__()
        self.cls = model.cls

    def forward(self, hidden: Tensor, place: Tensor) -> Tensor:
        """Return the logits f32[B, C] of f32[B, T, D] and i64[B]."""
        index = place[:, None, None].expand(-1, 1, hidden.shape[2])
        logits: Tensor = self.cls(torch.gather(hidden, 1, index)[:, 0])
        return logits


class ReasoningEntry(nn.Module):
    """The state and its mask, of regions that come from several images."""

    def __init__(self, model: VisualBertModel) -> None:
        super().__init__()
        self.embeddings = model.visual_bert.embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        features: Tensor,
        seen: Tensor,
        types: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return f32[B, T, D] and f32[B, T] of a text [B, S] and regions [B, R, F]."""
        hidden = self.embeddings.embed(input_ids, features, types)
        return hidden, joined_mask(attention_mask, seen)


class ReasoningHead(nn.Module):
    """The answer of the pooled first token."""

    def __init__(self, model: VisualBertModel) -> None:
        super().__init__()
        self.pooler, self.cls = model.visual_bert.pooler, model.cls

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits f32[B, C] of f32[B, T, D]."""
        logits: Tensor = self.cls(self.pooler(hidden))
        return logits


def joined_mask(text: Tensor, regions: Tensor) -> Tensor:
    """Return the mask f32[B, S + R] of i64[B, S] and i64[B, R]."""
    return torch.cat([text, regions], dim=1).to(torch.float32)
