"""The scenes bundle that ships is the checkpoint that ships, and leaves where the model says."""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import pytest

from exeunt.engine import Engine
from exeunt.engine.answer import Answer
from exeunt.engine.exit_policy import ExitPolicy, never
from exeunt.export.families.ofa.checkpoint import load_model
from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.scenes.data import (
    CaptionSample,
    EntailmentSample,
    load_captions,
    load_entailment,
)
from exeunt.train.scenes.evaluation import CaptionTask, EntailmentTask
from exeunt.train.scenes.exits import ExitPlan
from exeunt.train.scenes.report import FLOORS, plan_of

CHECKPOINT = Path(str(resources.files("exeunt.train"))) / "scenes" / "checkpoint"
NUM_STATEMENTS, NUM_SCENES = 60, 12


@pytest.fixture(scope="module")
def model() -> OfaModel:
    return load_model(CHECKPOINT)


def shipped_plan(task: str) -> ExitPlan:
    results = json.loads((CHECKPOINT / "results.json").read_text())
    return plan_of(results[results["shipped"][task]][task][f"{FLOORS[task][0]:g}"]["plan"])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.open("scenes") as opened:
        yield opened


def answers_of(
    engine: Engine,
    policy: ExitPolicy,
    samples: Sequence[CaptionSample | EntailmentSample],
    task: str,
) -> list[Answer]:
    compiled = engine.compile(policy)
    with engine.reserve(len(samples) * engine.rows_per_sample) as ticket:
        pending = []
        for one in samples:
            # The task asks for a caption itself.
            text = {} if isinstance(one, CaptionSample) else {"text": one.text}
            sample = {"image": one.image, "task": task, **text}
            pending.append(engine.submit(ticket, sample, compiled))
        return [future.result() for future in pending]


@pytest.mark.parametrize("exits", [False, True])
def test_captions_and_their_exits_are_the_checkpoint_s(
    engine: Engine, model: OfaModel, exits: bool
) -> None:
    samples = load_captions("test", NUM_SCENES)
    task = CaptionTask(model, samples)
    layers = task.run(shipped_plan("caption") if exits else ExitPlan()).layers
    answers = answers_of(engine, engine.policy if exits else never(), samples, "caption")
    assert [answer.text for answer in answers] == task.texts
    found = [layer for answer in answers for layer in answer.token_exit_layers or ()]
    assert sorted(found) == sorted(layers.tokens.tolist())
    assert [answer.lanes["image"].exit_layer for answer in answers] == layers.image.tolist()


def test_statements_leave_where_the_checkpoint_says(engine: Engine, model: OfaModel) -> None:
    samples = load_entailment("test", NUM_STATEMENTS)
    outcome = EntailmentTask(model, samples).run(shipped_plan("entailment"))
    answers = answers_of(engine, engine.policy, samples, "entailment")
    for lane in ("image", "text"):
        wanted = getattr(outcome.layers, lane).tolist()
        assert [answer.lanes[lane].exit_layer for answer in answers] == wanted
    assert [answer.exit_layer for answer in answers] == outcome.layers.tokens.tolist()
    right = sum(answer.label == one.answer for answer, one in zip(answers, samples, strict=True))
    assert 100 * right / NUM_STATEMENTS == pytest.approx(outcome.quality["accuracy"])
