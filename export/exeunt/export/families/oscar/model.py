"""Oscar's encoder and its classifier, with the parameter names of its checkpoints."""

from typing import cast

import torch
from torch import Tensor, nn

from exeunt.export.families.hf.config import set_eps
from exeunt.export.families.oscar.config import OscarConfig
from exeunt.export.families.uniter.heads import PooledHead
from exeunt.export.layers.bert import BertLayer, BertPooler
from exeunt.export.layers.bert_embeddings import BertEmbeddings


class Oscar(nn.Module):
    """Embeddings of words and regions, layers and a pooler: what checkpoints call `bert`."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.embeddings = BertEmbeddings(
            config.vocab_size, config.max_position_embeddings, config.type_vocab_size, width
        )
        self.img_embedding = nn.Linear(config.img_feature_dim, width)
        self.LayerNorm = nn.LayerNorm(width) if config.use_img_layernorm else None
        layers = [
            BertLayer(width, heads, config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.pooler = BertPooler(width)
        set_eps(self, config.layer_norm_eps)
        if self.LayerNorm is not None:
            self.LayerNorm.eps = config.img_layer_norm_eps

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers, the first one first."""
        return tuple(cast(nn.ModuleList, self.encoder["layer"]))

    def embed_regions(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return f32[B, R, D] of f32[B, R, F] and f32[B, R, 6]; regions have no positions."""
        regions: Tensor = self.img_embedding(torch.cat([features, boxes], dim=-1))
        return regions if self.LayerNorm is None else self.LayerNorm(regions)


class OscarForClassification(nn.Module):
    """`ImageBertForSequenceClassification`: an answer from the pooled first token.

    Args:
        config: of the checkpoint.
        classes: that the classifier answers.
    """

    def __init__(self, config: OscarConfig, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.bert = Oscar(config)
        self.classifier = _classifier(config, classes)

    def head(self) -> nn.Module:
        """Return what answers."""
        return PooledHead(self.bert.pooler, self.classifier)


def _classifier(config: OscarConfig, classes: int) -> nn.Module:
    width = config.hidden_size
    if config.classifier == "linear":
        return nn.Linear(width, classes)
    wide = config.cls_hidden_scale * width
    return nn.Sequential(nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, classes))


class OscarEntry(nn.Module):
    """Words and regions as one sequence, `[text; padding; regions; padding]`."""

    def __init__(self, oscar: Oscar) -> None:
        super().__init__()
        self.oscar = oscar

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        region_features: Tensor,
        region_boxes: Tensor,
        region_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Embed a batch.

        Args:
            input_ids: i64[B, S], [CLS] first; object tags are a second segment.
            attention_mask: i64[B, S], 1 at words and 0 at padding.
            token_type_ids: i64[B, S], 0 in the question and 1 in the tags.
            region_features: f32[B, R, F], of a detector.
            region_boxes: f32[B, R, 6], x1, y1, x2, y2, width and height in [0, 1].
            region_mask: i64[B, R], 1 at regions and 0 at padding.

        Returns:
            The state f32[B, S + R, D] and its mask f32[B, S + R].
        """
        text = self.oscar.embeddings(input_ids, token_type_ids)
        hidden = torch.cat([text, self.oscar.embed_regions(region_features, region_boxes)], dim=1)
        return hidden, torch.cat([attention_mask, region_mask], dim=1).to(hidden.dtype)
