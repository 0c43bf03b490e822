"""The configs of an X-VLM checkpoint: the task's, the vision encoder's and the text encoder's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.layers.vit import Activation

CONFIG_FILE = "config.json"  # the task's official YAML, as JSON

Config = TypeVar("Config", bound="_Config")


class _Config(BaseModel):
    """Keys that inference reads; others are for training."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskConfig(_Config):
    """`config.json`.

    image_res: pixels a side. vision_config, text_config: the other files. text_num_hidden_layers:
    in place of the text config's number, as EfficientVLM has it.
    """

    image_res: PositiveInt
    use_clip_vit: bool = False
    use_swin: bool = False
    use_roberta: bool = False
    vision_config: str
    text_config: str
    text_num_hidden_layers: PositiveInt | None = None
    num_dec_layers: PositiveInt | None = None


class VisionConfig(_Config):
    """Sizes of the vision encoder."""

    vision_width: PositiveInt
    patch_size: PositiveInt
    hidden_act: Activation = "quick_gelu"
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt


class TextConfig(_Config):
    """Sizes of the text encoder. fusion_layer: layers before the first that looks at the image."""

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    hidden_act: Literal["gelu"] = "gelu"
    max_position_embeddings: PositiveInt
    type_vocab_size: PositiveInt = 2
    layer_norm_eps: PositiveFloat = 1e-12
    fusion_layer: PositiveInt


class XvlmConfig(BaseModel):
    """Everything that the model is built from. image_size: pixels a side."""

    model_config = ConfigDict(frozen=True)

    image_size: PositiveInt
    vision: VisionConfig
    text: TextConfig
    cross_layers: PositiveInt
    decoder_layers: PositiveInt | None

    @property
    def patches(self) -> int:
        """Tokens of an image, [CLS] included."""
        return 1 + (self.image_size // self.vision.patch_size) ** 2


def looks_like_xvlm(source: Path) -> bool:
    """Return whether `config.json` is a task's of X-VLM; never raises."""
    try:
        content = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    named = {"image_res", "use_clip_vit", "vision_config", "text_config"}
    return isinstance(content, Mapping) and named <= set(content)


def read_config(source: Path) -> XvlmConfig:
    """Return the sizes of the checkpoint at `source`.

    Raises:
        ExportError: a file is missing or not valid, or describes a model that is not supported.
    """
    task = _read(source / CONFIG_FILE, TaskConfig)
    if task.use_swin or task.use_roberta or not task.use_clip_vit:
        raise ExportError(
            f"{source / CONFIG_FILE} says use_clip_vit {task.use_clip_vit}, use_swin"
            f" {task.use_swin} and use_roberta {task.use_roberta}: this version exports X-VLM with"
            " CLIP's vision encoder and BERT"
        )
    file = _beside(source, task.text_config)
    text = _read(file, TextConfig)
    layers = task.text_num_hidden_layers or text.num_hidden_layers
    if layers <= text.fusion_layer:
        raise ExportError(
            f"{file} says fusion_layer {text.fusion_layer} of {layers} layers: none would look at"
            " the image"
        )
    return XvlmConfig(
        image_size=task.image_res,
        vision=_read(_beside(source, task.vision_config), VisionConfig),
        text=text,
        cross_layers=layers - text.fusion_layer,
        decoder_layers=task.num_dec_layers,
    )


def _read(file: Path, kind: type[Config]) -> Config:
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None


def _beside(source: Path, named: str) -> Path:
    """Return a config's file in the checkpoint; official paths start at the code's root."""
    file = source / named
    inside = file.resolve().is_relative_to(source.resolve())
    return file if inside and file.is_file() else source / Path(named).name
