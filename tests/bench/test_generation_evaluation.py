"""Evaluation of bundles that generate: labels, texts, and what lanes and tokens save."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exeunt.bench.data.generation import GenerationSample, load_generation_data
from exeunt.bench.evaluation.captions import bleu4_and_cider
from exeunt.bench.evaluation.generation import evaluate_generation
from exeunt.bench.evaluation.generation_report import LaneExits, TaskReport
from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import ExitPolicy, never
from tests.server.generating import RULES, generating

POLICY = ExitPolicy.model_validate({"tasks": {"default": RULES["ofa"]}})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    bundle = generating("ofa", tmp_path)
    config = {"max_batch_rows": 8, "state_cache_bytes": 0}
    with Engine.open(bundle, config, backend=FakeBackend()) as opened:
        yield opened


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def drawn(count: int) -> list[GenerationSample]:
    judged = [
        GenerationSample(picture(n), "judge", f"a cat {n}", ("yes", "no", "maybe")[n % 3])
        for n in range(count)
    ]
    return judged + [
        GenerationSample(picture(n), "caption", references=("a cat", "a dog")) for n in range(count)
    ]


def test_a_report_agrees_with_asking_one_by_one(engine: Engine) -> None:
    samples = drawn(9)
    report = evaluate_generation(engine, samples, POLICY, "own")
    policy = engine.compile(POLICY)
    answers = []
    for sample in samples:
        with engine.reserve() as ticket:
            fields = {"image": sample.image, "text": sample.text, "task": sample.task}
            answers.append(engine.submit(ticket, fields, policy).result())
    judged, told = answers[:9], answers[9:]
    found = report.as_json()
    assert found["accuracy"] == sum(
        a.label == s.label for a, s in zip(judged, samples, strict=False)
    ) / len(judged)
    bleu4, cider = bleu4_and_cider(
        [a.text or "" for a in told], [s.references for s in samples[9:]]
    )
    assert (found["bleu4"], found["cider"]) == (bleu4, cider)
    for name, own in (("judge", judged), ("caption", told)):
        tokens = [layer for answer in own for layer in answer.token_exit_layers]
        encoders = [
            answer.lanes[lane].exit_layer / 3 for answer in own for lane in ("image", "text")
        ]
        expected = 1 - (sum(encoders) / len(encoders) + sum(tokens) / len(tokens) / 3) / 2
        assert found[f"reduction_{name}"] == pytest.approx(expected)
        assert sum(found["exits"][name]["decoder"].values()) == len(tokens)
        assert found["tasks"][name]["tokens"] == len(tokens)
    assert found["reduction"] == min(found["reduction_judge"], found["reduction_caption"])
    assert found["reduction"] > 0
    assert found["tasks"]["caption"]["speed_up"] > 0
    json.dumps(found)


def test_full_depth_saves_nothing(engine: Engine) -> None:
    report = evaluate_generation(engine, drawn(4), never(), "own")
    assert report.as_json()["reduction"] == 0.0
    assert report.tasks["judge"].never_seconds is None
    assert report.tasks["caption"].speed_up is None


def test_the_reduction_is_that_of_the_paper() -> None:
    lanes = {
        "image": LaneExits.of([1, 2], 6),
        "text": LaneExits.of([6, 6], 6),
        "decoder": LaneExits.of([2, 2, 2, 6], 6),
    }
    task = TaskReport(2, None, None, None, lanes, "decoder", 4, 1.0, 4, 2.0)
    assert task.reduction == pytest.approx(1 - (((1.5 + 6) / 2) / 6 + 12 / 24) / 2)
    assert task.speed_up == pytest.approx(2.0)


def test_scores_of_captions() -> None:
    texts = ["a red cat, left of a dog", "two birds above one tree"]
    references = [["a red cat , left of a dog", "a dog"], ["two Birds above one tree"]]
    bleu4, cider = bleu4_and_cider(texts, references)
    assert bleu4 == pytest.approx(100.0, abs=1e-3)
    worse = bleu4_and_cider(["a red cat", "two birds"], references)
    assert worse[0] < bleu4
    assert worse[1] < cider


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"image": "0.png", "task": "judge"}, "either `label` or `references`"),
        ({"image": "0.png", "task": "judge", "label": "a", "references": ["b"]}, "either"),
        ({"image": "1.png", "task": "judge", "label": "a"}, "line 1"),
        ({"image": "0.png", "label": "a"}, "task"),
    ],
)
def test_data_that_cannot_be_used_is_named(
    tmp_path: Path, line: dict[str, object], message: str
) -> None:
    picture(0).save(tmp_path / "0.png")
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_generation_data(str(file))


def test_data_of_another_bundle_is_refused(engine: Engine) -> None:
    for sample, message in (
        (GenerationSample(picture(0), "vqa", "a", "b"), "task 'vqa'"),
        (GenerationSample(picture(0), "judge", "a", "sometimes"), "label 'sometimes'"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate_generation(engine, [sample], POLICY, "own")
