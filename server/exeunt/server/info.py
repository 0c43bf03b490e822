"""What a server tells about the model it serves."""

from importlib.metadata import version

from pydantic import BaseModel

from exeunt.engine import Engine


class TaskBody(BaseModel):
    """One task: what may be answered, and by which lane."""

    name: str
    kind: str
    lane: str
    labels: list[str]


class InfoBody(BaseModel):
    """The served bundle. depth: layers by lane. takes: the fields of a sample."""

    name: str
    family: str
    version: str
    takes: list[str]
    tasks: list[TaskBody]
    depth: dict[str, int]
    policy_version: int


def info_of(engine: Engine) -> InfoBody:
    """Return what `/info` answers."""
    manifest = engine.manifest
    image = manifest.inputs.image
    takes = [("images" if image.count > 1 else "image")] if image else []
    return InfoBody(
        name=manifest.name,
        family=manifest.family,
        version=version("exeunt"),
        takes=[*takes, *(["text"] if manifest.inputs.text else [])],
        tasks=[
            TaskBody(name=task.name, kind=task.kind, lane=task.lane, labels=list(task.labels))
            for task in manifest.tasks
        ],
        depth={lane.name: lane.depth for lane in manifest.lanes},
        policy_version=engine.policy.version,
    )
