"""Cutting a BERT checkpoint with exits, as DeeBERT's or PABEE's official code writes it.

DeeBERT leaves when the entropy of an exit is under a threshold, PABEE when so many exits in a row
have answered as the one before them (criterion `patience`). PABEE's official code leaves only when
all rows of a batch agree; here every row leaves on its own, as at a batch of one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import TaskSpec
from exeunt.export.families.bert_exits.model import (
    BertConfig,
    BertEntry,
    BertWithExits,
    DeeBert,
    Pabee,
)
from exeunt.export.families.hf.config import (
    find_labels,
    find_task,
    find_tokenizer,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_WORDS,
    text_buckets,
    text_lengths,
    text_spec,
)
from exeunt.export.families.joint import LANE, JointModel
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options
from exeunt.export.families.regions import draw_text, text_tensors, type_tensors
from exeunt.export.families.state_dict import required
from exeunt.export.families.weights import Weights
from exeunt.export.plan import BundlePlan, TensorMap

BUFFERS = ("bert.embeddings.position_ids",)  # of older files
TASK = "classification"


@dataclass(frozen=True)
class BertExitsFamily:
    """A kind of BERT with exits.

    name: of the family. architecture: the class that its official code saves. keys: see `Family`.
    classifier: a key whose rows are the classes. make: makes the model of so many classes.
    """

    name: str
    architecture: str
    keys: tuple[str, ...]
    classifier: str
    make: Callable[[BertConfig, int], BertWithExits]

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` names the official class."""
        named = peek(source).get("architectures")
        return isinstance(named, list) and self.architecture in named

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("labels", "tokenizer"))
        config = read_config(source, BertConfig)
        if config.architectures:  # the code that came with DeeBERT's paper writes none
            find_task(source, config, {self.architecture: TASK})

        def make(weights: Weights) -> BertWithExits:
            return self.make(config, required(weights, self.classifier, axes=2).shape[0])

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, generator, batch, length)

        model = load(source, make, unused=BUFFERS)
        joint = _joint(model, config)
        files = find_tokenizer(source, options, config.vocab_size)
        positions = config.max_position_embeddings
        text = text_spec(positions).model_copy(update={"types": "token_type_ids"})
        length = min(EXAMPLE_WORDS, positions)
        labels = find_labels(source, config, options, joint.classes)
        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=(TaskSpec(name=TASK, kind="classification", lane=LANE, labels=labels),),
            tensors=dict(joint.tensors),
            inputs=InputsSpec(text=text) if files else InputsSpec(),
            lanes=(joint.lane(),),
            segments=joint.segments(draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, length)),
            whole=joint.whole,
            draw=draw,
            lengths=text_lengths(positions),
            files=files,
            buckets=text_buckets(positions),
        )


DEEBERT = BertExitsFamily(
    "deebert",
    "DeeBertForSequenceClassification",
    keys=(
        "bert.encoder.highway.*.pooler.dense.weight",
        "bert.encoder.highway.*.classifier.weight",
    ),
    classifier="classifier.weight",
    make=DeeBert,
)
PABEE = BertExitsFamily(
    "pabee",
    "BertForSequenceClassificationWithPabee",
    keys=("bert.pooler.dense.weight", "classifiers.*.weight", "classifiers.*.bias"),
    classifier="classifiers.0.weight",
    make=Pabee,
)


def _joint(model: BertWithExits, config: BertConfig) -> JointModel:
    return JointModel(
        tensors=text_tensors() | type_tensors(),
        entry=BertEntry(model.bert.embeddings),
        layers=model.bert.layers,
        width=config.hidden_size,
        classes=model.classes,
        heads=model.heads(),
        final_head=model.final_head(),
    )


def _draw(config: BertConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    """Return random texts of `batch` samples, some of their tokens padding."""
    text = draw_text(generator, (batch,), length, config.vocab_size)
    kinds = torch.randint(0, config.type_vocab_size, (batch, length), generator=generator)
    return text | {"token_type_ids": kinds * text["attention_mask"]}
