"""The sizes of an OFA model, and reading them from the `cfg` of an official checkpoint."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

BOS, PAD, EOS = 0, 1, 2  # fairseq's dictionaries begin with these, then comes <unk>

Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)

RESNETS = {"resnet50": (3, 4, 6), "resnet101": (3, 4, 23), "resnet152": (3, 8, 36)}
STRIDE = 16  # pixels of an image token's side

# What the official options must be: the others change the model, and none of its checkpoints has
# them.
REQUIRED: dict[str, object] = {
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "share_decoder_input_output_embed": True,
    "layernorm_embedding": True,
    "patch_layernorm_embedding": True,
    "add_type_embedding": True,
    "activation_fn": "gelu",
    "disable_entangle": True,
    "entangle_position_embedding": False,
    "interpolate_position": False,
    "cross_self_attention": False,
    "encoder_prompt": False,
    "decoder_prompt": False,
    "adapter": False,
}
ABSENT: dict[str, object] = {  # of an option that a checkpoint does not say
    "disable_entangle": False,
    "entangle_position_embedding": False,
    "interpolate_position": False,
    "cross_self_attention": False,
    "encoder_prompt": False,
    "decoder_prompt": False,
    "adapter": False,
}


class OfaConfig(BaseModel):
    """Sizes and switches of a model; `config.json` of a checkpoint in our own format holds these.

    hidden, ffn: widths. vocab: token ids. image_size: pixels of a side. image_bucket_size: image
    tokens of a side at most. token_bucket_size: distances of text tokens with a bias of their own.
    max_source_length: text tokens at most. max_source_positions, max_target_positions: positions
    that have an embedding. max_steps, min_tokens: tokens generated, with and without the end.
    stem_blocks,
    stem_planes, stem_width: of the ResNet's three stages; its output has 4 * stem_planes[2]
    channels. stem_norm_eps: of its batch norms. attn_scale_factor: queries are divided by the root
    of so many head widths. scale_attn, scale_fc, scale_heads, scale_resids: NormFormer's
    additions. scale_embedding: multiply token embeddings with the root of their width.
    image_relative_bias: whether the image lane uses its table of relative positions; official
    training computes that bias and then drops it, so checkpoints are trained without. image_mean,
    image_std: of the pixels, as shares of white. dropout: in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["ofa"] = "ofa"
    hidden: PositiveInt = 768
    ffn: PositiveInt = 3072
    encoder_layers: PositiveInt = 6
    decoder_layers: PositiveInt = 6
    heads: PositiveInt = 12
    vocab: int = Field(default=59457, ge=5)
    image_size: PositiveInt = 480
    image_bucket_size: PositiveInt = 42
    token_bucket_size: int = Field(default=256, ge=4)
    max_source_length: PositiveInt = 128
    max_source_positions: PositiveInt = 1024
    max_target_positions: PositiveInt = 1024
    max_steps: PositiveInt = 17
    min_tokens: int = Field(default=1, ge=0)
    stem_blocks: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 4, 23)
    stem_planes: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    stem_width: PositiveInt = 64
    stem_norm_eps: float = Field(default=1e-5, gt=0)
    attn_scale_factor: float = Field(default=2.0, gt=0)
    scale_attn: bool = True
    scale_fc: bool = True
    scale_heads: bool = True
    scale_resids: bool = False
    scale_embedding: bool = False
    image_relative_bias: bool = False
    image_mean: Channels = (0.5, 0.5, 0.5)
    image_std: Channels = (0.5, 0.5, 0.5)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def grid(self) -> int:
        """Image tokens of a side."""
        return -(-self.image_size // STRIDE)

    @property
    def image_tokens(self) -> int:
        """Image tokens of a sample."""
        return self.grid**2

    @property
    def attention_scale(self) -> float:
        """What queries, of content and of position, are multiplied with."""
        return math.pow(self.hidden / self.heads * self.attn_scale_factor, -0.5)

    def check(self) -> None:
        """Raise ValueError where the sizes contradict each other."""
        if self.hidden % self.heads:
            raise ValueError(f"hidden size {self.hidden} is not a multiple of {self.heads} heads")
        if self.grid > self.image_bucket_size:
            raise ValueError(
                f"an image of {self.image_size} pixels has {self.grid} tokens a side, but"
                f" image_bucket_size is {self.image_bucket_size}"
            )
        if self.max_source_length > self.max_source_positions:
            raise ValueError(
                f"max_source_length {self.max_source_length} is over the"
                f" {self.max_source_positions} positions of max_source_positions"
            )
        if self.max_steps > self.max_target_positions:
            raise ValueError(
                f"max_steps {self.max_steps} is over the {self.max_target_positions} positions of"
                " max_target_positions"
            )
        if self.min_tokens >= self.max_steps:
            raise ValueError(
                f"min_tokens {self.min_tokens} leaves no room for the end in {self.max_steps} steps"
            )


def config_of_cfg(cfg: Mapping[str, Any]) -> OfaConfig:
    """Return the config that an official checkpoint's `cfg` describes.

    Args:
        cfg: plain dicts by group: `model`, and where they are there `task` and `generation`.

    Returns:
        The config; not checked for contradictions yet.

    Raises:
        ValueError: a key is missing, or an option has a value that this family does not know.
        pydantic.ValidationError: a value is of the wrong type.
    """
    model, task = _group(cfg, "model"), _group(cfg, "task", needed=False)
    for option, wanted in REQUIRED.items():
        found = model.get(option, ABSENT.get(option))
        if found != wanted:
            raise ValueError(f"cfg.model.{option} is {found!r}: this family needs {wanted!r}")
    for encoder, decoder in (
        ("encoder_embed_dim", "decoder_embed_dim"),
        ("encoder_ffn_embed_dim", "decoder_ffn_embed_dim"),
        ("encoder_attention_heads", "decoder_attention_heads"),
    ):
        if model.get(decoder, model.get(encoder)) != model.get(encoder):
            raise ValueError(f"cfg.model.{decoder} differs from {encoder}: expected one size")
    blocks, width = _resnet(model)
    positions = _value(model, "max_source_positions")
    half: Channels = (0.5, 0.5, 0.5)
    imagenet = bool(task.get("imagenet_default_mean_and_std"))
    return OfaConfig(
        hidden=_value(model, "encoder_embed_dim"),
        ffn=_value(model, "encoder_ffn_embed_dim"),
        encoder_layers=_value(model, "encoder_layers"),
        decoder_layers=_value(model, "decoder_layers"),
        heads=_value(model, "encoder_attention_heads"),
        vocab=_value(model, "vocab_size"),
        image_size=_value(model, "patch_image_size"),
        image_bucket_size=_value(model, "image_bucket_size"),
        token_bucket_size=_value(model, "token_bucket_size"),
        max_source_length=min(task.get("max_src_length", positions), positions),
        max_source_positions=positions,
        max_target_positions=_value(model, "max_target_positions"),
        max_steps=_generated(cfg, "max_len_b", 16) + 1,
        min_tokens=_generated(cfg, "min_len", 1),
        stem_blocks=blocks,
        stem_width=width,
        stem_norm_eps=1e-3 if model.get("sync_bn") else 1e-5,
        attn_scale_factor=_value(model, "attn_scale_factor"),
        scale_attn=bool(model.get("scale_attn")),
        scale_fc=bool(model.get("scale_fc")),
        scale_heads=bool(model.get("scale_heads")),
        scale_resids=bool(model.get("scale_resids")),
        scale_embedding=not model.get("no_scale_embedding"),
        image_mean=IMAGENET_MEAN if imagenet else half,
        image_std=IMAGENET_STD if imagenet else half,
    )


def _group(cfg: Mapping[str, Any], name: str, *, needed: bool = True) -> Mapping[str, Any]:
    found = cfg.get(name)
    if found is None and not needed:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"cfg.{name} is of type {type(found).__name__}: expected a plain dict")
    return found


def _value(model: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 (pydantic checks it)
    if key not in model:
        raise ValueError(f"cfg.model.{key} is missing: it says a size of the model")
    return model[key]


def _resnet(model: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the blocks of the three stages, and the width of their inner convolutions.

    A checkpoint that is smaller than the named ResNet says so itself.
    """
    name = _value(model, "resnet_type")
    if name not in RESNETS:
        raise ValueError(f"cfg.model.resnet_type is {name!r}: expected one of {sorted(RESNETS)}")
    return (
        model.get("resnet_layers_in_this_file", RESNETS[name]),
        model.get("resnet_width_per_group_in_this_file", 64),
    )


def _generated(cfg: Mapping[str, Any], option: str, default: int) -> int:
    """Return a length with which the checkpoint's own evaluation generates."""
    arguments = _group(cfg, "task", needed=False).get("eval_args") or "{}"
    try:
        own = json.loads(arguments)
    except (TypeError, ValueError):
        own = None
    if not isinstance(own, dict):
        raise ValueError(f"cfg.task.eval_args is {arguments!r}: expected a JSON object in a string")
    found = own.get(option, _group(cfg, "generation", needed=False).get(option, default))
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"{option} is {found!r}: expected a whole number")
    return found
