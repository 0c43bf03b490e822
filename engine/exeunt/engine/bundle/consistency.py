"""Checks of a manifest as a whole: every name leads somewhere and the lanes form no cycle."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from exeunt.engine.bundle.caching import check_cached_readers, check_caches
from exeunt.engine.bundle.flow import check_flow
from exeunt.engine.bundle.packing import check_packed
from exeunt.engine.bundle.tensors import HEAD_TENSORS, LOOP_TENSORS, PACK_TENSORS, Reference
from exeunt.engine.bundle.ties import check_ties

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import LaneSpec, Manifest, SegmentSpec, TaskSpec


ENTERING = frozenset({"entry", "join", "cross_kv"})


def check(manifest: "Manifest") -> None:
    """Raise ValueError, naming the part and the mend, where the manifest contradicts itself."""
    names = [lane.name for lane in manifest.lanes]
    _unique("lane", names)
    _unique("task", [task.name for task in manifest.tasks])
    for task in manifest.tasks:
        _check_task(manifest, task)
        _unique(f"task {task.name!r}: label", list(task.labels))
    lane_order(manifest)
    for lane in manifest.lanes:
        _check_lane(manifest, lane)
    check_ties(manifest)
    used = {name for lane in manifest.lanes for name in lane.every_segment()}
    if unused := sorted(set(manifest.segments) - used):
        raise ValueError(f"segments {unused} belong to no lane: remove them or name them in one")
    _check_inputs(manifest)


def lane_order(manifest: "Manifest") -> list[str]:
    """Return the lanes' names so that each stands behind the lanes it joins."""
    names = [lane.name for lane in manifest.lanes]
    for lane in manifest.lanes:
        if missing := [name for name in lane.join if name not in names]:
            raise ValueError(f"lane {lane.name!r} joins {missing}, but the lanes are {names}")
    graph = {lane.name: list(lane.join) for lane in manifest.lanes}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise ValueError(f"lanes wait for each other in a circle: {error.args[1]}") from None


def _unique(what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} names {twice} are used twice: each must be unique")


def _check_task(manifest: "Manifest", task: "TaskSpec") -> None:
    lanes = {lane.name: lane for lane in manifest.lanes}
    name, lane_name, labels = task.name, task.lane, len(task.labels)
    if lane_name not in lanes:
        raise ValueError(f"task {name!r} is answered by lane {lane_name!r}, which is not there")
    lane = lanes[lane_name]
    if not lane.final_head and lane.depth not in lane.heads:
        raise ValueError(
            f"task {name!r} is answered by lane {lane_name!r}, which needs a head after its last"
            " layer or a `final_head`"
        )
    if task.answers:
        _check_answers(task, lane)
    elif labels and lane.classes != labels:
        raise ValueError(
            f"task {name!r} has {labels} labels, but the heads of lane {lane_name!r} answer"
            f" {lane.classes} logits"
        )
    if task.prompt is not None and manifest.inputs.text is None:
        raise ValueError(f"task {name!r} has a prompt, but `inputs` makes no text")


def _check_answers(task: "TaskSpec", lane: "LaneSpec") -> None:
    if lane.loop is None:
        raise ValueError(f"task {task.name!r} has answers, but lane {lane.name!r} has no `loop`")
    if len(task.answers) != len(task.labels):
        raise ValueError(
            f"task {task.name!r} has {len(task.labels)} labels and {len(task.answers)} answers:"
            " each label needs its tokens"
        )
    _unique(f"task {task.name!r}: answer", [str(answer) for answer in task.answers])
    for answer in task.answers:
        fits = all(0 <= token < (lane.classes or 0) for token in answer)
        if not answer or len(answer) >= lane.loop.max_steps or lane.loop.eos in answer or not fits:
            raise ValueError(
                f"task {task.name!r} has the answer {list(answer)}: expected tokens from 0 to"
                f" {(lane.classes or 0) - 1} without the end token, fewer than"
                f" {lane.loop.max_steps}"
            )


