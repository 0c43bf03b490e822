"""Tensor types of a manifest: dtypes, symbolic shapes, references to state."""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["float32", "float16", "int64", "int32", "uint8", "bool"]
Dim = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]

RESERVED = frozenset({"input", "head", "loop", "pack"})


class Frozen(BaseModel):
    """A validated, immutable record that refuses unknown keys and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(Frozen):
    """A raw input tensor of one sample, named as Hugging Face names it.

    `shape` leaves the sample axis out; a name in it is a symbolic size. With `per: row` the
    tensor has one slice for each row of the sample, on an axis before `shape`.
    """

    dtype: Dtype
    shape: tuple[Dim, ...]
    per: Literal["sample", "row"] = "sample"


class StateSpec(Frozen):
    """A named tensor that a row keeps while it walks a lane.

    `carried`: every layer rewrites it. `constant`: written before the first layer and only read
    (masks of rank 1 to 3, position biases, another lane's context). `cache`: kept from one step of
    a loop to the next, steps on the first axis. `shape` leaves the row axis out.
    """

    role: Literal["carried", "constant", "cache"]
    dtype: Dtype
    shape: tuple[Dim, ...]


class Reference(NamedTuple):
    """Where a segment's tensor lives.

    scope: "" for the row's own lane, "input" for a raw tensor, "head" for what a head answers,
        "loop" for the tokens so far, "pack" for where packed tokens belong, or the name of an
        earlier lane.
    name: the tensor's name there.
    """

    scope: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Split `lane.state`, `input.tensor` or a bare `state`."""
        scope, _, name = text.rpartition(".")
        return cls(scope, name)


LOOP_TENSORS: dict[str, TensorSpec] = {
    "tokens": TensorSpec(dtype="int64", shape=("max_tokens",)),
    "step": TensorSpec(dtype="int64", shape=()),
    "token": TensorSpec(dtype="int64", shape=(1,)),
    "cached": TensorSpec(dtype="int64", shape=()),
}
CACHED = "loop.cached"  # tokens that a layer's caches hold, read by layers alone
# What a layer on packed tokens [N, ...] reads of its B rows of at most T tokens: for each place of
# the padded view its token, whether that place is valid, and for each token its place in B * T.
PACK_TENSORS: dict[str, TensorSpec] = {
    "gather": TensorSpec(dtype="int64", shape=("T",)),
    "mask": TensorSpec(dtype="float32", shape=("T",)),
    "scatter": TensorSpec(dtype="int64", shape=()),
}
HEAD_TENSORS = frozenset({"logits", "exit"})


def numpy_dtype(dtype: Dtype) -> np.dtype[np.generic]:
    """Return NumPy's dtype of that name."""
    return np.dtype(dtype)
