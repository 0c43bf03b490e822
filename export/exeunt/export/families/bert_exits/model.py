"""BERT with an exit after every layer, with the parameter names of official checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, cast

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from exeunt.export.families.hf.config import HfConfig, set_eps
from exeunt.export.families.uniter.heads import PooledHead
from exeunt.export.layers.bert import BertHead, BertLayer, BertPooler
from exeunt.export.layers.bert_embeddings import BertEmbeddings


class BertConfig(HfConfig):
    """`config.json` of a BERT checkpoint; Hugging Face's defaults."""

    model_type: str = "bert"
    hidden_size: PositiveInt = 768
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: PositiveFloat = 1e-12
    vocab_size: PositiveInt = 30522
    type_vocab_size: PositiveInt = 2
    max_position_embeddings: PositiveInt = 512
    position_embedding_type: Literal["absolute"] = "absolute"


class Bert(nn.Module):
    """Embeddings, layers and a pooler.

    Args:
        config: of the checkpoint.
        highways: exits that the encoder has.
    """

    def __init__(self, config: BertConfig, highways: list[BertHead]) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.embeddings = BertEmbeddings(
            config.vocab_size, config.max_position_embeddings, config.type_vocab_size, width
        )
        layers: list[nn.Module] = [
            BertLayer(width, heads, config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        ]
        parts = {"layer": nn.ModuleList(layers)}
        if highways:
            parts["highway"] = nn.ModuleList(highways)
        self.encoder = nn.ModuleDict(parts)
        self.pooler = BertPooler(width)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers, the first one first."""
        return tuple(cast(nn.ModuleList, self.encoder["layer"]))


class BertWithExits(nn.Module, ABC):
    """A BERT whose every layer has a head.

    Args:
        config: of the checkpoint.
        classes: rows of every classifier.
        highways: exits that are a part of the encoder.
    """

    def __init__(self, config: BertConfig, classes: int, highways: list[BertHead]) -> None:
        super().__init__()
        self.classes = classes
        self.bert = Bert(config, highways)

    @abstractmethod
    def heads(self) -> Mapping[int, nn.Module]:
        """Return the exit heads by layer."""

    @abstractmethod
    def final_head(self) -> nn.Module | None:
        """Return what answers when no exit has fired; None where that is the last exit head."""


class DeeBert(BertWithExits):
    """`DeeBertForSequenceClassification`: each exit has a pooler and a classifier of its own.

    There is one after the last layer too, and a final head beside it.

    Reference: DeeBERT, section 3
    """

    def __init__(self, config: BertConfig, classes: int) -> None:
        width, count = config.hidden_size, config.num_hidden_layers
        super().__init__(config, classes, [BertHead(width, classes) for _ in range(count)])
        self.classifier = nn.Linear(width, classes)
        set_eps(self, config.layer_norm_eps)

    def heads(self) -> Mapping[int, nn.Module]:
        """Return the exit heads by layer."""
        return dict(enumerate(cast(nn.ModuleList, self.bert.encoder["highway"]), 1))

    def final_head(self) -> nn.Module | None:
        """Return the head beside the exits."""
        return PooledHead(self.bert.pooler, self.classifier)


class Pabee(BertWithExits):
    """`BertForSequenceClassificationWithPabee`: a classifier a layer behind the one pooler.

    Reference: PABEE, section 3.2
    """

    def __init__(self, config: BertConfig, classes: int) -> None:
        super().__init__(config, classes, [])
        width, count = config.hidden_size, config.num_hidden_layers
        self.classifiers = nn.ModuleList([nn.Linear(width, classes) for _ in range(count)])
        set_eps(self, config.layer_norm_eps)

    def heads(self) -> Mapping[int, nn.Module]:
        """Return the exit heads by layer; the last one answers when no exit has fired."""
        pooler = self.bert.pooler
        return {
            layer: PooledHead(pooler, classifier)
            for layer, classifier in enumerate(self.classifiers, 1)
        }

    def final_head(self) -> nn.Module | None:
        """Return None: the last exit head is the final one."""
        return None


class BertEntry(nn.Module):
    """The state of a text, and its mask."""

    def __init__(self, embeddings: BertEmbeddings) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return f32[B, S, D] and f32[B, S] of i64[B, S] each; in the mask 0 is padding."""
        hidden = self.embeddings(input_ids, token_type_ids)
        return hidden, attention_mask.to(hidden.dtype)
