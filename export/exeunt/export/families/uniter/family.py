"""Cutting a UNITER checkpoint: one `joint` lane, with exits where UNITER-MSD has trained some."""

import json
from pathlib import Path

import torch

from exeunt.engine.bundle.inputs import InputsSpec, RegionsSpec, TextSpec
from exeunt.engine.bundle.manifest import BucketSpec, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.joint import LANE, JointModel
from exeunt.export.families.options import (
    DEFAULTS,
    TOKENIZER_FILE,
    SourceOptions,
    check_parity,
    chosen_task,
    read_labels,
    tokenizer_file,
)
from exeunt.export.families.regions import (
    REGIONS,
    WORDS,
    draw_regions,
    draw_text,
    region_tensors,
    text_tensors,
    type_tensors,
)
from exeunt.export.families.state_dict import MisfitError, fit
from exeunt.export.families.uniter.config import UniterSizes, read_sizes
from exeunt.export.families.uniter.heads import TASKS, UniterTask, fitting_tasks
from exeunt.export.families.uniter.model import UniterEntry
from exeunt.export.families.uniter.tasks import UniterForTask
from exeunt.export.families.weights import Weights, read_state_dict
from exeunt.export.plan import BundlePlan, TensorMap

PAD_TO_MULTIPLE = 4  # of words and of regions
EXAMPLE_BATCH, EXAMPLE_WORDS, EXAMPLE_REGIONS = 3, 7, 9  # no two sizes alike
FAMILY = "uniter"
EXIT = "uniter.encoder.EElayer."
REINIT = "reinit-poolers"
PARITY = {
    REINIT: "every exit head takes the final pooler in place of its own, as UNITER-MSD's inference"
    " scripts for VQA and VE do"
}
# What official files hold for pretraining, and what their inference never reads.
UNUSED = (
    "uniter.img_embeddings.mask_embedding.*",
    "cls.*",
    "feat_regress.*",
    "region_classifier.*",
    f"{EXIT}*.classifier.*",
)


KEYS = (
    "uniter.embeddings.word_embeddings.weight",
    "uniter.img_embeddings.img_linear.weight",
    "uniter.img_embeddings.pos_layer_norm.weight",
    "uniter.encoder.layer.*.attention.self.query.weight",
)


