"""Cutting an X-VLM or EfficientVLM checkpoint, for retrieval, NLVR2 or VQA."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from exeunt.engine.bundle.inputs import ImageSpec, InputsSpec
from exeunt.engine.bundle.manifest import LaneSpec, LoopSpec, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.hf.inputs import (
    EXAMPLE_WORDS,
    text_buckets,
    text_lengths,
    text_spec,
)
from exeunt.export.families.hf.matching import MATCH, SIMILARITY
from exeunt.export.families.options import (
    DEFAULTS,
    TOKENIZER_FILE,
    SourceOptions,
    check_parity,
    chosen_task,
    read_labels,
    tokenizer_file,
)
from exeunt.export.families.regions import WORDS, draw_text, text_tensors
from exeunt.export.families.state_dict import MisfitError, fit, required
from exeunt.export.families.weights import Weights, read_state_dict
from exeunt.export.families.xvlm.config import (
    CONFIG_FILE,
    XvlmConfig,
    looks_like_xvlm,
    read_config,
)
from exeunt.export.families.xvlm.cutting import Segments
from exeunt.export.families.xvlm.decoder_plan import (
    DECODER,
    HEAD,
    MAX_STEPS,
    cut_decoder,
    decoder_lane,
)
from exeunt.export.families.xvlm.lanes import ANSWER, FUSION, cut_encoders, encoder_lanes
from exeunt.export.families.xvlm.model import ITC, ITM, NLVR2, VQA, XvlmModel
from exeunt.export.families.xvlm.pruning import L0, has_masks, read_masks
from exeunt.export.parity.loop import loop_tokens
from exeunt.export.plan import BundlePlan, TensorMap

FAMILY, PRUNED = "xvlm", "efficientvlm"
INTENDED_ROWS = "intended-mask-rows"
PARITY = {
    INTENDED_ROWS: "cross layers are pruned with the rows of the L0 masks that are meant for them,"
    " not with those that official code takes in training and inference (the text's)"
}
# The matrix by which a checkpoint's task is told, and its official labels.
OUTPUTS = {
    VQA: "text_decoder.cls.predictions.transform.dense.weight",
    NLVR2: "cls_head.3.weight",
    ITM: "itm_head.3.weight",
}
LABELS = {NLVR2: ("False", "True"), ITM: ("no match", "match")}
# What official files hold for training, or twice.
UNUSED = ("*.position_ids", "temp", f"{L0}*", "text_decoder.cls.predictions.bias")
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PLACES = {"[CLS]": 101, "[SEP]": 102, "[PAD]": 0}  # in BERT's own vocabularies
SPARE_WORDS = 64  # embeddings are often padded to a round number


class XvlmFamily:
    """X-VLM, and EfficientVLM, whose files are recognised by the L0 masks that they hold.

    Args:
        name: of the family.
        pruned: whether a checkpoint without L0 masks is refused.
    """

    def __init__(self, name: str = FAMILY, *, pruned: bool = False) -> None:
        self.name = name
        own = (
            "vision_encoder.pre_layrnorm.weight",
            "vision_encoder.patch_embed.weight",
            "text_encoder.encoder.layer.*.crossattention.self.query.weight",
        )
        self.keys = (*own, f"{L0}vision_head_loga") if pruned else own
        self._pruned = pruned

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` names X-VLM's other configs."""
        return self.name == FAMILY and looks_like_xvlm(source)

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        config, weights = read_config(source), read_state_dict(source)
        pruned = has_masks(weights)
        if self._pruned and not pruned:
            raise MisfitError(f"{weights.file} has no L0 masks, {L0}*", tuple(weights.tensors))
        family = PRUNED if pruned else self.name
        check_parity(family, options, PARITY if pruned else {})
        tasks = _tasks(family, weights, options)
        model = load_model(source, config, weights, tasks[0], options)
        tokenizer = tokenizer_file(options, config.text.vocab_size, spare=SPARE_WORDS)
        tensors, lanes = _tensors(config, model.images), encoder_lanes(model, tasks)
        if VQA in tasks:
            lanes += (decoder_lane(model, _loop(config, tokenizer)),)
        segments = Segments(tensors, lanes, {WORDS: EXAMPLE_WORDS})
        cut_encoders(segments, model, lanes)
        if VQA in tasks:
            cut_decoder(segments, model, lanes[-1])

        def whole(given: Mapping[str, Tensor]) -> TensorMap:
            return _whole(model, lanes, tasks, given)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, model.images, generator, batch, length)

        positions = config.text.max_position_embeddings
        return BundlePlan(
            family=family,
            name=f"{family}-{tasks[0]}",
            tasks=tuple(_task(task, model, options) for task in tasks),
            tensors=tensors,
            inputs=_inputs(config, model.images, tokenizer),
            lanes=lanes,
            segments=tuple(segments.plans),
            whole=whole,
            draw=draw,
            lengths=text_lengths(positions),
            files={TOKENIZER_FILE: tokenizer} if tokenizer else {},
            buckets=text_buckets(positions),
        )