def _check_lane(manifest: "Manifest", lane: "LaneSpec") -> None:
    if not (lane.setup or lane.entry):
        raise ValueError(f"lane {lane.name!r} needs an `entry` or a `setup` segment")
    if lane.loop and not lane.final_head and lane.depth not in lane.heads:
        raise ValueError(
            f"lane {lane.name!r} loops and needs a head after its last layer, or a `final_head`,"
            " to choose the next token"
        )
    for state, mask in lane.compare.items():
        for name in (state, mask):
            if name is not None and name not in lane.state:
                raise ValueError(f"lane {lane.name!r} compares {name!r}, which is no state of it")
    if len({lane.state[state].shape[-1] for state in lane.compare}) > 1:
        raise ValueError(f"lane {lane.name!r} compares states of different widths")
    for name in lane.every_segment():
        if name not in manifest.segments:
            raise ValueError(f"lane {lane.name!r} names segment {name!r}, which is not there")
        _check_segment(manifest, lane, name, manifest.segments[name])
    kinds = {
        "layer": (*lane.layers, *(lane.packed.layers if lane.packed else ())),
        "head": (*lane.heads.values(), *([lane.final_head] if lane.final_head else [])),
        "cross_kv": tuple(lane.contexts.values()),
        "propagate_kv": tuple(lane.propagate.values()),
    }
    for kind, names in kinds.items():
        if wrong := [name for name in names if manifest.segments[name].kind != kind]:
            raise ValueError(f"lane {lane.name!r} uses {wrong} as {kind}, but they are not")
    for name in (*lane.setup, *([lane.entry] if lane.entry else [])):
        if manifest.segments[name].kind not in ENTERING:
            raise ValueError(
                f"lane {lane.name!r} is entered through {name!r}, which is of kind"
                f" {manifest.segments[name].kind}: expected one of {sorted(ENTERING)}"
            )
    check_flow(manifest, lane)
    check_caches(manifest, lane)
    check_cached_readers(manifest, lane)
    _check_loop(lane)
    if lane.packed:
        check_packed(manifest, lane, lane.packed)


def _check_loop(lane: "LaneSpec") -> None:
    loop = lane.loop
    if loop is None:
        return
    for what, token in [("eos", loop.eos), *(("never", token) for token in loop.never)]:
        if lane.classes is not None and token >= lane.classes:
            raise ValueError(
                f"lane {lane.name!r}: the loop's {what} token is {token}, but its heads answer"
                f" {lane.classes} tokens"
            )
    if loop.eos in loop.never:
        raise ValueError(f"lane {lane.name!r}: the loop never answers its end token {loop.eos}")
    if loop.min_tokens >= loop.max_steps:
        raise ValueError(
            f"lane {lane.name!r}: min_tokens is {loop.min_tokens}, but the loop has"
            f" {loop.max_steps} steps, of which the end token takes one"
        )


def _check_segment(
    manifest: "Manifest", lane: "LaneSpec", name: str, segment: "SegmentSpec"
) -> None:
    where = f"segment {name!r} in lane {lane.name!r}"
    lanes = {other.name: other for other in manifest.lanes}
    for text in segment.inputs.values():
        scope, tensor = Reference.parse(text)
        known: Mapping[str, object]
        if scope == "":
            known = lane.state
        elif scope == "input":
            known = manifest.tensors
        elif scope == "loop" and lane.loop:
            known = LOOP_TENSORS
        elif scope == "pack" and lane.packed and name in lane.packed.layers:
            known = PACK_TENSORS
        elif scope in lane.join:
            known = lanes[scope].state
        else:
            raise ValueError(
                f"{where} reads {text!r}: expected a state of the lane, `input.NAME`,"
                f" `loop.NAME` in a loop, `pack.NAME` in a packed layer, or a state of a joined"
                f" lane ({list(lane.join)})"
            )
        if tensor not in known:
            raise ValueError(f"{where} reads {text!r}, which is not declared")
    for text in segment.outputs.values():
        scope, tensor = Reference.parse(text)
        if segment.kind == "head":
            if scope != "head" or tensor not in HEAD_TENSORS:
                raise ValueError(f"{where} writes {text!r}: a head writes `head.logits`")
        elif scope or tensor not in lane.state:
            raise ValueError(f"{where} writes {text!r}, which is no state of the lane")
        elif segment.kind == "layer" and lane.state[tensor].role == "constant":
            raise ValueError(f"{where} writes {text!r}, a constant: make it `carried`")


def _check_inputs(manifest: "Manifest") -> None:
    inputs = manifest.inputs
    sizes = {dim for spec in manifest.tensors.values() for dim in spec.shape}
    if unknown := sorted(set(manifest.buckets) - sizes):
        raise ValueError(f"`buckets` names the sizes {unknown}, which no tensor has")
    made = []
    if inputs.image:
        made.append(inputs.image.tensor)
    if inputs.text:
        made += [inputs.text.ids, inputs.text.mask]
        made += [inputs.text.types] if inputs.text.types else []
    if missing := [name for name in made if name not in manifest.tensors]:
        raise ValueError(f"`inputs` fills the tensors {missing}, which `tensors` does not declare")
    if inputs.image and (shape := manifest.tensors[inputs.image.tensor].shape)[-2:] != (
        size := inputs.image.size
    ):
        raise ValueError(
            f"`inputs.image` makes {list(size)} pixels, but the tensor {inputs.image.tensor!r} has"
            f" the shape {list(shape)}: let both end alike"
        )
    if inputs.text and inputs.text.tokenizer not in manifest.files:
        raise ValueError(f"`inputs.text` names {inputs.text.tokenizer!r}, which `files` lacks")
