"""A UNITER-like single-stream model with random weights and an exit head after every layer.

Text and detector regions are embedded as UNITER embeds them and walk one stack of BERT layers as
`[CLS] text [SEP] regions`. The parameters are named as in UNITER's checkpoints.
"""

import torch
from torch import Tensor, nn

from exeunt.bench.workloads.config import BOX_COLUMNS, FEATURE_SIZE, UniterConfig
from exeunt.export.layers.bert import EPS, BertHead, BertLayer

TEXT_TYPE, REGION_TYPE = 0, 1


class TextEmbeddings(nn.Module):
    """Words, positions and types, summed and normed."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab, config.hidden)
        self.position_embeddings = nn.Embedding(config.words, config.hidden)
        self.token_type_embeddings = nn.Embedding(2, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=EPS)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return f32[B, S, D] of i64[B, S]."""
        words = self.word_embeddings(input_ids)
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        kind = self.token_type_embeddings.weight[TEXT_TYPE]
        normed: Tensor = self.LayerNorm(words + positions + kind)
        return normed


class RegionEmbeddings(nn.Module):
    """Features and boxes, each projected and normed, summed with the type and normed again."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.img_linear = nn.Linear(FEATURE_SIZE, config.hidden)
        self.img_layer_norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.pos_linear = nn.Linear(BOX_COLUMNS, config.hidden)
        self.pos_layer_norm = nn.LayerNorm(config.hidden, eps=EPS)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=EPS)

    def forward(self, features: Tensor, boxes: Tensor, kind: Tensor) -> Tensor:
        """Return f32[B, R, D] of f32[B, R, 2048], f32[B, R, 7] and the type's f32[D]."""
        seen = self.img_layer_norm(self.img_linear(features))
        placed = self.pos_layer_norm(self.pos_linear(boxes))
        normed: Tensor = self.LayerNorm(seen + placed + kind)
        return normed


class UniterEntry(nn.Module):
    """Both modalities as one sequence, with its mask."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.img_embeddings = RegionEmbeddings(config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        region_features: Tensor,
        region_boxes: Tensor,
        region_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Embed a batch.

        Args:
            input_ids: i64[B, S], [CLS] first; S at most the position embeddings.
            attention_mask: i64[B, S], 1 at words and 0 at padding.
            region_features: f32[B, R, 2048], of a detector.
            region_boxes: f32[B, R, 7], x1, y1, x2, y2, width, height and area in [0, 1].
            region_mask: i64[B, R], 1 at regions and 0 at padding.

        Returns:
            The state f32[B, S + R, D] and its mask f32[B, S + R].
        """
        kind = self.embeddings.token_type_embeddings.weight[REGION_TYPE]
        text = self.embeddings(input_ids)
        regions = self.img_embeddings(region_features, region_boxes, kind)
        mask = torch.cat([attention_mask, region_mask], dim=1)
        return torch.cat([text, regions], dim=1), mask.to(text.dtype)


class UniterModel(nn.Module):
    """The entry, the layers and an exit head after each of them."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden
        self.entry = UniterEntry(config)
        self.layers = nn.ModuleList(
            [BertLayer(width, config.attention_heads) for _ in range(config.layers)]
        )
        self.heads = nn.ModuleList([BertHead(width, config.labels) for _ in range(config.layers)])

    def forward(self, *raw: Tensor) -> list[Tensor]:
        """Return the logits f32[B, C] of each exit, first layer first; see `UniterEntry`."""
        hidden, mask = self.entry(*raw)
        logits = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            hidden = layer(hidden, mask)
            logits.append(head(hidden))
        return logits

    def at_depth(self, *raw: Tensor) -> Tensor:
        """Return the logits f32[B, C] of the last exit, without running the other heads."""
        hidden, mask = self.entry(*raw)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        logits: Tensor = self.heads[-1](hidden)
        return logits


def uniter_base(config: UniterConfig) -> UniterModel:
    """Return the model in eval mode, its random weights fixed by `config.seed`.

    Linear maps keep the scale of what they read (std 1 / sqrt(fan-in)), so that answers differ from
    sample to sample at every width; no two parameters hold the same numbers, so that a graph in
    which one stood for another would be found out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = UniterModel(config)
        with torch.no_grad():
            for module in model.modules():
                _draw(module)
    return model.eval()


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.weight.normal_(std=module.in_features**-0.5)
        module.bias.normal_(std=0.05)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(std=0.7)
    elif isinstance(module, nn.LayerNorm):
        module.weight.normal_(mean=1.0, std=0.1)
        module.bias.normal_(std=0.05)