class UniterFamily:
    """UNITER, and those who share its format: VILLA adds nothing, UNITER-MSD exits.

    Args:
        name: of the family. Files of all of them are recognised as UNITER's, with what they hold.
        exits: whether a checkpoint without exits is refused.
    """

    def __init__(self, name: str = FAMILY, *, exits: bool = False) -> None:
        self.name = name
        self.keys = (*KEYS, f"{EXIT}*.pooler.dense.weight") if exits else KEYS
        self._exits = exits

    def detect(self, source: Path) -> bool:
        """Return whether there is a `log/model.json`, as only official code writes it."""
        try:
            config = json.loads((source / "log/model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        named = self.name == FAMILY
        return named and isinstance(config, dict) and "num_hidden_layers" in config

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_parity(self.name, options, PARITY)
        weights = read_state_dict(source)
        if self._exits and not has_exits(weights):
            raise MisfitError(
                f"{weights.file} has no exits: expected {EXIT}0.*", tuple(weights.tensors)
            )
        sizes = read_sizes(source, weights)
        name = _task(self.name, weights, options)
        model = _load(sizes, weights, name, options)
        task, joint = TASKS[name], _joint(model, sizes, name)
        tokenizer = tokenizer_file(options, sizes.vocabulary, spare=task.spare)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            regions = max(1, round(length * sizes.regions / sizes.words))
            return _draw(sizes, task, generator, batch, length, regions)

        example = _draw(
            sizes,
            task,
            torch.Generator().manual_seed(0),
            EXAMPLE_BATCH,
            min(EXAMPLE_WORDS, sizes.words),
            min(EXAMPLE_REGIONS, sizes.regions),
        )
        labels = read_labels(options, model.classes)
        if not labels and len(task.labels) == model.classes:
            labels = task.labels
        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=(TaskSpec(name=name, kind=task.kind, lane=LANE, labels=labels),),
            tensors=dict(joint.tensors),
            inputs=_inputs(sizes, tokenizer),
            lanes=(joint.lane(),),
            segments=joint.segments(example),
            whole=joint.whole,
            draw=draw,
            lengths=tuple(sorted({1, min(PAD_TO_MULTIPLE, sizes.words), min(20, sizes.words)})),
            files={TOKENIZER_FILE: tokenizer} if tokenizer else {},
            buckets={
                WORDS: BucketSpec(multiple=PAD_TO_MULTIPLE, most=sizes.words),
                REGIONS: BucketSpec(multiple=PAD_TO_MULTIPLE, most=sizes.regions),
            },
        )


def has_exits(weights: Weights) -> bool:
    """Return whether a checkpoint has exit heads, as UNITER-MSD writes them."""
    return any(name.startswith(EXIT) for name in weights.tensors)


def _task(family: str, weights: Weights, options: SourceOptions) -> str:
    fitting = fitting_tasks(weights)
    if not fitting:
        heads = ", ".join(sorted({task.output for task in TASKS.values()}))
        raise MisfitError(
            f"{weights.file} has no head of UNITER's: expected one of {heads}; a pretrained encoder"
            " answers nothing before it is fine-tuned",
            tuple(weights.tensors),
        )
    return chosen_task(family, options, fitting)


def _load(sizes: UniterSizes, weights: Weights, task: str, options: SourceOptions) -> UniterForTask:
    """Return the model in eval mode, with the checkpoint's weights."""
    classes = int(weights.tensors[TASKS[task].output].shape[0])
    try:
        model = UniterForTask(sizes, task, classes, exits=has_exits(weights))
    except ValueError as error:
        raise ExportError(f"{weights.file} describes no model: {error}") from None
    fit(model, weights, unused=(*UNUSED, *model.unread))
    if REINIT in options.parity:
        model.reinit_poolers()
    return model.eval()


def _joint(model: UniterForTask, sizes: UniterSizes, name: str) -> JointModel:
    task, uniter = TASKS[name], model.uniter
    return JointModel(
        tensors=_tensors(sizes, task),
        entry=UniterEntry(uniter, images=task.rows if name == "nlvr2" else 1),
        layers=tuple(uniter.encoder.layer),
        width=sizes.config.hidden_size,
        classes=task.rows if task.kind == "multiple_choice" else model.classes,
        heads=model.exits(),
        final_head=model.head(),
        reads=("hidden", "mask") if name == "nlvr2" else ("hidden",),
        rows=task.rows,
    )


def _tensors(sizes: UniterSizes, task: UniterTask) -> dict[str, TensorSpec]:
    """Return the raw tensors: each image of a pair has its regions, each choice its text."""
    choices = task.kind == "multiple_choice"
    regions = region_tensors(
        sizes.features, sizes.box_columns, per_row=task.rows > 1 and not choices
    )
    kinds = type_tensors(per_row=choices) if task.types else {}
    return text_tensors(per_row=choices) | regions | kinds


def _inputs(sizes: UniterSizes, tokenizer: Path | None) -> InputsSpec:
    regions = RegionsSpec(
        feature_size=sizes.features,
        box_columns=sizes.box_columns,
        max_regions=sizes.regions,
    )
    text = TextSpec(max_tokens=sizes.words, pad_to_multiple=PAD_TO_MULTIPLE)
    return InputsSpec(text=text if tokenizer else None, regions=regions)


def _draw(
    sizes: UniterSizes,
    task: UniterTask,
    generator: torch.Generator,
    batch: int,
    words: int,
    regions: int,
) -> TensorMap:
    """Return random raw tensors of `batch` samples, some of their words and regions padding."""
    rows, alone = (batch, task.rows), (batch,)
    choices = task.kind == "multiple_choice"
    pair = task.rows > 1 and not choices
    text = draw_text(generator, rows if choices else alone, words, sizes.vocabulary)
    if task.types:
        shape = text["input_ids"].shape
        text["token_type_ids"] = torch.randint(0, sizes.types, shape, generator=generator)
    seen = draw_regions(
        generator, rows if pair else alone, regions, sizes.features, sizes.box_columns
    )
    return text | seen
