"""Oscar's classifiers as a plan: VQA and its like, and image-text matching."""

import torch

from exeunt.engine.bundle.inputs import InputsSpec, RegionsSpec, TextSpec
from exeunt.engine.bundle.manifest import BucketSpec, TaskSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_REGIONS,
    EXAMPLE_WORDS,
    PAD_TO_MULTIPLE,
    text_buckets,
    text_lengths,
)
from exeunt.export.families.joint import LANE, JointModel
from exeunt.export.families.options import (
    TOKENIZER_FILE,
    SourceOptions,
    chosen_task,
    read_labels,
    tokenizer_file,
)
from exeunt.export.families.oscar.config import BOX_COLUMNS, MAX_REGIONS, OscarConfig
from exeunt.export.families.oscar.model import OscarEntry, OscarForClassification
from exeunt.export.families.regions import (
    REGIONS,
    draw_regions,
    draw_text,
    region_tensors,
    text_tensors,
    type_tensors,
)
from exeunt.export.families.state_dict import fit, required
from exeunt.export.families.weights import Weights
from exeunt.export.plan import BundlePlan, TensorMap

# The last matrix of each kind of classifier, whose rows are the classes.
CLASSIFIERS = {"linear": "classifier.weight", "mlp": "classifier.2.weight"}
UNUSED = ("cls.*",)  # of pretraining
MATCHES = ("no match", "match")


def plan_classification(
    family: str, config: OscarConfig, weights: Weights, options: SourceOptions
) -> BundlePlan:
    """Return the plan of a checkpoint that answers from the pooled first token.

    Raises:
        ExportError: an option does not fit; `MisfitError` where the weights do not.
    """
    model = load(config, weights)
    joint = _joint(model, config)
    fitting = ["itm", "vqa"] if model.classes == len(MATCHES) else ["vqa"]
    task = chosen_task(family, options, fitting)
    labels = read_labels(options, model.classes) or (MATCHES if task == "itm" else ())
    tokenizer = tokenizer_file(options, config.vocab_size)

    def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
        return _draw(config, generator, batch, length)

    words = config.max_position_embeddings
    example = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, min(EXAMPLE_WORDS, words))
    return BundlePlan(
        family=family,
        name=family,
        tasks=(
            TaskSpec(
                name=task,
                kind="matching" if task == "itm" else "classification",
                lane=LANE,
                labels=labels,
            ),
        ),
        tensors=dict(joint.tensors),
        inputs=inputs(config, words, with_text=tokenizer is not None),
        lanes=(joint.lane(),),
        segments=joint.segments(example),
        whole=joint.whole,
        draw=draw,
        lengths=text_lengths(words),
        files={TOKENIZER_FILE: tokenizer} if tokenizer else {},
        buckets={**text_buckets(words), **region_buckets()},
    )


def load(config: OscarConfig, weights: Weights) -> OscarForClassification:
    """Return the model in eval mode, with the checkpoint's weights.

    Raises:
        ExportError: the config describes no model; `MisfitError` where the weights are another's.
    """
    classes = required(weights, CLASSIFIERS[config.classifier], axes=2).shape[0]
    try:
        model = OscarForClassification(config, classes)
    except ValueError as error:
        raise ExportError(f"the config beside {weights.file} describes no model: {error}") from None
    fit(model, weights, unused=UNUSED)
    return model.eval()


def inputs(config: OscarConfig, words: int, *, with_text: bool) -> InputsSpec:
    """Return how a text, its object tags and regions become raw tensors."""
    regions = RegionsSpec(
        feature_size=config.features, box_columns=BOX_COLUMNS, max_regions=MAX_REGIONS
    )
    text = TextSpec(types="token_type_ids", max_tokens=words, pad_to_multiple=PAD_TO_MULTIPLE)
    return InputsSpec(text=text if with_text else None, regions=regions)


def region_buckets() -> dict[str, BucketSpec]:
    """Return how the regions of an image are padded."""
    return {REGIONS: BucketSpec(multiple=PAD_TO_MULTIPLE, most=MAX_REGIONS)}


def _joint(model: OscarForClassification, config: OscarConfig) -> JointModel:
    return JointModel(
        tensors=text_tensors() | type_tensors() | region_tensors(config.features, BOX_COLUMNS),
        entry=OscarEntry(model.bert),
        layers=model.bert.layers,
        width=config.hidden_size,
        classes=model.classes,
        final_head=model.head(),
    )


def _draw(config: OscarConfig, generator: torch.Generator, batch: int, words: int) -> TensorMap:
    """Return random raw tensors of `batch` samples, some of their words and regions padding."""
    kinds = torch.randint(0, config.type_vocab_size, (batch, words), generator=generator)
    return {
        **draw_text(generator, (batch,), words, config.vocab_size),
        "token_type_ids": kinds,
        **draw_regions(generator, (batch,), EXAMPLE_REGIONS, config.features, BOX_COLUMNS),
    }
