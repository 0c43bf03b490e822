"""The exit policy's format: what is read, and every bad value refused with its key."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from exeunt.engine import Engine
from exeunt.engine.errors import ConfigError, ExitPolicyError
from exeunt.engine.exit_policy import ExitPolicy, compile_policy, load_exit_policy
from exeunt.engine.exit_policy.load import parse_exit_policy
from tests.engine.golden_manifests import clip, xvlm_nlvr2
from tests.support.manifests import fake_bundle, single_stream

Record = dict[str, Any]
MANIFEST = single_stream(layers=4)


def policy(*rules: Record, how: str = "any", lane: str = "joint", task: str = "default") -> Record:
    return {"version": 3, "tasks": {task: {lane: {how: list(rules)}}}}


def rule(criterion: object = "entropy", threshold: object = 0.5, **more: object) -> Record:
    return {"criterion": criterion, "threshold": threshold, **more}


BAD: dict[str, tuple[object, str]] = {
    "no mapping": ([], "top"),
    "nothing": (None, "top"),
    "an unknown key": ({"version": 1, "task": {}}, "task"),
    "version 0": ({"version": 0}, "version"),
    "a version that is no number": ({"version": "new"}, "version"),
    "a version that is a truth value": ({"version": True}, "version"),
    "tasks as a list": ({"tasks": []}, "tasks"),
    "no rules": ({"tasks": {"default": {"joint": {}}}}, "joint"),
    "any without rules": ({"tasks": {"default": {"joint": {"any": []}}}}, "joint"),
    "both any and all": (
        {"tasks": {"default": {"joint": {"any": [rule()], "all": [rule()]}}}},
        "exactly one of `any` and `all`",
    ),
    "rules without any or all": ({"tasks": {"default": {"joint": [rule()]}}}, "joint"),
    "an unknown criterion": (policy(rule("certainty")), "criterion"),
    "no criterion": (policy({"threshold": 0.5}), "criterion"),
    "no threshold": (policy({"criterion": "entropy"}), "threshold"),
    "a null threshold": (policy(rule(threshold=None)), "threshold"),
    "NaN": (policy(rule(threshold=math.nan)), "threshold"),
    "infinity": (policy(rule(threshold=math.inf)), "threshold"),
    "NaN in a list": (policy(rule(threshold=[0.1, math.nan, 0.1, 0.1])), "threshold"),
    "a word": (policy(rule(threshold="high")), "threshold"),
    "a truth value": (policy(rule(threshold=True)), "threshold"),
    "a truth value in a list": (policy(rule(threshold=[0.1, False, 0.1, 0.1])), "threshold"),
    "no values": (policy(rule(threshold=[])), "threshold"),
    "entropy below 0": (policy(rule(threshold=-0.1)), "threshold"),
    "entropy below 0 in one layer": (policy(rule(threshold=[0.1, 0.1, -0.1, 0.1])), "threshold"),
    "cosine above 1": (policy(rule("cosine", 1.1)), "threshold"),
    "confidence above 1": (policy(rule("confidence", 1.5)), "threshold"),
    "margin below 0": (policy(rule("margin", -0.5)), "threshold"),
    "patience 1.5": (policy(rule("patience", 1.5)), "threshold"),
    "patience below 0": (policy(rule("patience", -1)), "threshold"),
    "never with a threshold": (policy(rule("never", 0.5)), "threshold"),
    "min_layer 0": (policy(rule(min_layer=0)), "min_layer"),
    "min_layer 1.5": (policy(rule(min_layer=1.5)), "min_layer"),
    "min_layer true": (policy(rule(min_layer=True)), "min_layer"),
    "an unknown option": (policy(rule(options={"stable": True})), "options.stable"),
    "an option of another criterion": (
        policy(rule(options={"temperature": 2.0})),
        "'temperature' belongs to confidence",
    ),
    "an unknown reduction": (
        policy(rule("cosine", 0.5, options={"reduction": "max"})),
        "options.reduction",
    ),
    "temperature 0": (
        policy(rule("confidence", 0.5, options={"temperature": 0.0})),
        "options.temperature",
    ),
    "a temperature that float32 rounds to 0": (
        policy(rule("confidence", 0.5, options={"temperature": 1e-50})),
        "options.temperature",
    ),
    "temperature NaN": (
        policy(rule("confidence", 0.5, options={"temperature": math.nan})),
        "options.temperature",
    ),
    "an unknown key of a rule": (policy(rule(layer=3)), "layer"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_with_its_key(name: str) -> None:
    content, key = BAD[name]
    with pytest.raises(ExitPolicyError, match=r"exit policy of here, at .*") as caught:
        parse_exit_policy(content, "here")
    assert key in str(caught.value)


MISFIT: dict[str, tuple[Record, str]] = {
    "a lane that is not there": (policy(rule(), lane="image"), r"lanes \['image'\].*\['joint'\]"),
    "a task that is not there": (policy(rule(), task="vqa"), r"tasks \['vqa'\].*\['answer'\]"),
    "too few thresholds": (policy(rule(threshold=[0.1, 0.2])), "4 layers, found 2 values of thres"),
    "too many thresholds": (policy(rule(threshold=[0.1] * 5)), "4 layers, found 5 values of thres"),
    "too few temperatures": (
        policy(rule("confidence", 0.5, options={"temperature": [1.0, 2.0]})),
        "found 2 values of temperature",
    ),
    "min_layer beyond the end": (policy(rule(min_layer=5)), "min_layer 5 is beyond the 4 layers"),
}


@pytest.mark.parametrize("name", MISFIT)
def test_a_policy_that_does_not_fit_the_bundle_is_refused(name: str) -> None:
    content, reason = MISFIT[name]
    with pytest.raises(ExitPolicyError, match=reason):
        compile_policy(ExitPolicy.model_validate(content), MANIFEST)


def test_a_criterion_that_the_lane_does_not_offer_is_refused() -> None:
    for manifest, lane, criterion in (
        (xvlm_nlvr2(), "image", "entropy"),
        (xvlm_nlvr2(), "fusion", "margin"),
        (clip(), "match", "cosine"),
    ):
        wrong = ExitPolicy.model_validate(policy(rule(criterion), lane=lane))
        with pytest.raises(ExitPolicyError, match=f"{lane}.*cannot be judged by {criterion}"):
            compile_policy(wrong, manifest)


def test_classification_criteria_are_refused_on_a_single_logit() -> None:
    manifest = single_stream(classes=1)
    for criterion in ("entropy", "patience", "confidence", "margin"):
        wrong = ExitPolicy.model_validate(policy(rule(criterion, 1)))
        with pytest.raises(ExitPolicyError, match="cannot be judged"):
            compile_policy(wrong, manifest)
    compile_policy(ExitPolicy.model_validate(policy(rule("cosine", 0.9))), manifest)


def test_all_with_never_never_leaves_and_any_with_never_is_the_other_rule() -> None:
    never = {"criterion": "never"}
    both = compile_policy(ExitPolicy.model_validate(policy(rule(), never, how="all")), MANIFEST)
    assert both.lanes["answer", "joint"].rules == ()
    either = compile_policy(ExitPolicy.model_validate(policy(rule(), never)), MANIFEST)
    assert [one.name for one in either.lanes["answer", "joint"].rules] == ["entropy"]


def test_a_task_of_its_own_goes_before_the_default() -> None:
    content = {
        "tasks": {
            "default": {"joint": {"any": [rule("entropy", 0.1)]}},
            "answer": {"joint": {"any": [rule("margin", 0.2)]}},
        }
    }
    compiled = compile_policy(ExitPolicy.model_validate(content), MANIFEST)
    assert [one.name for one in compiled.lanes["answer", "joint"].rules] == ["margin"]


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump({"exit_policy": policy(rule(threshold=[0.1, 0.2, 0.3, 0.4]))}))
    loaded = load_exit_policy(file)
    assert loaded.version == 3
    thresholds = compile_policy(loaded, MANIFEST).lanes["answer", "joint"].rules[0].thresholds
    assert thresholds == (0.1, 0.2, 0.3, 0.4)
    assert load_exit_policy("never") == ExitPolicy()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "one key `exit_policy`"),
        (b"version: 1", "one key `exit_policy`"),
        (b"exit_policy: {version: .nan}", "version"),
        (b"exit_policy: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"exit_policy: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"#" * (2 << 20), "no exit policy is"),
        (b"exit_policy: " + b"[" * 5000, "not valid YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(content)
    with pytest.raises(ExitPolicyError, match=reason) as caught:
        load_exit_policy(file)
    assert "policy.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExitPolicyError, match=r"gone\.yaml.*No such file"):
        load_exit_policy(tmp_path / "gone.yaml")
    with pytest.raises(ExitPolicyError, match="cannot read"):
        load_exit_policy(tmp_path)


def test_the_engine_refuses_a_bad_policy_at_the_door_and_keeps_the_old_one() -> None:
    bundle = fake_bundle(MANIFEST)
    with pytest.raises(ConfigError, match=r"exit_policy.*threshold"):
        Engine.open(bundle, {"backend": "fake", "exit_policy": policy(rule(threshold=math.nan))})
    with pytest.raises(ExitPolicyError, match="image"):
        Engine.open(bundle, {"backend": "fake", "exit_policy": policy(rule(), lane="image")})
    wrong = single_stream(exit_policy=policy(rule(), lane="image"))
    with pytest.raises(ExitPolicyError, match="image"):
        Engine.open(fake_bundle(wrong), {"backend": "fake"})
    with Engine.open(bundle, {"backend": "fake", "exit_policy": policy(rule())}) as engine:
        with pytest.raises(ExitPolicyError):
            engine.replace_exit_policy(ExitPolicy.model_validate(policy(rule(), lane="image")))
        assert engine.policy.version == 3
        assert engine.ready
