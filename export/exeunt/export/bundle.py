"""From a checkpoint, or a model that is planned already, to a bundle: trace, measure, write."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.bundle.manifest import FORMAT, LaneSpec, Manifest, SegmentSpec
from exeunt.engine.bundle.reader import MANIFEST_FILE, Bundle, file_sha256
from exeunt.engine.config import EngineConfig
from exeunt.engine.exit_policy import ExitPolicy, compile_policy, load_exit_policy
from exeunt.engine.validation import first_problem
from exeunt.export.alike import AlikeWriter
from exeunt.export.bundle_writer import check_out, staged
from exeunt.export.errors import ExportError
from exeunt.export.families.options import DEFAULTS, SourceOptions
from exeunt.export.families.registry import describe
from exeunt.export.layout import ExportLayout, keep_layout, keep_quicker
from exeunt.export.parity.of_bundle import measure_bundle
from exeunt.export.parity.report import PARITY_FILE, ParityReport
from exeunt.export.plan import BundlePlan, SegmentPlan
from exeunt.export.quantise import quantise_layers
from exeunt.export.tools import tool_versions

EXAMPLES = "examples"
POLICY_FILE = "exit_policy.yaml"
NO_SHA256 = "0" * 64  # of a file that is not written yet
DEFAULT_TOLERANCE = 1e-4

Progress = Callable[[str, int, int], None]
SegmentWriter = Callable[[SegmentPlan, Path], None]


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote. size_bytes: of all files."""

    out: Path
    manifest: Manifest
    parity: ParityReport
    size_bytes: int


