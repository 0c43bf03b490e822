"""The tables that `exeunt inspect` prints."""

from collections.abc import Iterator, Mapping, Sequence

import yaml
from rich.table import Table

from exeunt.engine.bundle import Bundle, Manifest
from exeunt.engine.bundle.inputs import BOX_LAYOUTS, RegionsSpec
from exeunt.engine.bundle.manifest import LaneSpec, PrecisionSpec, SegmentParity
from exeunt.engine.bundle.tensors import (
    LOOP_TENSORS,
    PACK_TENSORS,
    Reference,
    StateSpec,
    TensorSpec,
)
from exeunt.export.parity.report import BatchParity, Measured, ParityReport


def tables(bundle: Bundle, parity: ParityReport | None) -> Iterator[Table | str]:
    """Yield what there is to say of a bundle, a table a subject."""
    manifest = bundle.manifest
    yield _table(
        f"Bundle {manifest.name}",
        ["family", "format", "written with"],
        [[manifest.family, str(manifest.format), _pairs(manifest.tools)]],
    )
    if manifest.precision is not None:
        yield _precision(manifest.precision, parity)
    yield _tasks(manifest)
    yield _inputs(manifest)
    yield _lanes(manifest)
    yield _segments(bundle)
    if parity:
        yield _parity(parity)
    else:
        yield "The bundle carries no parity report."
    policy = manifest.exit_policy
    if policy is None:
        yield "Exit policy: none; every row runs to full depth."
    else:
        text = yaml.safe_dump({"exit_policy": policy}, sort_keys=False).rstrip()
        yield _table("Exit policy", ["recommended by the bundle"], [[text]])


def _precision(precision: PrecisionSpec, parity: ParityReport | None) -> str:
    if precision.batch_invariant:
        return f"{precision.layers} layers: batch-invariant."
    moved = f"; by up to {parity.batch.max_abs_error:.2g} when it was exported" if parity else ""
    return (
        f"{precision.layers} layers: NOT batch-invariant: a row's tensors, and so its exit, move"
        f" with its batch mates{moved}. Refused under `engine.deterministic: true`."
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _tasks(manifest: Manifest) -> Table:
    rows = [
        [task.name, task.kind, task.lane, str(len(task.labels)), ", ".join(task.labels)]
        for task in manifest.tasks
    ]
    return _table("Tasks", ["task", "kind", "lane", "labels", "names"], rows)


def _inputs(manifest: Manifest) -> Table:
    rows = [["tensor", name, _shape(spec)] for name, spec in manifest.tensors.items()]
    for kind in type(manifest.inputs).model_fields:
        settings = getattr(manifest.inputs, kind)
        if settings is not None:
            shown = {
                key: value for key, value in settings.model_dump().items() if value is not None
            }
            said = _regions(settings) if isinstance(settings, RegionsSpec) else _pairs(shown)
            rows.append(["request", kind, said])
    for name, bucket in manifest.buckets.items():
        rows.append(["bucket", name, f"a multiple of {bucket.multiple}, at most {bucket.most}"])
    return _table("Inputs", ["from", "name", "what"], rows)


def _regions(spec: RegionsSpec) -> str:
    columns = ", ".join(BOX_LAYOUTS[spec.box_columns])
    units = "pixels" if spec.box_units == "pixels" else "normalised by width and height"
    return (
        f"at most {spec.max_regions}; features of {spec.feature_size} numbers -> {spec.features};"
        f" boxes {columns}, {units} -> {spec.boxes}; mask -> {spec.mask}"
    )


def _lanes(manifest: Manifest) -> Table:
    rows = []
    for lane in manifest.lanes:
        state = [f"{name}: {spec.role} {_shape(spec)}" for name, spec in lane.state.items()]
        heads = ", ".join(str(layer) for layer in lane.heads)
        final = f"; final {lane.final_head}" if lane.final_head else ""
        rows.append(
            [
                lane.name,
                ", ".join(lane.join) or "-",
                f"{lane.depth}, {_layouts(lane)}",
                "\n".join(state),
                (heads or "-") + final,
                ", ".join(lane.scores) or "-",
            ]
        )
    columns = ["lane", "joins", "layers", "state", "heads after", "can be judged by"]
    return _table("Lanes", columns, rows)


def _layouts(lane: LaneSpec) -> str:
    if lane.packed is None:
        return "padded"
    proven = "" if lane.packed.batch_invariant else " (not batch-invariant)"
    return f"packed{proven}" if lane.layers == lane.packed.layers else f"padded or packed{proven}"


def _segments(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    rows = []
    for name, spec in manifest.segments.items():
        lane = next(lane for lane in manifest.lanes if name in lane.every_segment())
        size = bundle.path(spec.file).stat().st_size
        error, tolerance = _errors(spec.parity)
        rows.append(
            [
                name,
                spec.kind,
                _ports(manifest, lane, spec.inputs),
                _ports(manifest, lane, spec.outputs),
                f"{size / 1024:.0f} KB",
                error,
                tolerance,
            ]
        )
    columns = ["segment", "kind", "inputs", "outputs", "size", "max error", "tolerance"]
    return _table("Segments", columns, rows)


def _parity(report: ParityReport) -> Table:
    rows = []
    kinds: list[tuple[str, Measured | None]] = [("random", report.random), ("real", report.real)]
    for kind, measured in kinds:
        if measured is None:
            rows.append([kind, "-", "the checkpoint brought no examples", "-", "-"])
            continue
        for head, parity in measured.composed.items():
            rows.append([kind, str(measured.samples), head, *_errors(parity)])
        share = f"{measured.same_answers:.2%} of the answers are the same"
        rows.append([kind, str(measured.samples), share, "-", "-"])
    if report.packed:
        for head, parity in report.packed.measured.composed.items():
            rows.append(["packed", str(report.packed.measured.samples), head, *_errors(parity)])
        rows.append(_batch("packed", report.packed.batch))
    rows.append(_batch("both", report.batch))
    title = f"Parity of the chained segments: {report.runtime} against {report.reference}"
    return _table(title, ["inputs", "samples", "what", "max error", "tolerance"], rows)


def _batch(inputs: str, batch: BatchParity) -> list[str]:
    alone = "bit for bit" if batch.bit_exact else "within the error"
    said = f"row in a batch = row alone, {alone}"
    return [inputs, str(batch.rows), said, f"{batch.max_abs_error:.2g}", "-"]


def _errors(parity: SegmentParity | None) -> list[str]:
    if parity is None:
        return ["not measured", "-"]
    return [f"{parity.max_abs_error:.2g}", f"{parity.tolerance:g}"]


def _ports(manifest: Manifest, lane: LaneSpec, ports: Mapping[str, str]) -> str:
    return "\n".join(f"{text} {_referred(manifest, lane, text)}" for text in ports.values())


def _referred(manifest: Manifest, lane: LaneSpec, text: str) -> str:
    """Return the shape and dtype of what a reference names, in the lane that uses it."""
    scope, name = Reference.parse(text)
    if scope == "head":
        return f"float32 [{lane.classes}]"
    if scope == "input":
        return _shape(manifest.tensors[name])
    if scope == "loop":
        return _shape(LOOP_TENSORS[name])
    if scope == "pack":
        return _shape(PACK_TENSORS[name])
    owner = manifest.lane(scope) if scope else lane
    return _shape(owner.state[name])


def _shape(spec: TensorSpec | StateSpec) -> str:
    return f"{spec.dtype} [{', '.join(str(size) for size in spec.shape)}]"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
