"""Exit policies at work: what an answer says, and policies that change while samples walk."""

import math

import numpy as np
import pytest

from exeunt.engine import Engine, ExitPolicy
from exeunt.engine.backends.fake import FakeBackend
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors
from tests.support.waiting import GatedBackend

MANIFEST = single_stream(layers=6, labels=("no", "yes", "maybe"))
TENSORS = random_tensors(MANIFEST, 8)


def policy(*rules: dict[str, object], how: str = "any", version: int = 1) -> ExitPolicy:
    return ExitPolicy.model_validate(
        {"version": version, "tasks": {"default": {"joint": {how: list(rules)}}}}
    )


def open_engine(chosen: ExitPolicy | None = None, **parts: object) -> Engine:
    manifest = single_stream(layers=6, labels=("no", "yes", "maybe"), **parts)  # type: ignore[arg-type]
    return Engine.open(fake_bundle(manifest), {"backend": "fake", "exit_policy": chosen})


def test_an_answer_says_what_decided() -> None:
    rule = {"criterion": "entropy", "threshold": 0.3}
    with open_engine(policy(rule, version=4)) as engine:
        answers = engine.run(TENSORS)
        record = engine.probe(TENSORS)["joint"]
    for place, answer in enumerate(answers):
        layer = int(np.argmax(record.scores["entropy"][:, place] < 0.3)) + 1
        assert answer.exit_layer == layer
        assert (answer.criterion, answer.reason) == ("entropy", "criterion")
        assert answer.score == float(record.scores["entropy"][layer - 1, place])
        assert answer.threshold == 0.3
        assert answer.policy_version == 4
        np.testing.assert_array_equal(answer.logits, record.logits[layer][place])
        assert answer.label == ("no", "yes", "maybe")[int(answer.logits.argmax())]
        assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert answer.timings_ms.total == pytest.approx(
            answer.timings_ms.queue + answer.timings_ms.compute
        )


def test_never_says_so() -> None:
    with open_engine() as engine:
        answer = engine.run(TENSORS)[0]
    assert (answer.criterion, answer.reason, answer.exit_layer) == ("never", "depth", 6)
    assert answer.score is None
    assert answer.threshold is None


def test_a_rule_that_never_fired_is_named_with_its_last_score() -> None:
    with open_engine(policy({"criterion": "entropy", "threshold": 0.0})) as engine:
        answer = engine.run(TENSORS)[0]
        last = engine.probe(TENSORS)["joint"].scores["entropy"][5, 0]
    assert (answer.criterion, answer.reason, answer.exit_layer) == ("entropy", "depth", 6)
    assert (answer.score, answer.threshold) == (float(last), 0.0)


def test_the_rule_that_fired_is_named_where_there_are_several() -> None:
    blocked = {"criterion": "entropy", "threshold": 0.0}
    fires = {"criterion": "confidence", "threshold": 0.0, "min_layer": 2}
    with open_engine(policy(blocked, fires)) as engine:
        answer = engine.run(TENSORS)[0]
    assert (answer.criterion, answer.exit_layer, answer.threshold) == ("confidence", 2, 0.0)
    with open_engine(policy(fires, blocked, how="all")) as engine:
        assert engine.run(TENSORS)[0].reason == "depth"


def test_min_layer_of_all_rules_must_be_reached() -> None:
    early = {"criterion": "confidence", "threshold": 0.0}
    late = {"criterion": "cosine", "threshold": -1.0, "min_layer": 4}
    with open_engine(policy(early, late, how="all")) as engine:
        assert {answer.exit_layer for answer in engine.run(TENSORS)} == {4}
    with open_engine(policy(early, late)) as engine:
        assert {answer.exit_layer for answer in engine.run(TENSORS)} == {1}


