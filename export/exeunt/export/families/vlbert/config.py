"""The settings of a VL-BERT checkpoint, as its official code's YAML has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from exeunt.engine.errors import ConfigError
from exeunt.engine.yaml_file import read_yaml
from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.families.hf.config import CONFIG_FILE


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EncoderConfig(_Section):
    """`NETWORK.VLBERT`; where the official code offers a choice, what all its configs chose."""

    visual_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt
    hidden_act: Literal["gelu"] = "gelu"
    max_position_embeddings: PositiveInt
    type_vocab_size: PositiveInt
    vocab_size: PositiveInt
    visual_ln: Literal[True] = True
    object_word_embed_mode: Literal[2] = 2
    word_embedding_frozen: Literal[False] = False
    obj_pos_id_relative: Literal[True] = True
    position_padding_idx: Literal[-1] = -1


class NetworkConfig(_Section):
    """`NETWORK`; the regions' features are an input, whoever computed them."""

    BLIND: Literal[False] = False
    NO_GROUNDING: Literal[False] = False
    IMAGE_SEMANTIC: Literal[False] = False
    IMAGE_FINAL_DIM: PositiveInt
    CLASSIFIER_TYPE: Literal["2fc", "1fc", "mlm"]
    CLASSIFIER_HIDDEN_SIZE: PositiveInt
    VLBERT: EncoderConfig


class DatasetConfig(_Section):
    """`DATASET`. ADD_IMAGE_AS_A_BOX: whether the first region is the whole image."""

    DATASET: str
    ANSWER_VOCAB_SIZE: PositiveInt
    ADD_IMAGE_AS_A_BOX: Literal[True] = True


class VlbertConfig(_Section):
    """What inference reads of the settings."""

    DATASET: DatasetConfig
    NETWORK: NetworkConfig


def config_file(source: Path) -> Path:
    """Return the file with the settings: `config.json`, or the one YAML file beside the weights.

    Raises:
        ExportError: there are several YAML files.
    """
    file = source / CONFIG_FILE
    found = sorted(source.glob("*.yaml"))
    if file.is_file() or not found:
        return file
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ExportError(f"{source} has several YAML files ({names}): keep the checkpoint's own")
    return found[0]


def peek_dataset(source: Path) -> object:
    """Return what the settings call the data set, where they are VL-BERT's; never raises."""
    try:
        content = _read(config_file(source))
    except ExportError:
        return None
    if not isinstance(content, Mapping):
        return None
    network, dataset = content.get("NETWORK"), content.get("DATASET")
    if not isinstance(network, Mapping) or "VLBERT" not in network:
        return None
    return dataset.get("DATASET", "") if isinstance(dataset, Mapping) else ""


def read_config(source: Path) -> VlbertConfig:
    """Return the checkpoint's settings.

    Raises:
        ExportError: they are missing, damaged, or of a model that is not exported.
    """
    file = config_file(source)
    try:
        return VlbertConfig.model_validate(_read(file))
    except ValidationError as error:
        raise invalid(file, error) from None


def _read(file: Path) -> object:
    if file.suffix == ".json":
        content: object = read_json(file)
        return content
    try:
        return read_yaml(file, "settings of a checkpoint")
    except ConfigError as error:
        raise ExportError(str(error)) from None
