"""The manifest: everything that the engine knows of a model, in one validated record."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from exeunt.engine.bundle.consistency import check
from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.tensors import RESERVED, Frozen, Name, StateSpec, TensorSpec

FORMAT = 1

SegmentKind = Literal["entry", "layer", "head", "join", "cross_kv", "propagate_kv"]
CriterionName = Literal["entropy", "patience", "cosine", "confidence", "margin"]
SegmentName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=80)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativeFile = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")
]


class SegmentParity(Frozen):
    """How far a segment is from the model it was cut from.

    max_abs_error: the largest absolute difference seen. tolerance: the smallest tolerance of the
    ladder that it needed.
    """

    max_abs_error: float
    tolerance: float


class PrecisionSpec(Frozen):
    """The number format of the layers' weights, and what it does to a row's answer.

    batch_invariant: whether a row's answer is the same whatever shares its batch. Not so with int8,
    where one scale is taken over the whole batch.
    """

    layers: Literal["fp32", "int8"]
    batch_invariant: bool


class SegmentSpec(Frozen):
    """One exported graph: its file, and where each of its tensors lives.

    `inputs` and `outputs` map the graph's names to references: `hidden` (the row's own lane),
    `input.pixel_values` (a raw tensor), `image.hidden` (an earlier lane), `loop.token`,
    `head.logits`.
    """

    kind: SegmentKind
    file: RelativeFile
    sha256: Sha256
    inputs: dict[str, str] = Field(min_length=1)
    outputs: dict[str, str] = Field(min_length=1)
    parity: SegmentParity | None = None


class LoopSpec(Frozen):
    """A lane that is walked once for each token.

    start: the first token. eos: the token that ends the loop. pad: what `loop.tokens` holds beyond
    the tokens so far. max_steps: tokens at most, the end token included. never: tokens that are not
    answered. min_tokens: before the end token. closed: whether the last step may only answer the
    end token.
    """

    until: Literal["eos"] = "eos"
    start: int = Field(ge=0)
    eos: int = Field(ge=0)
    pad: int = Field(ge=0)
    max_steps: int = Field(ge=1, le=4096)
    never: tuple[int, ...] = ()
    min_tokens: int = Field(default=0, ge=0)
    closed: bool = False


class CacheSpec(Frozen):
    """What one layer of a loop keeps from step to step.

    appended: cache states [S, W], S being the loop's `max_steps`; the layer reads them whole, with
    `loop.cached` saying how many tokens they hold, and writes the new token's slice, [W]. context:
    constants of this layer (the keys and values of what the loop attends to), which the filling
    `copy-layer` takes over as well.
    """

    appended: tuple[Name, ...] = Field(min_length=1)
    context: tuple[Name, ...] = ()


class PackedSpec(Frozen):
    """The lane's layers on tokens side by side, [N, ...] of all rows: only attention sees padding.

    layers: the segments, as many as the lane's own; a lane that has no others names the same ones
    in both places. mask: the lane's constant that says which tokens are valid; the others are
    dropped once the row has entered, its first token never. heads_read: a row's first token, [B,
    1, ...], or all of them in a padded view, [B, T, ...]. batch_invariant: whether export has found
    every row's bits alike in every batch.
    """

    layers: tuple[SegmentName, ...] = Field(min_length=1)
    mask: Name
    heads_read: Literal["first", "all"] = "all"
    batch_invariant: bool = False


class BucketSpec(Frozen):
    """Raw samples of nearly one size share batches: padded with zeros to the next multiple.

    most: a larger size is refused, and the last multiple is cut there. A zero in a mask is padding.
    """

    multiple: int = Field(ge=1, le=8192)
    most: int = Field(ge=1, le=65_536)

    def sizes(self) -> tuple[int, ...]:
        """Return every size that a sample can have here, ascending."""
        return (*range(self.multiple, self.most, self.multiple), self.most)

    def padded(self, size: int) -> int:
        """Return the size to which one of at most `most` is padded."""
        return min(-(-size // self.multiple) * self.multiple, self.most)


class LaneSpec(Frozen):
    """A sequence of layers that a row walks.

    join: the lanes that must be through before a row enters. rows: rows a sample has here. unit:
    whether rows decide one by one or as a group; a group's heads see an axis of rows after the
    batch axis. setup: segments run once, on entering. entry: run once, or at every step of a loop.
    heads: the exit head after each layer. final_head: answers when no exit fired. classes: the
    width of the heads' logits. contexts: by layer of a loop with caches, what makes that layer's
    constants, once, when a row first gets there. propagate: by layer, what fills its caches for
    tokens that skipped it. scores: the criteria that can judge this lane. compare: for `cosine`,
    the carried states and the mask of their valid tokens. packed: the same layers on packed tokens,
    where the bundle has them.
    """

    name: Name
    join: tuple[Name, ...] = ()
    rows: int = Field(default=1, ge=1, le=256)
    unit: Literal["row", "group"] = "row"
    state: dict[Name, StateSpec]
    setup: tuple[SegmentName, ...] = ()
    entry: SegmentName | None = None
    layers: tuple[SegmentName, ...] = ()
    heads: dict[int, SegmentName] = Field(default_factory=dict)
    final_head: SegmentName | None = None
    classes: int | None = Field(default=None, ge=1)
    contexts: dict[int, SegmentName] = Field(default_factory=dict)
    propagate: dict[int, SegmentName] = Field(default_factory=dict)
    scores: tuple[CriterionName, ...] = ()
    compare: dict[Name, Name | None] = Field(default_factory=dict)
    loop: LoopSpec | None = None
    caches: tuple[CacheSpec, ...] = ()
    packed: PackedSpec | None = None

    @property
    def depth(self) -> int:
        """Layers of the lane."""
        return len(self.layers)

    def segments(self) -> list[str]:
        """Return the segments of the lane's own layout, in the order a row meets them."""
        first = [*self.setup, *([self.entry] if self.entry else []), *self.layers]
        last = [self.final_head] if self.final_head else []
        filling = [*self.contexts.values(), *self.propagate.values()]
        return [*first, *self.heads.values(), *last, *filling]

    def every_segment(self) -> list[str]:
        """Return the segments of both layouts."""
        own = self.segments()
        packed = self.packed.layers if self.packed else ()
        return [*own, *(name for name in packed if name not in own)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"lane name {self.name!r} is reserved: choose another")
        if wrong := [layer for layer in self.heads if not 1 <= layer <= self.depth]:
            raise ValueError(
                f"lane {self.name!r} has heads after layers {wrong}, but layers count from 1 to"
                f" {self.depth}"
            )
        has_heads = bool(self.heads or self.final_head)
        if has_heads and self.classes is None:
            raise ValueError(f"lane {self.name!r} has heads: `classes` must say their width")
        if has_heads and self.rows > 1 and self.unit != "group":
            raise ValueError(
                f"lane {self.name!r} has {self.rows} rows a sample and heads: rows that answer"
                " together need `unit: group`"
            )
        if self.classes == 1 and set(self.scores) - {"cosine"}:
            raise ValueError(
                f"lane {self.name!r} has a single logit: its entropy is always 0, so every row"
                " would leave at layer 1; leave classification criteria out of `scores`"
            )
        if "cosine" in self.scores and not self.compare:
            raise ValueError(f"lane {self.name!r} offers cosine: `compare` must name its states")
        if (set(self.scores) - {"cosine"} or (self.scores and has_heads)) and not self.heads:
            raise ValueError(
                f"lane {self.name!r} offers {list(self.scores)} but has no exit heads to answer"
                " with: name them in `heads` (the final head may serve there too)"
            )
        return self