@pytest.mark.parametrize("min_layer", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("patience", [0, 1, 2, 3, 6])
def test_patience_counts_from_layer_1_and_min_layer_only_bars_exits(
    patience: int, min_layer: int
) -> None:
    rule = {"criterion": "patience", "threshold": patience, "min_layer": min_layer}
    with open_engine(policy(rule)) as engine:
        answers = engine.run(TENSORS)
        logits = engine.probe(TENSORS)["joint"].logits
    for place, answer in enumerate(answers):
        said = [int(logits[layer][place].argmax()) for layer in range(1, 7)]
        streak, expected = 0, 6
        for layer in range(2, 7):
            streak = streak + 1 if said[layer - 1] == said[layer - 2] else 0
            if patience and streak >= patience and layer >= min_layer:
                expected = layer
                break
        assert answer.exit_layer == expected, said


def test_some_answers_change_so_that_patience_is_really_tested() -> None:
    with open_engine() as engine:
        logits = engine.probe(random_tensors(MANIFEST, 40))["joint"].logits
    said = np.stack([logits[layer].argmax(axis=1) for layer in range(1, 7)])
    assert (said[0] != said[1]).any()
    assert (said[1] != said[2]).any()


def test_each_layer_has_its_own_threshold() -> None:
    thresholds = [0.0, 0.0, math.log(3) + 1, 0.0, 0.0, 0.0]
    with open_engine(policy({"criterion": "entropy", "threshold": thresholds})) as engine:
        assert {answer.exit_layer for answer in engine.run(TENSORS)} == {3}


@pytest.mark.parametrize("final_head", [False, True])
def test_the_last_layer_is_tested_too(final_head: bool) -> None:
    rule = {"criterion": "confidence", "threshold": 0.0, "min_layer": 6}
    with open_engine(policy(rule), final_head=final_head) as engine:
        answer = engine.run(TENSORS)[0]
        record = engine.probe(TENSORS)["joint"]
    assert (answer.exit_layer, answer.reason, answer.criterion) == (6, "criterion", "confidence")
    np.testing.assert_array_equal(answer.logits, record.logits[6][0])


def test_no_head_runs_that_no_rule_reads() -> None:
    for rules, heads in (
        ((), ["head.06"]),
        (({"criterion": "cosine", "threshold": 1.0},), ["head.06"]),
        (({"criterion": "entropy", "threshold": 0.0, "min_layer": 5},), ["head.05", "head.06"]),
        (
            ({"criterion": "patience", "threshold": 6, "min_layer": 5},),
            [f"head.0{layer}" for layer in range(1, 7)],
        ),
    ):
        backend = FakeBackend()
        chosen = policy(*rules) if rules else None
        config = {"exit_policy": chosen}
        with Engine.open(fake_bundle(MANIFEST), config, backend=backend) as engine:
            engine.run(random_tensors(MANIFEST, 1))
        assert [name for name, _ in backend.calls if name.startswith("head")] == heads


def test_a_sample_is_judged_by_the_policy_it_was_admitted_under() -> None:
    backend = GatedBackend()
    always = {"criterion": "confidence", "threshold": 0.0, "min_layer": 2}
    bundle = fake_bundle(MANIFEST)
    config = {"exit_policy": policy({"criterion": "entropy", "threshold": 0.0}, version=1)}
    with Engine.open(bundle, config, backend=backend) as engine:
        futures = []
        for version in range(1, 5):
            for place in range(3):
                with engine.reserve() as ticket:
                    own = {name: array[place] for name, array in TENSORS.items()}
                    futures.append((version, engine.submit_tensors(ticket, own)))
            rule = {**always, "min_layer": 1 + version}
            engine.replace_exit_policy(policy(rule, version=version + 1))
        assert engine.policy.version == 5
        backend.gate.set()
        for version, future in futures:
            answer = future.result(timeout=20)
            assert answer.policy_version == version
            assert answer.exit_layer == (6 if version == 1 else version)
        assert max(backend.rows_by_call("layer.02")) > 3, "policies shared a batch"


def test_the_bundles_own_policy_is_used_where_the_configuration_has_none() -> None:
    own = {
        "version": 9,
        "tasks": {
            "default": {
                "joint": {"any": [{"criterion": "cosine", "threshold": -1, "min_layer": 2}]}
            }
        },
    }
    with open_engine(exit_policy=own) as engine:
        answer = engine.run(TENSORS)[0]
    assert (answer.policy_version, answer.exit_layer, answer.criterion) == (9, 2, "cosine")
    manifest = single_stream(exit_policy=own)
    config = {"backend": "fake", "exit_policy": {"version": 2}}
    with Engine.open(fake_bundle(manifest), config) as engine:
        assert engine.run(TENSORS)[0].policy_version == 2
