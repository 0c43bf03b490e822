"""Packed layers: exported beside padded ones, or in their place, with their parity measured."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.bench.workloads import UniterConfig, draw_samples
from exeunt.bench.workloads.uniter_plan import uniter_plan
from exeunt.engine import Engine
from exeunt.engine.answer import Answer
from exeunt.engine.bundle.reader import Bundle
from exeunt.export import layout as layout_choice
from exeunt.export.alike import AlikeWriter
from exeunt.export.bundle import ExportReport, export_bundle, write_bundle
from exeunt.export.errors import ExportError
from exeunt.export.parity.report import PARITY_FILE, ParityReport

Sample = dict[str, NDArray[Any]]
CONFIG = UniterConfig(hidden=64, layers=2, words=20, regions=14, vocab=50)
MATES = 24
WRITER = AlikeWriter()  # what it has traced once serves every bundle here


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    out = tmp_path_factory.mktemp("packed") / "both"
    return write_bundle(uniter_plan(CONFIG), out, layout="both", write=WRITER)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    drawn = draw_samples(CONFIG, MATES, lengths="varying")
    for sample in drawn[::3]:  # padding in the middle of the row
        sample["attention_mask"][-2:] = 0
    return drawn


def open_engine(report: ExportReport, **config: object) -> Engine:
    return Engine.open(report.out, {"max_batch_rows": 16, **config})


def answers(engine: Engine, samples: list[Sample]) -> list[Answer]:
    """Return the answers of samples that wait at the same time."""
    with engine.reserve(len(samples)) as ticket:
        futures = [engine.submit_tensors(ticket, sample) for sample in samples]
        return [future.result(timeout=60) for future in futures]


def test_both_layouts_are_within_tolerance_of_torch(both: ExportReport) -> None:
    lane = both.manifest.lane("joint")
    assert lane.packed is not None
    assert lane.packed.layers == ("packed.01", "packed.02")
    assert lane.packed.batch_invariant
    report = ParityReport.model_validate_json((both.out / PARITY_FILE).read_bytes())
    assert report.packed is not None
    assert report.packed.batch.bit_exact
    assert report.packed.batch.rows > 20
    assert set(report.packed.measured.segments) >= {"packed.01", "packed.02"}
    for name in ("packed.01", "layer.01"):
        parity = both.manifest.segments[name].parity
        assert parity is not None
        assert parity.max_abs_error <= 1e-5
    written = json.loads((both.out / "manifest.json").read_text())
    assert written["format"] == 1
    assert written["buckets"] == {
        "S": {"multiple": 4, "most": 20},
        "R": {"multiple": 4, "most": 14},
    }
    Bundle.open(both.out)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def packed(request: pytest.FixtureRequest, both: ExportReport) -> Iterator[Engine]:
    with open_engine(both, layout="packed", backend=request.param, deterministic=True) as engine:
        assert engine.layouts == {"joint": "packed"}
        yield engine


def test_a_row_has_the_same_bits_whatever_shares_its_batch(
    packed: Engine, samples: list[Sample]
) -> None:
    alone = [answers(packed, [sample])[0].logits for sample in samples]
    for some in (samples, samples[::-1], samples[::2], samples[5:9]):
        found = answers(packed, some)
        for sample, answer in zip(some, found, strict=True):
            place = next(n for n, other in enumerate(samples) if other is sample)
            np.testing.assert_array_equal(answer.logits, alone[place])


def test_the_layouts_answer_alike(both: ExportReport, samples: list[Sample]) -> None:
    found = []
    for layout in ("padded", "packed"):
        with open_engine(both, layout=layout) as engine:
            found.append(np.stack([answer.logits for answer in answers(engine, samples)]))
    assert np.abs(found[0] - found[1]).max() <= 1e-5


def test_exits_are_those_of_padded_rows_outside_the_rounding_of_a_threshold(
    both: ExportReport, samples: list[Sample]
) -> None:
    with open_engine(both, layout="padded") as engine:
        probes = [
            engine.probe({name: array[None] for name, array in sample.items()})["joint"].scores
            for sample in samples
        ]
    for criterion in ("cosine", "entropy"):
        after_first = sorted(float(scores[criterion][0, 0]) for scores in probes)
        threshold = (after_first[MATES // 2 - 1] + after_first[MATES // 2]) / 2
        rule = {"criterion": criterion, "threshold": threshold}
        policy = {"version": 1, "tasks": {"default": {"joint": {"any": [rule]}}}}
        found = {}
        for layout in ("padded", "packed"):
            with open_engine(both, layout=layout, exit_policy=policy) as engine:
                found[layout] = answers(engine, samples)
        for one, other in zip(found["padded"], found["packed"], strict=True):
            assert one.score is not None
            assert one.threshold is not None
            if abs(one.score - one.threshold) > 1e-5:
                assert one.exit_layer == other.exit_layer
                assert one.score == pytest.approx(other.score, abs=1e-5)
        assert len({answer.exit_layer for answer in found["packed"]}) == 2, criterion


def test_probe_and_engine_agree_on_packed_tokens(both: ExportReport, samples: list[Sample]) -> None:
    sample = samples[0]
    with open_engine(both, layout="packed") as engine:
        probe = engine.probe({name: array[None] for name, array in sample.items()})["joint"]
        (answer,) = answers(engine, [sample])
    np.testing.assert_array_equal(probe.logits[2][0], answer.logits)


def test_a_bundle_of_packed_layers_alone(tmp_path: Path, samples: list[Sample]) -> None:
    report = write_bundle(uniter_plan(CONFIG), tmp_path / "packed", layout="packed", write=WRITER)
    assert not any(name.startswith("layer.") for name in report.manifest.segments)
    assert sorted(file.stem for file in (report.out / "segments").glob("packed*"))
    assert report.parity.batch.bit_exact
    with open_engine(report) as engine:
        assert engine.layouts == {"joint": "packed"}
        assert len({answer.index for answer in answers(engine, samples)}) > 1


@pytest.mark.parametrize("quicker", ["padded", "packed"])
def test_auto_keeps_the_quicker_layout_alone(
    quicker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout_choice, "quicker_layout", lambda *_: quicker)
    report = write_bundle(uniter_plan(CONFIG), tmp_path / "auto", write=WRITER)
    files = {file.stem for file in (report.out / "segments").iterdir()}
    assert files == set(report.manifest.segments)
    assert ("packed.01" in files, "layer.01" in files) == (quicker == "packed", quicker == "padded")
    assert (report.manifest.lane("joint").packed is None) == (quicker == "padded")
    assert (report.parity.packed is None) == (quicker == "padded")


def test_auto_measures_the_layouts(tmp_path: Path) -> None:
    plan = uniter_plan(CONFIG)
    report = write_bundle(plan, tmp_path / "auto", write=WRITER)
    layers = report.manifest.lane("joint").layers
    assert {name.partition(".")[0] for name in layers} in ({"packed"}, {"layer"})


@pytest.mark.parametrize("layout", ["packed", "both"])
def test_a_family_without_packed_layers_is_named(
    layout: Any, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"'demo' has no packed layers.*--layout padded"):
        export_bundle(checkpoint, tmp_path / "bundle", layout=layout)


def test_packed_layers_are_not_quantised(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be int8"):
        write_bundle(uniter_plan(CONFIG), tmp_path / "a", layout="both", int8_tolerance=1.0)
    report = write_bundle(uniter_plan(CONFIG), tmp_path / "b", int8_tolerance=100.0, write=WRITER)
    assert report.manifest.lane("joint").packed is None