class TaskSpec(Frozen):
    """What a request may ask for, and the lane that answers it.

    prompt: the text that the model is given, with `{text}` where the request's own goes; one
    without it asks a question of its own, and the request brings no text. answers: of a loop lane,
    the tokens of each label, of which the most probable is answered. answer: how a text is written
    before it becomes an answer's tokens, with `{text}` in its place.
    """

    name: Name
    kind: Literal["classification", "multiple_choice", "matching", "ranking", "generation"]
    lane: Name
    labels: tuple[str, ...] = ()
    prompt: str | None = Field(default=None, min_length=1, max_length=1000)
    answers: tuple[tuple[int, ...], ...] = ()
    answer: str = "{text}"


class Manifest(Frozen):
    """A bundle's `manifest.json`.

    format: the version of this record. tensors: the raw inputs. inputs: how an image and a text
    become them. buckets: by symbolic size, the padding of raw tensors. exit_policy: what the bundle
    recommends. precision: float32 and batch-invariant
    where it is absent. files: the sha256 of every other file. tools: versions of what wrote it.
    """

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    family: str
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    tensors: dict[Name, TensorSpec] = Field(min_length=1)
    inputs: InputsSpec = InputsSpec()
    buckets: dict[Name, BucketSpec] = Field(default_factory=dict)
    lanes: tuple[LaneSpec, ...] = Field(min_length=1)
    segments: dict[SegmentName, SegmentSpec]
    exit_policy: dict[str, Any] | None = None
    precision: PrecisionSpec | None = None
    files: dict[RelativeFile, Sha256] = Field(default_factory=dict)
    tools: dict[str, str] = Field(default_factory=dict)

    @property
    def batch_invariant(self) -> bool:
        """Whether a row's answer is the same whatever shares its batch."""
        return self.precision is None or self.precision.batch_invariant

    def lane(self, name: str) -> LaneSpec:
        """Return the lane of that name; raises KeyError when there is none."""
        for lane in self.lanes:
            if lane.name == name:
                return lane
        raise KeyError(name)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check(self)
        return self
