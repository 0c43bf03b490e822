"""LXMERT: layers of words, layers of regions, then layers in which both look at each other."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from exeunt.export.families.hf.config import HfConfig
from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.layers.bert import (
    EPS,
    BertAttention,
    BertIntermediate,
    BertLayer,
    BertOutput,
    BertPooler,
)
from exeunt.export.layers.cross import BertCrossMixing


class LxmertConfig(HfConfig):
    """`config.json` of an LXMERT checkpoint; Hugging Face's defaults."""

    hidden_size: PositiveInt = 768
    l_layers: PositiveInt = 9
    r_layers: PositiveInt = 5
    x_layers: PositiveInt = 5
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: Literal["gelu"] = "gelu"
    vocab_size: PositiveInt = 30522
    type_vocab_size: PositiveInt = 2
    max_position_embeddings: PositiveInt = 512
    visual_feat_dim: PositiveInt = 2048
    visual_pos_dim: Literal[4] = 4


class RegionEmbeddings(nn.Module):
    """A region as the mean of its normed feature and its normed box."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.visn_fc = nn.Linear(config.visual_feat_dim, width)
        self.visn_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.box_fc = nn.Linear(config.visual_pos_dim, width)
        self.box_layer_norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return f32[B, R, D] of f32[B, R, F] and f32[B, R, 4]."""
        seen: Tensor = self.visn_layer_norm(self.visn_fc(features))
        placed: Tensor = self.box_layer_norm(self.box_fc(boxes))
        return (seen + placed) / 2


class SharedCrossAttention(nn.Module):
    """Cross-attention with its output projection; both directions use the same one."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.att = BertCrossMixing(config.hidden_size, config.num_attention_heads)
        self.output = BertOutput(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, T, D] of a state that looks at `context` f32[B, K, D]."""
        attended: Tensor = self.output(self.att(hidden, context, mask), hidden)
        return attended


class LxmertCrossLayer(nn.Module):
    """Both states look at each other, then each at itself, then a feed-forward network each."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        width, ffn = config.hidden_size, config.intermediate_size
        heads = config.num_attention_heads
        self.visual_attention = SharedCrossAttention(config)
        self.lang_self_att = BertAttention(width, heads)
        self.visn_self_att = BertAttention(width, heads)
        self.lang_inter = BertIntermediate(width, ffn)
        self.lang_output = BertOutput(ffn, width)
        self.visn_inter = BertIntermediate(width, ffn)
        self.visn_output = BertOutput(ffn, width)

    def forward(
        self, language: Tensor, vision: Tensor, language_mask: Tensor, vision_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next states f32[B, S, D] and f32[B, R, D]; masks are f32[B, S], f32[B, R]."""
        words = self.visual_attention(language, vision, vision_mask)
        regions = self.visual_attention(vision, language, language_mask)
        words = self.lang_self_att(words, language_mask)
        regions = self.visn_self_att(regions, vision_mask)
        return (
            self.lang_output(self.lang_inter(words), words),
            self.visn_output(self.visn_inter(regions), regions),
        )


class LxmertEncoder(nn.Module):
    """The regions' embeddings and all layers."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        self.visn_fc = RegionEmbeddings(config)
        self.layer = nn.ModuleList([BertLayer(*sizes) for _ in range(config.l_layers)])
        self.r_layers = nn.ModuleList([BertLayer(*sizes) for _ in range(config.r_layers)])
        self.x_layers = nn.ModuleList([LxmertCrossLayer(config) for _ in range(config.x_layers)])


class LxmertBackbone(nn.Module):
    """Everything before the answer's head."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(
            config.vocab_size,
            config.max_position_embeddings,
            config.hidden_size,
            EPS,
            types=config.type_vocab_size,
        )
        self.encoder = LxmertEncoder(config)
        self.pooler = BertPooler(config.hidden_size)


class LxmertModel(nn.Module):
    """The checkpoint, with the official names."""

    def __init__(self, config: LxmertConfig, classes: int) -> None:
        super().__init__()
        self.classes = classes
        width = config.hidden_size
        self.lxmert = LxmertBackbone(config)
        answer = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width, eps=EPS),
            nn.Linear(2 * width, classes),
        )
        self.answer_head = nn.ModuleDict({"logit_fc": answer})

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the logits f32[B, C] of the raw tensors."""
        encoder = self.lxmert.encoder
        masks = (tensors["attention_mask"].float(), tensors["region_mask"].float())
        words = self.lxmert.embeddings(tensors["input_ids"])
        regions = encoder.visn_fc(tensors["region_features"], tensors["region_boxes"])
        for layer in encoder.layer:
            words = layer(words, masks[0])
        for layer in encoder.r_layers:
            regions = layer(regions, masks[1])
        for layer in encoder.x_layers:
            words, regions = layer(words, regions, *masks)
        logits: Tensor = AnswerHead(self)(words)
        return logits


class AnswerHead(nn.Module):
    """The final head, which every layer answers through."""

    def __init__(self, model: LxmertModel) -> None:
        super().__init__()
        self.pooler = model.lxmert.pooler
        self.logit_fc = model.answer_head["logit_fc"]

    def forward(self, language: Tensor) -> Tensor:
        """Return the logits f32[B, C] of f32[B, S, D]."""
        logits: Tensor = self.logit_fc(self.pooler(language))
        return logits
