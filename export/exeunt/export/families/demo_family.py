"""Cutting a demo checkpoint: one `joint` lane with an exit head after each layer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from exeunt.engine.bundle.inputs import ImageSpec, InputsSpec, TextSpec
from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.engine.bundle.tensors import StateSpec, TensorSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import WEIGHTS_FILE, invalid, read_json, read_weights
from exeunt.export.families.demo import DemoConfig, DemoModel
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options
from exeunt.export.plan import BATCH, BundlePlan, Port, SegmentPlan, TensorMap

LANE = "joint"
# Texts padded to a multiple of four share batches without the cost of padding to the longest.
PAD_TO_MULTIPLE = 4
# Sizes to trace with: every one different, so that the exporter does not tie two axes together.
EXAMPLE_BATCH, EXAMPLE_WORDS = 3, 7

_LABELS = TypeAdapter(tuple[Annotated[str, Field(min_length=1)], ...])


class _Preprocessor(ImageSpec):
    """`preprocessor.json`: the engine's own settings, and the colour mode, which is always RGB."""

    mode: Literal["RGB"] = "RGB"


class _Entry(nn.Module):
    """The embedding of both modalities, as a module that can be traced."""

    def __init__(self, model: DemoModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.model.embed(pixel_values, input_ids, attention_mask)


class DemoFamily:
    """The embedded demo model; see `exeunt.export.families.demo`."""

    name = "demo"
    keys = ("stem.project.weight", "image_positions", "layers.*.qkv.weight", "heads.*.norm.weight")

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is a demo model."""
        try:
            config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(config, dict) and config.get("family") == self.name

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options)
        model = _load(source)
        config = model.config
        labels = _read_labels(source, config)
        sequence = 1 + config.image_tokens

        def whole(tensors: Mapping[str, Tensor]) -> TensorMap:
            exits = model(*(tensors[name] for name in _tensors(config)))
            return {_head(layer): logits for layer, logits in enumerate(exits, 1)}

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, generator, batch, length)

        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=(TaskSpec(name="answer", kind="classification", lane=LANE, labels=labels),),
            tensors=_tensors(config),
            inputs=_inputs(source, config),
            lanes=(_lane(config),),
            segments=_segments(model, sequence),
            whole=whole,
            draw=draw,
            lengths=tuple(sorted({1, PAD_TO_MULTIPLE, config.max_tokens})),
            files={"tokenizer.json": source / "tokenizer.json"},
        )


def _load(source: Path) -> DemoModel:
    file = source / "config.json"
    try:
        config = DemoConfig.model_validate(read_json(file))
        model = DemoModel(config)
    except ValidationError as error:
        raise invalid(file, error) from None
    except ValueError as error:
        raise ExportError(f"{file} describes no model: {error}") from None
    weights = read_weights(source)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ExportError(
            f"{source / WEIGHTS_FILE} does not fit {file}: {first}; both must be of one checkpoint"
        ) from None
    return model.float().eval()


def _read_labels(source: Path, config: DemoConfig) -> tuple[str, ...]:
    file = source / "labels.json"
    try:
        labels = _LABELS.validate_python(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None
    if len(labels) != config.labels:
        raise ExportError(f"{file} has {len(labels)} labels, config.json says {config.labels}")
    return labels


def _inputs(source: Path, config: DemoConfig) -> InputsSpec:
    file = source / "preprocessor.json"
    try:
        settings = _Preprocessor.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None
    image = ImageSpec(**settings.model_dump(exclude={"mode"}))
    if image.size != (config.image_size, config.image_size):
        raise ExportError(
            f"{file} resizes to {image.size}, config.json says {config.image_size} pixels a side"
        )
    text = TextSpec(max_tokens=config.max_tokens, pad_to_multiple=PAD_TO_MULTIPLE)
    return InputsSpec(image=image, text=text)


def _tensors(config: DemoConfig) -> dict[str, TensorSpec]:
    size = config.image_size
    return {
        "pixel_values": TensorSpec(dtype="float32", shape=(3, size, size)),
        "input_ids": TensorSpec(dtype="int64", shape=("S",)),
        "attention_mask": TensorSpec(dtype="int64", shape=("S",)),
    }


def _lane(config: DemoConfig) -> LaneSpec:
    layers = range(1, config.layers + 1)
    return LaneSpec(
        name=LANE,
        state={
            "hidden": StateSpec(role="carried", dtype="float32", shape=("T", config.hidden)),
            "mask": StateSpec(role="constant", dtype="float32", shape=("T",)),
        },
        entry="embed",
        layers=tuple(_layer(layer) for layer in layers),
        heads={layer: _head(layer) for layer in layers},
        classes=config.labels,
        scores=("entropy", "patience", "cosine", "confidence", "margin"),
        compare={"hidden": "mask"},
    )


def _layer(layer: int) -> str:
    return f"layer.{layer:02d}"


def _head(layer: int) -> str:
    return f"head.{layer:02d}"


def _segments(model: DemoModel, sequence: int) -> tuple[SegmentPlan, ...]:
    config = model.config
    generator = torch.Generator().manual_seed(0)
    raw = _draw(config, generator, EXAMPLE_BATCH, EXAMPLE_WORDS)
    width = config.hidden
    hidden = torch.randn(EXAMPLE_BATCH, sequence + EXAMPLE_WORDS, width, generator=generator)
    mask = torch.ones(hidden.shape[:2])
    state = Port("hidden", "hidden", (BATCH, "T", width))
    valid = Port("mask", "mask", (BATCH, "T"))
    written = Port("next_hidden", "hidden", (BATCH, "T", width))
    entry = SegmentPlan(
        name="embed",
        kind="entry",
        module=_Entry(model),
        inputs=tuple(
            Port(name, f"input.{name}", (BATCH, *spec.shape))
            for name, spec in _tensors(config).items()
        ),
        outputs=(state, valid),
        examples=tuple(raw.values()),
    )
    layers = [
        SegmentPlan(_layer(place), "layer", module, (state, valid), (written,), (hidden, mask))
        for place, module in enumerate(model.layers, 1)
    ]
    logits = Port("logits", "head.logits", (BATCH, config.labels))
    heads = [
        SegmentPlan(_head(place), "head", module, (state,), (logits,), (hidden,))
        for place, module in enumerate(model.heads, 1)
    ]
    return (entry, *layers, *heads)


def _draw(config: DemoConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    """Return random raw tensors of `batch` samples with `length` words, some of them padding."""
    size = config.image_size
    valid = torch.randint(1, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length)[None, :] < valid).to(torch.int64)
    ids = torch.randint(0, config.vocab, (batch, length), generator=generator)
    return {
        "pixel_values": torch.rand(batch, 3, size, size, generator=generator) * 2 - 1,
        "input_ids": ids * mask,
        "attention_mask": mask,
    }
