"""Writing a bundle from a plan, without a checkpoint's directory."""

from pathlib import Path

import pytest

from exeunt.engine.bundle import Bundle
from exeunt.engine.errors import ExitPolicyError
from exeunt.engine.exit_policy import ExitPolicy, LaneRules, RuleSpec
from exeunt.export.bundle import ExportReport, write_bundle
from exeunt.export.errors import ExportError
from exeunt.export.families.demo_family import DemoFamily
from exeunt.export.plan import BundlePlan, SegmentPlan


@pytest.fixture(scope="module")
def plan(checkpoint: Path) -> BundlePlan:
    return DemoFamily().describe(checkpoint)


def _policy(lane: str) -> ExitPolicy:
    rule = RuleSpec(criterion="entropy", threshold=0.25)
    return ExitPolicy(version=2, tasks={"default": {lane: LaneRules(any=(rule,))}})


def test_a_plan_is_written_by_whoever_is_given(
    plan: BundlePlan, exported: ExportReport, tmp_path: Path
) -> None:
    """The graphs are those that tracing gave, so parity is measured on what was written."""
    written: list[str] = []

    def copy(segment: SegmentPlan, file: Path) -> None:
        written.append(segment.name)
        file.parent.mkdir(exist_ok=True)
        spec = exported.manifest.segments[segment.name]
        file.write_bytes((exported.out / spec.file).read_bytes())

    out = tmp_path / "bundle"
    report = write_bundle(plan, out, name="planned", exit_policy=_policy("joint"), write=copy)
    assert written == [segment.name for segment in plan.segments]
    assert report.parity.real is None  # no examples were given
    assert report.parity.random == exported.parity.random
    opened = Bundle.open(out).manifest
    assert opened == report.manifest
    assert opened.name == "planned"
    assert opened.exit_policy is not None
    assert opened.exit_policy["version"] == 2
    assert opened.segments["layer.01"].sha256 == exported.manifest.segments["layer.01"].sha256


def test_a_wrong_graph_is_found_out(
    plan: BundlePlan, exported: ExportReport, tmp_path: Path
) -> None:
    def confuse(segment: SegmentPlan, file: Path) -> None:
        name = segment.name.replace("head.01", "head.02")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((exported.out / exported.manifest.segments[name].file).read_bytes())

    with pytest.raises(ExportError, match=r"parity failed: segment 'head\.01'"):
        write_bundle(plan, tmp_path / "bundle", write=confuse)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(
    plan: BundlePlan, exported: ExportReport, tmp_path: Path
) -> None:
    def never(segment: SegmentPlan, file: Path) -> None:
        raise AssertionError("nothing is traced before the place is known to be free")

    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ExportError, match=r"is not empty: .*--overwrite"):
        write_bundle(plan, tmp_path, write=never)
    with pytest.raises(ExportError, match="no bundle"):
        write_bundle(plan, tmp_path, overwrite=True, write=never)
    with pytest.raises(ExportError, match="tolerance must be 0 or more"):
        write_bundle(plan, tmp_path / "bundle", tolerance=float("nan"), write=never)
    with pytest.raises(ExitPolicyError, match="fusion"):
        write_bundle(plan, tmp_path / "bundle", exit_policy=_policy("fusion"), write=never)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
