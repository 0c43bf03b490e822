"""UNITER's encoder, with the parameter names of its checkpoints."""

import torch
from torch import Tensor, nn

from exeunt.export.families.uniter.config import UniterSizes
from exeunt.export.layers.bert import EPS, BertLayer, BertPooler
from exeunt.export.layers.compact import compact

TEXT_TYPE, REGION_TYPE = 0, 1  # of the second image of a pair: the one after


class TextEmbeddings(nn.Module):
    """Words, positions and types, summed and normed."""

    def __init__(self, sizes: UniterSizes) -> None:
        super().__init__()
        width = sizes.config.hidden_size
        self.word_embeddings = nn.Embedding(sizes.vocabulary, width)
        self.position_embeddings = nn.Embedding(sizes.config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(sizes.types, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return f32[B, S, D] of i64[B, S], and of the tokens' types where they are not all 0."""
        words = self.word_embeddings(input_ids)
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        if token_type_ids is None:
            kinds = self.token_type_embeddings.weight[TEXT_TYPE]
        else:
            kinds = self.token_type_embeddings(token_type_ids)
        normed: Tensor = self.LayerNorm(words + positions + kinds)
        return normed


class RegionEmbeddings(nn.Module):
    """Features and boxes, each projected and normed, summed with the type and normed again."""

    def __init__(self, sizes: UniterSizes) -> None:
        super().__init__()
        width = sizes.config.hidden_size
        self.img_linear = nn.Linear(sizes.features, width)
        self.img_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.pos_linear = nn.Linear(sizes.box_columns, width)
        self.pos_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, features: Tensor, boxes: Tensor, kinds: Tensor) -> Tensor:
        """Return f32[B, R, D] of f32[B, R, F], f32[B, R, 7] and the types' f32[B or 1, 1, D]."""
        seen = self.img_layer_norm(self.img_linear(features))
        placed = self.pos_layer_norm(self.pos_linear(boxes))
        normed: Tensor = self.LayerNorm(seen + placed + kinds)
        return normed


class Encoder(nn.Module):
    """The layers, and the exits after them where the checkpoint has some."""

    def __init__(self, sizes: UniterSizes, exits: list[nn.Module]) -> None:
        super().__init__()
        config = sizes.config
        self.layer = nn.ModuleList(
            [
                BertLayer(config.hidden_size, config.num_attention_heads, config.intermediate_size)
                for _ in range(config.num_hidden_layers)
            ]
        )
        if exits:
            self.EElayer = nn.ModuleList(exits)


class Uniter(nn.Module):
    """The encoder with its embeddings and its pooler."""

    def __init__(self, sizes: UniterSizes, exits: list[nn.Module]) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(sizes)
        self.img_embeddings = RegionEmbeddings(sizes)
        self.encoder = Encoder(sizes, exits)
        self.pooler = BertPooler(sizes.config.hidden_size)


class UniterEntry(nn.Module):
    """Text and regions as one sequence: `[text; regions; padding]`.

    Args:
        uniter: whose embeddings it has.
        images: a sample has; the regions of each are of a type of their own.
    """

    def __init__(self, uniter: Uniter, *, images: int = 1) -> None:
        super().__init__()
        self.embeddings = uniter.embeddings
        self.img_embeddings = uniter.img_embeddings
        self.images = images

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        region_features: Tensor,
        region_boxes: Tensor,
        region_mask: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed a batch of rows.

        Args:
            input_ids: i64[B, S], [CLS] first.
            attention_mask: i64[B, S], 1 at words and 0 at padding.
            region_features: f32[B, R, F], of a detector.
            region_boxes: f32[B, R, 7], x1, y1, x2, y2, width, height and area in [0, 1].
            region_mask: i64[B, R], 1 at regions and 0 at padding.
            token_type_ids: i64[B, S], of words; all of one type where there are none.

        Returns:
            The state f32[B, S + R, D] and its mask f32[B, S + R].
        """
        text = self.embeddings(input_ids, token_type_ids)
        kinds = self._region_types(input_ids)
        regions = self.img_embeddings(region_features, region_boxes, kinds)
        hidden = torch.cat([text, regions], dim=1)
        return compact(hidden, torch.cat([attention_mask, region_mask], dim=1))

    def _region_types(self, input_ids: Tensor) -> Tensor:
        """Return the embedding of each row's region type, f32[B or 1, 1, D].

        The images of a sample are rows one after the other.
        """
        table = self.embeddings.token_type_embeddings.weight
        if self.images == 1:
            return table[None, REGION_TYPE : REGION_TYPE + 1]
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        return table[REGION_TYPE + rows % self.images][:, None]
