"""Sizes of a UNITER checkpoint: what `log/model.json` says, and what only the weights do."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.families.state_dict import required
from exeunt.export.families.weights import Weights

MODEL_FILES = ("log/model.json", "config.json")  # as official code writes it, and beside it
SETTINGS_FILE = "log/hps.json"

WORDS = "uniter.embeddings.word_embeddings.weight"
TYPES = "uniter.embeddings.token_type_embeddings.weight"
FEATURES = "uniter.img_embeddings.img_linear.weight"
BOXES = "uniter.img_embeddings.pos_linear.weight"


class UniterConfig(BaseModel):
    """`log/model.json`: the sizes of the encoder; other keys are for training."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    hidden_act: Literal["gelu"] = "gelu"
    max_position_embeddings: PositiveInt


class UniterSettings(BaseModel):
    """`log/hps.json`: how much text and how many regions a sample had in training.

    max_txt_len: word pieces without [CLS] and [SEP].
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_txt_len: int | None = None
    max_bb: PositiveInt = 100


class UniterSizes(BaseModel):
    """Everything that the model is built from.

    vocabulary, types: rows of the embeddings, which tasks add some to. features, box_columns: of a
    region. words, regions: of a sample at most.
    """

    model_config = ConfigDict(frozen=True)

    config: UniterConfig
    vocabulary: PositiveInt
    types: PositiveInt
    features: PositiveInt
    box_columns: PositiveInt
    words: PositiveInt
    regions: PositiveInt


def config_file(source: Path) -> Path:
    """Return where the encoder's sizes are; official code's place where there is none."""
    files = [source / name for name in MODEL_FILES]
    return next((file for file in files if file.is_file()), files[0])


def read_sizes(source: Path, weights: Weights) -> UniterSizes:
    """Return the sizes of the checkpoint at `source`.

    Raises:
        ExportError: a file is missing or not valid.
        MisfitError: the weights are not UNITER's.
    """
    file = config_file(source)
    try:
        config = UniterConfig.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None
    rows = {name: required(weights, name, axes=2).shape for name in (WORDS, TYPES, FEATURES, BOXES)}
    settings = _settings(source / SETTINGS_FILE)
    positions = config.max_position_embeddings
    if rows[WORDS][0] < config.vocab_size:
        raise ExportError(
            f"{weights.file}: {WORDS!r} embeds {rows[WORDS][0]} words, {file} says"
            f" {config.vocab_size}: both must be of one checkpoint"
        )
    return UniterSizes(
        config=config,
        vocabulary=rows[WORDS][0],
        types=rows[TYPES][0],
        features=rows[FEATURES][1],
        box_columns=rows[BOXES][1],
        words=min(positions, (settings.max_txt_len or positions) + 2),
        regions=settings.max_bb,
    )


def _settings(file: Path) -> UniterSettings:
    if not file.is_file():
        return UniterSettings()
    try:
        return UniterSettings.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None