def export_bundle(
    source: Path,
    out: Path,
    *,
    family: str | None = None,
    options: SourceOptions = DEFAULTS,
    name: str | None = None,
    exit_policy: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    int8_tolerance: float | None = None,
    layout: ExportLayout = "auto",
    overwrite: bool = False,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the checkpoint at `source` as a bundle at `out`, which appears only when all is well.

    Args:
        source: a checkpoint directory.
        out: where the bundle goes; missing or empty, or with `overwrite` another bundle.
        family: the family's name; recognised from the checkpoint by default.
        options: what the checkpoint does not say: task, labels, tokenizer, official quirks.
        name: the bundle's name; the family's own by default.
        exit_policy: a YAML file that the bundle carries as its recommendation; the checkpoint's
            own `exit_policy.yaml`, where it has one, by default.
        tolerance: the largest absolute error allowed of a segment or of the composed model.
        int8_tolerance: quantise the layers to int8, once their float32 graphs are within
            `tolerance`, and allow the logits this absolute error then; without it they stay.
        layout: of the layers, where the model has packed ones; `auto` keeps the one that is
            quicker here.
        overwrite: replace a bundle at `out`.
        backend: runs the graphs while parity is measured; ONNX Runtime by default.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        ExportError: the checkpoint cannot be read or cut, `out` cannot be written, or parity
            fails.
        ExitPolicyError: the exit policy is not valid or does not fit the model.
    """
    if not source.is_dir():
        raise ExportError(f"{source} is no directory: expected a checkpoint")
    _check_tolerance(tolerance, int8_tolerance or 0.0)
    check_out(source, out, overwrite=overwrite)
    tell = progress or _silent
    policy = _policy(source, exit_policy)
    runner = backend or _default_backend()
    tell("load the checkpoint", 0, 1)
    return write_bundle(
        describe(source, family, options),
        out,
        name=name,
        exit_policy=policy,
        tolerance=tolerance,
        int8_tolerance=int8_tolerance,
        layout=layout,
        overwrite=overwrite,
        backend=runner,
        progress=progress,
        examples=source / EXAMPLES,
    )


def write_bundle(
    plan: BundlePlan,
    out: Path,
    *,
    name: str | None = None,
    exit_policy: ExitPolicy | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    int8_tolerance: float | None = None,
    layout: ExportLayout = "auto",
    overwrite: bool = False,
    backend: Backend | None = None,
    progress: Progress | None = None,
    examples: Path | None = None,
    write: SegmentWriter | None = None,
) -> ExportReport:
    """Write a planned model as a bundle at `out`, which appears only when all is well.

    Args:
        plan: the model, cut into segments.
        out: where the bundle goes; missing or empty, or with `overwrite` another bundle.
        name: the bundle's name; the plan's own by default.
        exit_policy: what the bundle carries as its recommendation.
        tolerance: the largest absolute error allowed of a segment or of the composed model.
        int8_tolerance: quantise the layers to int8, once their float32 graphs are within
            `tolerance`, and allow the logits this absolute error then; without it they stay.
        layout: of the layers, where the model has packed ones; `auto` keeps the one that is
            quicker here.
        overwrite: replace a bundle at `out`.
        backend: runs the graphs while parity is measured; ONNX Runtime by default.
        progress: called with what is being done, steps done and steps in all.
        examples: a directory with `examples.jsonl`, over which parity is measured as well.
        write: writes a segment's graph to a file; each is measured, whoever wrote it. One that
            traces segments that are alike only once, by default.

    Raises:
        ExportError: the plan contradicts itself, `out` cannot be written, or parity fails.
        ExitPolicyError: the exit policy does not fit the model.
    """
    _check_tolerance(tolerance, int8_tolerance or 0.0)
    tell = progress or _silent
    runner, writer = backend or _default_backend(), write or AlikeWriter()
    plan = keep_layout(plan, layout, int8=int8_tolerance is not None)
    draft = _draft(plan, name, exit_policy)
    steps = len(plan.segments) + 3
    with staged(out) as stage:
        check_out(stage, out, overwrite=overwrite)  # nothing but the stage moves to `out`
        for done, segment in enumerate(plan.segments, 1):
            tell(f"trace {segment.name}", done, steps)
            writer(segment, stage / _file(segment))
        manifest = _with_files(draft, plan, stage)
        if layout == "auto" and any(lane.packed for lane in plan.lanes):
            tell("measure the layouts", steps - 2, steps)
            plan = keep_quicker(plan, Bundle(stage, manifest), runner)
            _remove_unplanned(plan, stage)
            manifest = _with_files(_draft(plan, name, exit_policy), plan, stage)
        tell("measure parity", steps - 2, steps)
        report = measure_bundle(plan, Bundle(stage, manifest), runner, examples, tolerance)
        if int8_tolerance is not None:
            tell("quantise the layers", steps - 2, steps)
            manifest = quantise_layers(Bundle(stage, manifest))
            runner = _default_backend()  # another one keeps the float32 graphs
            report = measure_bundle(plan, Bundle(stage, manifest), runner, examples, int8_tolerance)
        tell("write the bundle", steps - 1, steps)
        manifest = _finish(manifest, report, stage)
        Bundle.open(stage)
        size = sum(file.stat().st_size for file in stage.rglob("*") if file.is_file())
    tell("done", steps, steps)
    return ExportReport(out, manifest, report, size)


def _check_tolerance(*tolerances: float) -> None:
    for tolerance in tolerances:
        if not tolerance >= 0:
            raise ExportError(f"the tolerance must be 0 or more, found {tolerance}")


def _default_backend() -> Backend:
    return open_backend("onnxruntime", EngineConfig().compute_threads)


def _policy(source: Path, given: Path | None) -> ExitPolicy | None:
    own = source / POLICY_FILE
    if given is None:
        return load_exit_policy(own) if own.is_file() else None
    return load_exit_policy(given)


def _silent(step: str, done: int, steps: int) -> None:
    """Tell nobody."""


def _file(segment: SegmentPlan) -> str:
    return f"segments/{segment.name}.onnx"


def _draft(plan: BundlePlan, name: str | None, policy: ExitPolicy | None) -> Manifest:
    """Return the manifest before anything is traced, so that a bad plan fails at once."""
    for origin in plan.files.values():
        if not origin.is_file():
            raise ExportError(f"{origin} is missing: copy the whole checkpoint")
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": plan.name if name is None else name,
        "family": plan.family,
        "tasks": plan.tasks,
        "tensors": plan.tensors,
        "inputs": plan.inputs,
        **({"buckets": plan.buckets} if plan.buckets else {}),
        "lanes": plan.lanes,
        "segments": {segment.name: _spec(segment) for segment in plan.segments},
        "files": dict.fromkeys(plan.files, NO_SHA256),
        "tools": tool_versions(),
    }
    if policy is not None:
        content["exit_policy"] = policy.model_dump(mode="json", exclude_unset=True)
    try:
        manifest = Manifest(**content)
    except ValidationError as error:
        where, what = first_problem(error)
        raise ExportError(
            f"the bundle's manifest would not be valid at {where or 'its top'}: {what}"
        ) from None
    if policy is not None:
        compile_policy(policy, manifest)
    return manifest


def _spec(segment: SegmentPlan) -> SegmentSpec:
    return SegmentSpec(
        kind=segment.kind,
        file=_file(segment),
        sha256=NO_SHA256,
        inputs={port.name: port.reference for port in segment.inputs},
        outputs={port.name: port.reference for port in segment.outputs},
    )


def _with_files(draft: Manifest, plan: BundlePlan, stage: Path) -> Manifest:
    """Copy what the bundle holds beside its graphs; return the manifest with every sha256."""
    for file, origin in plan.files.items():
        shutil.copyfile(origin, stage / file)
    segments = {
        name: spec.model_copy(update={"sha256": file_sha256(stage / spec.file)})
        for name, spec in draft.segments.items()
    }
    files = {file: file_sha256(stage / file) for file in draft.files}
    return draft.model_copy(update={"segments": segments, "files": files})


def _remove_unplanned(plan: BundlePlan, stage: Path) -> None:
    """Remove the graphs of a layout that was not chosen."""
    planned = {stage / _file(segment) for segment in plan.segments}
    for file in (stage / _file(plan.segments[0])).parent.iterdir():
        if file not in planned:
            file.unlink()


def _finish(manifest: Manifest, report: ParityReport, stage: Path) -> Manifest:
    """Write `parity.json` and the manifest that lists it; return that manifest."""
    parity = stage / PARITY_FILE
    parity.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    segments = {
        name: spec.model_copy(update={"parity": report.segment(name)})
        for name, spec in manifest.segments.items()
    }
    files = {**manifest.files, PARITY_FILE: file_sha256(parity)}
    exact = report.packed is not None and report.packed.batch.bit_exact
    lanes = tuple(_proven(lane, exact) for lane in manifest.lanes)
    finished = manifest.model_copy(update={"segments": segments, "files": files, "lanes": lanes})
    text = finished.model_dump_json(indent=1, exclude_unset=True)
    (stage / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return finished


def _proven(lane: LaneSpec, exact: bool) -> LaneSpec:
    if lane.packed is None:
        return lane
    packed = lane.packed.model_copy(update={"batch_invariant": exact})
    return lane.model_copy(update={"packed": packed})