def load_model(
    source: Path, config: XvlmConfig, weights: Weights, task: str, options: SourceOptions
) -> XvlmModel:
    """Return the model in eval mode, pruned where the checkpoint says so.

    Args:
        source: the checkpoint.
        config: of it.
        weights: of it.
        task: that it was trained for.
        options: the parity that was asked for.

    Raises:
        MisfitError: the weights are not this model's.
        ExportError: the config describes no model.
    """
    weights = _with_bias(weights)
    retrieval = task in (ITM, ITC)
    output = OUTPUTS[ITM] if retrieval else OUTPUTS[task]
    space = required(weights, "vision_proj.weight", axes=2).shape[0] if retrieval else 0
    try:
        model = XvlmModel(config, task, required(weights, output, axes=2).shape[0], space)
    except ValueError as error:
        raise ExportError(f"{source / CONFIG_FILE} describes no model: {error}") from None
    fit(model, weights, unused=UNUSED)
    if has_masks(weights):
        text = config.text
        layers = {
            "vision": config.vision.num_hidden_layers,
            "text": text.fusion_layer,
            "cross": len(model.text_encoder.cross_layers),
            **({"decoder": len(model.text_decoder.layers)} if task == VQA else {}),
        }
        # Official code sizes the vision encoder's masks by the text's config, too.
        sizes = text.num_attention_heads, text.intermediate_size
        intended = INTENDED_ROWS in options.parity
        model.prune(read_masks(weights, layers, *sizes, intended_rows=intended))
    return model.eval()


def _with_bias(weights: Weights) -> Weights:
    """Return weights whose decoder has a bias where official code ties it to another key."""
    name, tied = (f"text_decoder.cls.predictions.{key}" for key in ("decoder.bias", "bias"))
    if name in weights.tensors or tied not in weights.tensors:
        return weights
    return replace(weights, tensors={**weights.tensors, name: weights.tensors[tied]})


def _tasks(family: str, weights: Weights, options: SourceOptions) -> tuple[str, ...]:
    """Return the tasks of the checkpoint's head, or the one of them that was asked for."""
    fitting = [task for task, output in OUTPUTS.items() if output in weights.tensors][:1]
    if not fitting:
        raise MisfitError(
            f"{weights.file} has no head of X-VLM's: expected one of {', '.join(OUTPUTS.values())}",
            tuple(weights.tensors),
        )
    fitting += [ITC] if fitting == [ITM] else []
    return (chosen_task(family, options, fitting),) if options.task else tuple(fitting)


def _task(task: str, model: XvlmModel, options: SourceOptions) -> TaskSpec:
    if task == VQA:
        if options.labels:
            raise ExportError(
                "X-VLM generates its answers to vqa, and ranking a list of them is not supported"
                " yet: leave --labels out"
            )
        return TaskSpec(name=task, kind="generation", lane=DECODER)
    if task == ITC:
        return TaskSpec(name=task, kind="matching", lane=MATCH)
    classes = model.classes
    labels = read_labels(options, classes)
    if not labels and len(LABELS[task]) == classes:
        labels = LABELS[task]
    kind = "matching" if task == ITM else "classification"
    return TaskSpec.model_validate({"name": task, "kind": kind, "lane": FUSION, "labels": labels})


def _tensors(config: XvlmConfig, images: int) -> dict[str, TensorSpec]:
    size = config.image_size
    pixels = TensorSpec(
        dtype="float32", shape=(3, size, size), per="row" if images > 1 else "sample"
    )
    return {"pixel_values": pixels, **text_tensors()}


def _inputs(config: XvlmConfig, images: int, tokenizer: Path | None) -> InputsSpec:
    """Return how images and text become tensors; without a tokenizer only raw ones are taken."""
    if tokenizer is None:
        return InputsSpec()
    size = (config.image_size, config.image_size)
    return InputsSpec(
        image=ImageSpec(size=size, mean=MEAN, std=STD, count=images),
        text=text_spec(config.text.max_position_embeddings),
    )


def _loop(config: XvlmConfig, tokenizer: Path | None) -> LoopSpec:
    """Return how answers begin and end: with [CLS] and [SEP], wherever the vocabulary has them."""
    places = dict(PLACES)
    if tokenizer is not None:
        known = Tokenizer.from_file(str(tokenizer))
        for word in PLACES:
            place = known.token_to_id(word)
            if place is None:
                raise ExportError(f"{tokenizer} has no word {word!r}: expected a tokenizer of BERT")
            places[word] = place
    start, end, pad = places.values()
    steps = min(MAX_STEPS, config.text.max_position_embeddings)
    return LoopSpec(start=start, eos=end, pad=pad, max_steps=steps, never=(pad,), min_tokens=1)


def _whole(
    model: XvlmModel,
    lanes: tuple[LaneSpec, ...],
    tasks: tuple[str, ...],
    given: Mapping[str, Tensor],
) -> TensorMap:
    """Return what each head answers, by its segment's name."""
    names = {ITM: ANSWER, NLVR2: ANSWER, ITC: SIMILARITY}
    if VQA not in tasks:
        return {names[task]: model(given, task) for task in tasks}
    loop = lanes[-1].loop
    assert loop is not None, "the decoder loops"
    question = model(given, VQA)
    tokens = torch.tensor(loop_tokens(loop, model.config.text.vocab_size))
    mask = given["attention_mask"].to(torch.float32)
    logits = model.text_decoder(tokens.expand(len(question), -1), question, mask)
    return {HEAD: logits[:, -1]}


def _draw(
    config: XvlmConfig, images: int, generator: torch.Generator, batch: int, length: int
) -> TensorMap:
    size = config.image_size
    rows = (batch, images) if images > 1 else (batch,)
    return {
        "pixel_values": torch.randn(*rows, 3, size, size, generator=generator),
        **draw_text(generator, (batch,), length, config.text.vocab_size),
    }
