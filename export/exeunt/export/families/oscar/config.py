"""Sizes of an Oscar checkpoint."""

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.families.hf.config import CONFIG_FILE

BOX_COLUMNS = 6  # x1, y1, x2, y2, width, height, behind the features in `img_feature_dim`
MAX_REGIONS = 50  # `--max_img_seq_length` of the official scripts


class OscarConfig(BaseModel):
    """`config.json`; keys that inference does not read are ignored.

    img_feature_dim: width of a region's feature with its box behind it. use_img_layernorm: whether
    the projected regions are normed. classifier: its kind; `cls_hidden_scale` is the width of an
    `mlp`, in widths of the state.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    hidden_act: Literal["gelu"] = "gelu"
    max_position_embeddings: PositiveInt
    type_vocab_size: PositiveInt
    layer_norm_eps: PositiveFloat = 1e-12
    img_feature_dim: int
    img_feature_type: Literal["faster_r-cnn", "frcnn"] = "faster_r-cnn"
    use_img_layernorm: NonNegativeInt | None = None
    img_layer_norm_eps: PositiveFloat = 1e-12
    classifier: Literal["linear", "mlp"] = "linear"
    cls_hidden_scale: PositiveInt = 2

    @property
    def features(self) -> int:
        """Width of a region's feature, without its box."""
        return self.img_feature_dim - BOX_COLUMNS


def read_config(source: Path) -> OscarConfig:
    """Return the checkpoint's sizes.

    Raises:
        ExportError: `config.json` is missing or not valid.
    """
    file = source / CONFIG_FILE
    try:
        config = OscarConfig.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None
    if config.features < 1:
        raise ExportError(
            f"{file} has img_feature_dim {config.img_feature_dim}: expected a feature and the"
            f" {BOX_COLUMNS} columns of its box"
        )
    return config
