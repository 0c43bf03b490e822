"""VL-BERT's encoder and its answers, with the parameter names of its checkpoints."""

from typing import cast

import torch
from torch import Tensor, nn

from exeunt.export.families.vlbert.config import EncoderConfig, VlbertConfig
from exeunt.export.layers.bert import EPS, BertLayer
from exeunt.export.layers.compact import compact

COORDINATES = 4  # centre, width and height of a box
FREQUENCIES = 256  # of each coordinate, a sine and a cosine
COORDINATE_WIDTH = COORDINATES * 2 * FREQUENCIES
BASE, SCALE = 1000.0, 100.0  # of the sinusoids: longest wavelength, and the image's size
MASK_TOKEN = 103  # [MASK] of BERT's vocabularies
QUESTION, ANSWER, OBJECT = range(3)  # types of tokens


class VlbertEncoder(nn.Module):
    """What checkpoints call `vlbert`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, seen = config.hidden_size, config.visual_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.end_embedding = nn.Embedding(1, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.embedding_LayerNorm = nn.LayerNorm(width, eps=EPS)
        if seen != width:
            self.visual_1x1_text = nn.Linear(seen, width)
            self.visual_1x1_object = nn.Linear(seen, width)
        self.visual_ln_text = nn.LayerNorm(width, eps=EPS)
        self.visual_ln_object = nn.LayerNorm(width, eps=EPS)
        layers = [
            BertLayer(width, config.num_attention_heads, config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self._projects = seen != width

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers, the first one first."""
        return tuple(cast(nn.ModuleList, self.encoder["layer"]))

    def seen_by_text(self, image: Tensor) -> Tensor:
        """Return f32[B, 1, D], which every word gets, of the whole image's f32[B, 1, V]."""
        normed: Tensor = self.visual_ln_text(
            self.visual_1x1_text(image) if self._projects else image
        )
        return normed

    def seen_as_object(self, objects: Tensor) -> Tensor:
        """Return f32[B, R, D] of f32[B, R, V]."""
        normed: Tensor = self.visual_ln_object(
            self.visual_1x1_object(objects) if self._projects else objects
        )
        return normed


class RegionReader(nn.Module):
    """What checkpoints call `image_feature_extractor`, behind the detector."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        projection = nn.Linear(COORDINATE_WIDTH + features, width)
        self.obj_downsample = nn.Sequential(nn.Dropout(), projection, nn.ReLU())

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return f32[B, R, V] of f32[B, R, F] and boxes f32[B, R, 4] in [0, 1]."""
        seen: Tensor = self.obj_downsample(torch.cat([coordinates(boxes), features], dim=-1))
        return seen


