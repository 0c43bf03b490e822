"""Reading OFA checkpoints: the official format (fairseq's) and our own; nothing is unpickled.

Official: one `*.pt` with `cfg` and `model`. Our own: `config.json` (an `OfaConfig`) and
`model.safetensors` with the official keys. An `export.json` beside either overrides what a
checkpoint cannot say.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from exeunt.engine.bundle.manifest import TaskSpec
from exeunt.engine.bundle.tensors import Name
from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import WEIGHTS_FILE, invalid, read_json, read_weights
from exeunt.export.families.ofa.config import OfaConfig, config_of_cfg
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.families.ofa.positions import MOST_POSITIONS, token_bucket
from exeunt.export.families.weights import load_pickle

CONFIG_FILE = "config.json"
OPTIONS_FILE = "export.json"

# The same matrix under three names.
TIED = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
SHARED = "encoder.embed_tokens.weight"
# Keys that nothing here reads: buffers that follow from the config, and what serves the generation
# of image codes.
BUCKETS = ("encoder.token_rp_bucket", "decoder.token_rp_bucket")
UNUSED = (
    *BUCKETS,
    "encoder.version",
    "decoder.version",
    "encoder.image_rp_bucket",
    "decoder.image_rp_bucket",
    "decoder.image_position_idx",
    "decoder.embed_image_positions.",
    "decoder.image_pos_ln.",
    "decoder.code_layernorm_embedding.",
    "decoder.image_rel_pos_table_list.",
)
COUNTER = ".num_batches_tracked"  # of batch norms in training; frozen ones have none


class Task(TaskSpec):
    """A task as `export.json` writes it: the decoder answers all of them."""

    name: Name = "generate"
    kind: Literal["classification", "multiple_choice", "generation"] = "generation"
    lane: Literal["decoder"] = "decoder"


class ExportOptions(BaseModel):
    """What `export.json` may say.

    image_relative_bias, max_steps, min_tokens: see `OfaConfig`. tasks: what requests may ask for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_relative_bias: bool | None = None
    max_steps: PositiveInt | None = None
    min_tokens: NonNegativeInt | None = None
    tasks: tuple[Task, ...] = Field(default=(Task(),), min_length=1)


def read_options(source: Path) -> ExportOptions:
    """Return what `export.json` says; the defaults where there is none.

    Raises:
        ExportError: it is damaged, or has a key or a value that is not known.
    """
    file = source / OPTIONS_FILE
    if not file.is_file():
        return ExportOptions()
    try:
        return ExportOptions.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None


def load_model(source: Path) -> OfaModel:
    """Return the checkpoint's model, float32 and in eval mode.

    Args:
        source: a directory with either format.

    Raises:
        ExportError: the checkpoint is incomplete, damaged, pickled or contradicts itself; the
            message names the file.
    """
    options = read_options(source)
    if (source / CONFIG_FILE).is_file():
        file, weights = source / WEIGHTS_FILE, read_weights(source)
        config = _own_config(source / CONFIG_FILE)
    else:
        file = _only_pickle(source)
        config, weights = _read_official(file)
    overridden = options.model_dump(exclude={"tasks"}, exclude_none=True)
    config = config.model_copy(update=overridden)
    try:
        model = OfaModel(config)
    except ValueError as error:
        raise ExportError(f"{file} describes no model: {error}") from None
    _load(model, weights, file)
    return model.float().eval()


def save_model(model: OfaModel, directory: Path) -> None:
    """Write a model in our own format: `config.json` and `model.safetensors`.

    Args:
        model: trained.
        directory: made where it is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
        if name not in TIED
    }
    save_file(weights, directory / WEIGHTS_FILE)
    text = json.dumps(model.config.model_dump(mode="json"), indent=1)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _own_config(file: Path) -> OfaConfig:
    try:
        return OfaConfig.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None


def _only_pickle(source: Path) -> Path:
    found = sorted(source.glob("*.pt"))
    if len(found) != 1:
        names = [file.name for file in found] or "none"
        raise ExportError(
            f"{source} must hold one `*.pt` of an OFA checkpoint, or {CONFIG_FILE} and"
            f" {WEIGHTS_FILE}; found {names}"
        )
    return found[0]


def _read_official(file: Path) -> tuple[OfaConfig, dict[str, Tensor]]:
    content = load_pickle(file)
    cfg, weights = (
        content.get(name) if isinstance(content, dict) else None for name in ("cfg", "model")
    )
    if not isinstance(cfg, Mapping) or not isinstance(weights, dict):
        raise ExportError(
            f"{file} is no checkpoint of OFA: expected a dict with `cfg` (dicts or Namespaces) and"
            " `model` (tensors by name)"
        )
    try:
        return config_of_cfg(cfg), weights
    except ValidationError as error:
        raise invalid(file, error) from None
    except ValueError as error:
        raise ExportError(f"{file} is not for this family: {error}") from None


def _load(model: OfaModel, found: Mapping[str, Any], file: Path) -> None:
    """Load the weights strictly, after the keys that are tied, derived or of no use here."""
    if strange := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise ExportError(f"{file}: {strange[0]!r} in `model` is no tensor")
    _check_tied(found, file)
    _check_buckets(model.config, found, file)
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in found.items()
        if not name.startswith(UNUSED)
    }
    wanted = model.state_dict()
    for name in TIED:
        if SHARED in weights:
            weights.setdefault(name, weights[SHARED])
    for name in wanted:
        if name.endswith(COUNTER):
            weights.setdefault(name, wanted[name])
    if missing := sorted(set(wanted) - set(weights)):
        raise ExportError(
            f"{file} lacks {len(missing)} tensors, the first is {missing[0]!r}: its weights and"
            " its config must be of one checkpoint"
        )
    if unknown := sorted(set(weights) - set(wanted)):
        raise ExportError(
            f"{file} has {len(unknown)} tensors that its config does not speak of, the first is"
            f" {unknown[0]!r}: a part of the model that this family does not know"
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise ExportError(
                f"{file}: {name!r} has the shape {list(tensor.shape)}, its config says"
                f" {list(wanted[name].shape)}"
            )
    model.load_state_dict(weights)


def _check_tied(found: Mapping[str, Tensor], file: Path) -> None:
    for name in TIED:
        if name in found and SHARED in found and not torch.equal(found[name], found[SHARED]):
            raise ExportError(
                f"{file}: {name!r} differs from {SHARED!r}: this family shares all embeddings"
            )


def _check_buckets(config: OfaConfig, found: Mapping[str, Tensor], file: Path) -> None:
    places = torch.arange(MOST_POSITIONS)
    own = token_bucket(places[:, None] - places[None, :], config.token_bucket_size)
    for name in BUCKETS:
        if name in found and not torch.equal(found[name], own):
            raise ExportError(
                f"{file}: {name!r} is not made as token_bucket_size {config.token_bucket_size}"
                " says: text positions would get other biases than in training"
            )
