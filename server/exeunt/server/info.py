"""What a server tells about the model it serves."""

from importlib.metadata import version

from pydantic import BaseModel, Field

from exeunt.engine import Engine
from exeunt.engine.bundle.inputs import BOX_LAYOUTS, InputsSpec
from exeunt.engine.bundle.manifest import Manifest, TaskSpec
from exeunt.engine.decoding.door import TEXT
from exeunt.engine.decoding.options import MAX_ALLOWED, MAX_BEAMS, MAX_NGRAM


class GenerationBody(BaseModel):
    """What a request may ask of a task that generates text. All but `streams` are limits."""

    max_tokens: int = Field(description="The end token included; taken where a request says less.")
    min_tokens: int = Field(description="Taken where a request names none.")
    beams: int
    no_repeat_ngram: int
    allowed: int = Field(description="Answers to choose from; a task with its own takes others.")
    streams: bool = Field(description="Whether `stream` works, without beams and `allowed`.")


class TaskBody(BaseModel):
    """One task: what may be answered, and by which lane.

    takes: the inputs that a sample of it needs. prompt: the text that the model is given, with
    `{text}` where the sample's goes.
    """

    name: str
    kind: str
    lane: str
    labels: list[str]
    takes: list[str]
    prompt: str | None
    generation: GenerationBody | None = Field(description="null where no text is generated.")


class RegionsInfo(BaseModel):
    """What the model takes of a detector.

    feature_size: numbers a region. box_columns, box_units: as the model takes them; a request may
    send others that are known (docs/regions.md).
    """

    feature_size: int
    box_columns: list[str]
    box_units: str
    max_regions: int
    several: int = Field(description="Regions of so many images, as a list, where above 1.")


class InfoBody(BaseModel):
    """The served bundle. depth: layers by lane. takes: the inputs of a sample, over all tasks."""

    name: str
    family: str
    version: str
    takes: list[str]
    regions: RegionsInfo | None = Field(description="null where the model takes none.")
    tasks: list[TaskBody]
    depth: dict[str, int]
    policy_version: int


def info_of(engine: Engine) -> InfoBody:
    """Return what `/info` answers."""
    manifest = engine.manifest
    return InfoBody(
        name=manifest.name,
        family=manifest.family,
        version=version("exeunt"),
        takes=_takes(manifest.inputs),
        regions=_regions(manifest),
        tasks=[_task(engine, task) for task in manifest.tasks],
        depth={lane.name: lane.depth for lane in manifest.lanes},
        policy_version=engine.policy.version,
    )


def _takes(inputs: InputsSpec) -> list[str]:
    image = inputs.image
    takes = [("images" if image.count > 1 else "image")] if image else []
    takes += ["regions"] if inputs.regions else []
    return [*takes, *(["text"] if inputs.text else [])]


def _regions(manifest: Manifest) -> RegionsInfo | None:
    spec = manifest.inputs.regions
    if spec is None:
        return None
    rows = max(lane.rows for lane in manifest.lanes)
    return RegionsInfo(
        feature_size=spec.feature_size,
        box_columns=list(BOX_LAYOUTS[spec.box_columns]),
        box_units=spec.box_units,
        max_regions=spec.max_regions,
        several=rows if manifest.tensors[spec.features].per == "row" else 1,
    )


def _task(engine: Engine, task: TaskSpec) -> TaskBody:
    asks_itself = task.prompt is not None and TEXT not in task.prompt
    takes = _takes(engine.manifest.inputs)
    return TaskBody(
        name=task.name,
        kind=task.kind,
        lane=task.lane,
        labels=list(task.labels),
        takes=[name for name in takes if name != "text" or not asks_itself],
        prompt=task.prompt,
        generation=_generation(engine, task),
    )


def _generation(engine: Engine, task: TaskSpec) -> GenerationBody | None:
    loop = engine.manifest.lane(task.lane).loop
    if loop is None:
        return None
    free = not task.answers
    slots = max(1, engine.config.resident_rows // engine.rows_per_sample)
    return GenerationBody(
        max_tokens=loop.max_steps,
        min_tokens=loop.min_tokens,
        beams=min(MAX_BEAMS, slots) if free else 1,
        no_repeat_ngram=MAX_NGRAM,
        allowed=MAX_ALLOWED,
        streams=free,
    )