def coordinates(boxes: Tensor) -> Tensor:
    """Return sines, then cosines, of each coordinate of a box: f32[B, R, 2048].

    They are sin(100 c / 1000^(i / 256)) for the 256 i, of the centre's x and y, the width and the
    height c, each a share of the image's.

    Args:
        boxes: f32[B, R, 4], x1, y1, x2, y2 in [0, 1].
    """
    first, last = boxes[..., :2], boxes[..., 2:]
    place = torch.cat([(first + last) / 2, last - first], dim=-1) * SCALE  # [B, R, 4]
    steps = torch.arange(FREQUENCIES, dtype=boxes.dtype, device=boxes.device)
    angles = place[..., None] / BASE ** (steps / FREQUENCIES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(2)


class Transform(nn.Module):
    """BERT's own, before its words are predicted: dense, GELU, LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[..., D] of f32[..., D]."""
        normed: Tensor = self.LayerNorm(nn.functional.gelu(self.dense(hidden)))
        return normed


class Vlbert(nn.Module):
    """`ResNetVLBERT` for VQA: an answer at the place of [MASK].

    Args:
        config: of the checkpoint.
        features: width of a region's feature.
    """

    def __init__(self, config: VlbertConfig, features: int) -> None:
        super().__init__()
        network = config.NETWORK
        self.classes = config.DATASET.ANSWER_VOCAB_SIZE
        self.image_feature_extractor = RegionReader(features, network.IMAGE_FINAL_DIM)
        self.object_linguistic_embeddings = nn.Embedding(1, network.VLBERT.hidden_size)
        self.vlbert = VlbertEncoder(network.VLBERT)
        self.final_mlp = _classifier(config)


def _classifier(config: VlbertConfig) -> nn.Sequential:
    """Return an official classifier; parts without parameters keep the others' places in keys."""
    network, classes = config.NETWORK, config.DATASET.ANSWER_VOCAB_SIZE
    width, wide = network.VLBERT.hidden_size, network.CLASSIFIER_HIDDEN_SIZE
    if network.CLASSIFIER_TYPE == "mlm":
        return nn.Sequential(Transform(width), nn.Dropout(), nn.Linear(width, classes))
    if network.CLASSIFIER_TYPE == "1fc":
        return nn.Sequential(nn.Dropout(), nn.Linear(width, classes))
    return nn.Sequential(
        nn.Dropout(), nn.Linear(width, wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, classes)
    )


class VlbertEntry(nn.Module):
    """Question, [MASK], regions and [END] as one sequence, without gaps."""

    def __init__(self, model: Vlbert) -> None:
        super().__init__()
        self.vlbert = model.vlbert
        self.regions = model.image_feature_extractor
        self.object_words = model.object_linguistic_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        region_features: Tensor,
        region_boxes: Tensor,
        region_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed a batch.

        Args:
            input_ids: i64[B, S], [CLS] question [SEP].
            attention_mask: i64[B, S], 1 at words and 0 at padding.
            region_features: f32[B, R, F], of a detector; the first is the whole image's.
            region_boxes: f32[B, R, 4], x1, y1, x2, y2 in [0, 1].
            region_mask: i64[B, R], 1 at regions and 0 at padding.

        Returns:
            The state f32[B, S + R + 3, D], its mask f32[B, S + R + 3], and the place i64[B] of
            [MASK]: `[question [MASK] [SEP]; regions; [END]; padding]`.
        """
        words, place = attention_mask.sum(1, keepdim=True), self.vlbert.position_embeddings
        kinds = self.vlbert.token_type_embeddings.weight
        seen = self.regions(region_features, region_boxes)
        text, text_mask = self._text(input_ids, words, seen[:, :1])
        # Every region has the position behind the text, and [END] the next one.
        objects = self.vlbert.seen_as_object(seen) + self.object_words.weight[0]
        objects = objects + place(words + 2) + kinds[OBJECT]
        end = self.vlbert.end_embedding.weight[0] + place(words + 3) + kinds[OBJECT]
        hidden = self.vlbert.embedding_LayerNorm(torch.cat([text, objects, end], dim=1))
        mask = torch.cat([text_mask, region_mask, torch.ones_like(words)], dim=1)
        return *compact(hidden, mask), words[:, 0]

    def _text(self, input_ids: Tensor, words: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return f32[B, S + 2, D] and i64[B, S + 2] of a question and an answer to be filled in."""
        places = torch.arange(input_ids.shape[1] + 2, device=input_ids.device)
        longer = torch.cat([input_ids, torch.zeros_like(input_ids[:, :1]).repeat(1, 2)], dim=1)
        separator = torch.gather(input_ids, 1, (words - 1).clamp(min=0))
        masked = torch.where(places == words, MASK_TOKEN, longer)
        ids = torch.where(places == words + 1, separator, masked)
        table = self.vlbert.token_type_embeddings.weight
        kinds = torch.where((places < words)[..., None], table[QUESTION], table[ANSWER])
        text = self.vlbert.word_embeddings(ids) + self.vlbert.position_embeddings(places) + kinds
        return text + self.vlbert.seen_by_text(image), (places < words + 2).to(input_ids.dtype)


class VlbertHead(nn.Module):
    """The answer at the place of [MASK]."""

    def __init__(self, model: Vlbert) -> None:
        super().__init__()
        self.final_mlp = model.final_mlp

    def forward(self, hidden: Tensor, place: Tensor) -> Tensor:
        """Return the logits f32[B, C] of f32[B, T, D] and i64[B]."""
        index = place[:, None, None].expand(-1, 1, hidden.shape[2])
        logits: Tensor = self.final_mlp(torch.gather(hidden, 1, index)[:, 0])
        return logits
