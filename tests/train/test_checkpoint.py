"""The shipped checkpoint gives the accuracy that is written down beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

import exeunt.train.demo
from exeunt.export.families.demo import load_checkpoint
from exeunt.train.demo.curves import ExitRecord
from exeunt.train.demo.data import load_split
from exeunt.train.demo.evaluation import score_exits
from exeunt.train.demo.words import LABELS, tokenizer_json

CHECKPOINT = Path(exeunt.train.demo.__file__).parent / "checkpoint"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    curves = json.loads((CHECKPOINT / "curves.json").read_text(encoding="utf-8"))
    shipped: dict[str, Any] = curves["stages"][curves["shipped_stage"]]
    return shipped


@pytest.fixture(scope="module")
def record() -> ExitRecord:
    return score_exits(load_checkpoint(CHECKPOINT), load_split("calibration"))


def test_the_recorded_accuracy_is_reproduced(record: ExitRecord, recorded: dict[str, Any]) -> None:
    for name, prefix in (("questions", "question/"), ("statements", "statement/")):
        found = record.accuracy_by_exit(record.rows(prefix))
        # Another machine's rounding may turn a few answers.
        assert found == pytest.approx(recorded["groups"][name]["accuracy_by_exit"], abs=2e-3)


def test_the_recorded_threshold_saves_what_it_says(
    record: ExitRecord, recorded: dict[str, Any]
) -> None:
    for name, prefix in (("all", ""), ("statements", "statement/")):
        point = record.at(recorded["threshold"], record.rows(prefix))
        said = recorded["groups"][name]["at_threshold"]
        assert point.rho == pytest.approx(said["rho"], abs=2e-3)
        assert point.accuracy == pytest.approx(said["accuracy"], abs=2e-3)
        assert point.accuracy >= record.accuracy_by_exit(record.rows(prefix))[-1] - 0.005


def test_the_targets_are_met_on_calibration(record: ExitRecord) -> None:
    assert record.accuracy_by_exit(record.rows("question/"))[-1] >= 0.995
    assert record.accuracy_by_exit(record.rows("statement/"))[-1] >= 0.94


def test_the_directory_is_whole_and_small() -> None:
    assert json.loads((CHECKPOINT / "labels.json").read_text()) == list(LABELS)
    assert (CHECKPOINT / "tokenizer.json").read_text() == tokenizer_json() + "\n"
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 8 * 2**20
    assert (CHECKPOINT / "preprocessor.json").exists()
