"""UNITER's tasks that no golden has, against a plain forward; and what the family refuses."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from exeunt.engine import Engine
from exeunt.engine.probe import LaneProbe
from exeunt.export.bundle import export_bundle
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe
from tests.export.families.uniter_reference import (
    LAYERS,
    Array,
    Row,
    draw_rows,
    padded,
    write_checkpoint,
)

TEXT, REGIONS = ("input_ids", "attention_mask"), ("region_features", "region_boxes", "region_mask")
TOLERANCE = 1e-4

Opened = tuple[Engine, Row]
Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def open_uniter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    engines = []

    @functools.cache
    def opened(task: str, family: str | None = None) -> Opened:
        source = tmp_path_factory.mktemp(task)
        weights = write_checkpoint(
            source, "itm" if task == "retrieval" else task, old_names=True, dtype=torch.float16
        )
        asked = SourceOptions(task=task)
        out = source.with_name(f"{source.name}-bundle")
        export_bundle(source, out, family=family, options=asked)
        engines.append(Engine.open(out, {"warm_up": False}))
        return engines[-1], Row(weights)

    yield opened
    for engine in engines:
        engine.close()


def expected_states(reference: Row, row: dict[str, Array]) -> list[torch.Tensor]:
    names = ("input_ids", "token_type_ids", "region_features", "region_boxes")
    return reference.states(*(torch.from_numpy(row[name]) for name in names))


def check_row(found: list[Array], expected: list[torch.Tensor]) -> None:
    for layer, state in enumerate(expected):
        np.testing.assert_allclose(found[layer][: len(state)], state, atol=TOLERANCE, rtol=0)


def test_villa_is_loaded_as_uniter(open_uniter: Open) -> None:
    engine, reference = open_uniter("ve", "villa")
    assert engine.manifest.family == "villa"
    assert engine.manifest.tasks[0].labels == ("contradiction", "entailment", "neutral")
    rows = draw_rows(5)
    probe = engine.probe(padded(rows, (*TEXT, *REGIONS)))["joint"]
    for place, row in enumerate(rows):
        states = expected_states(reference, row)
        check_row([state[place] for state in probe.hidden], states)
        for layer, logits in probe.logits.items():  # the one head answers after every layer
            wanted = reference.classify("vqa_output", states[layer])
            np.testing.assert_allclose(logits[place], wanted, atol=TOLERANCE, rtol=0)
    assert set(probe.scores) == {"cosine"}


@pytest.mark.parametrize(("task", "output"), [("itm", "itm_output"), ("retrieval", "rank_output")])
def test_matching_and_ranking(task: str, output: str, open_uniter: Open) -> None:
    engine, reference = open_uniter(task)
    assert engine.manifest.tasks[0].kind == ("ranking" if task == "retrieval" else "matching")
    rows = draw_rows(4)
    probe = engine.probe(padded(rows, (*TEXT, *REGIONS)))["joint"]
    for place, row in enumerate(rows):
        last = expected_states(reference, row)[-1]
        wanted = reference.linear(output, reference.pooled(last))
        found = probe.logits[LAYERS][place]
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0)


def vcr_tensors(samples: list[list[dict[str, Array]]]) -> dict[str, Array]:
    """Return samples of four choices: each has its text, all the regions of the first."""
    names = (*TEXT, "token_type_ids")
    flat = padded([row for sample in samples for row in sample], names)
    text = {name: array.reshape(-1, 4, *array.shape[1:]) for name, array in flat.items()}
    return text | padded([sample[0] for sample in samples], REGIONS)


def check_vcr(probe: LaneProbe, samples: list[list[dict[str, Array]]], reference: Row) -> None:
    for place, sample in enumerate(samples):
        states = [expected_states(reference, row) for row in sample]
        for choice, expected in enumerate(states):
            check_row([state[place, choice] for state in probe.hidden], expected)
        for layer, logits in probe.logits.items():
            wanted = [reference.classify("vcr_output", one[layer])[1] for one in states]
            np.testing.assert_allclose(logits[place], wanted, atol=TOLERANCE, rtol=0)


def test_four_choices_leave_as_a_group(open_uniter: Open) -> None:
    engine, reference = open_uniter("vcr")
    lane = engine.manifest.lane("joint")
    assert (lane.rows, lane.unit, lane.classes) == (4, "group", 4)
    assert engine.manifest.tasks[0].kind == "multiple_choice"
    rows = draw_rows(12, types=4)
    samples = [rows[place : place + 4] for place in (0, 4, 8)]
    for sample in samples:
        for row in sample:
            row |= {name: sample[0][name] for name in REGIONS}
    together = engine.probe(vcr_tensors(samples))["joint"]
    check_vcr(together, samples, reference)
    for sample in samples:
        check_vcr(engine.probe(vcr_tensors([sample]))["joint"], [sample], reference)
    answers = engine.run(vcr_tensors(samples))
    assert [answer.index for answer in answers] == together.logits[LAYERS].argmax(1).tolist()


def test_a_group_leaves_by_cosine(open_uniter: Open) -> None:
    engine, _ = open_uniter("vcr")
    tensors = vcr_tensors([draw_rows(4, types=4)])
    scores = engine.probe(tensors)["joint"].scores["cosine"]  # [L, 1]
    rule = {"criterion": "cosine", "threshold": float(scores[0, 0]) - 1e-4}
    policy = {"tasks": {"default": {"joint": {"any": [rule]}}}}
    engine.replace_exit_policy(type(engine.policy).model_validate(policy))
    assert [answer.exit_layer for answer in engine.run(tensors)] == [1]


def test_inputs_follow_the_checkpoint_and_the_tokenizer(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "ve")
    plan = describe(tmp_path)
    assert plan.inputs.text is None
    assert plan.inputs.regions is not None
    assert (plan.inputs.regions.box_columns, plan.inputs.regions.max_regions) == (7, 12)
    assert {name: bucket.most for name, bucket in plan.buckets.items()} == {"S": 16, "R": 12}
    words = {f"w{place}": place for place in range(60)}
    tokenizer = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(tokenizer))
    plan = describe(tmp_path, options=SourceOptions(tokenizer=tokenizer))
    assert plan.inputs.text is not None
    assert plan.inputs.text.max_tokens == 16
    assert plan.files == {"tokenizer.json": tokenizer}


def test_labels_replace_the_official_ones(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source", "ve")
    labels = tmp_path / "labels.txt"
    labels.write_text("no\nyes\nperhaps\n")
    plan = describe(tmp_path / "source", options=SourceOptions(labels=labels))
    assert plan.tasks[0].labels == ("no", "yes", "perhaps")
