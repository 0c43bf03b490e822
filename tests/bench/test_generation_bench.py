"""The bench of generation: what is compared decodes the same texts, and the report says so."""

import json
from pathlib import Path

import pytest

from exeunt.bench.data.generation import load_generation_data
from exeunt.bench.generation.plain_loop import LoopSample, PlainLoop
from exeunt.bench.generation.settings import generation_bench
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import never
from exeunt.server.cli import main

THREADS = EngineConfig().compute_threads
COUNT = 12


@pytest.mark.parametrize("task", ["caption", "entailment"])
def test_the_plain_loop_decodes_what_full_depth_decodes(
    scenes_bundle: Path, tmp_path: Path, task: str
) -> None:
    data = [one for one in load_generation_data("scenes") if one.task == task][:COUNT]
    with Engine.open(scenes_bundle, {"threads": THREADS}) as engine:
        samples = [
            engine.read({"image": one.image, "text": one.text, "task": task}) for one in data
        ]
        with engine.reserve(COUNT) as ticket:
            full = engine.compile(never())
            answers = [engine.send(ticket, sample, full) for sample in samples]
            expected = [
                found.tokens[: len(found.token_exit_layers)]
                for found in (answer.result() for answer in answers)
            ]
    loop = PlainLoop(Bundle.open(scenes_bundle), THREADS, 5, tmp_path)
    run = loop.run([LoopSample(dict(s.tensors), s.asked.options.allowed) for s in samples])
    same = sum(one == other for one, other in zip(run.tokens, expected, strict=True))
    assert same >= COUNT - 1, "another summation order may tip one choice of random weights"
    assert (max(map(len, run.tokens)) > 1) == (task == "caption")


def test_the_command_reports_every_side(
    scenes_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "exit_policy: {version: 2, tasks: {default: {decoder: {any: [{criterion: cosine,"
        " threshold: 0.5}]}}}}\n",
        encoding="utf-8",
    )
    arguments = ["bench", "generation", str(scenes_bundle), "--samples", "6", "--repeats", "2"]
    more = ["--exit-policy", str(policy), "--loop-rows", "3", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *more, "--json"])
    assert ended.value.code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    figures = report["figures"]
    for task in ("caption", "entailment"):
        for side in ("exits", "never", "plain-loop"):
            assert figures[f"{task}.{side}.tokens_per_second"]["median"] > 0
        over = figures[f"{task}.requests_over.plain-loop"]["repeats"]
        rates = [
            one / other
            for one, other in zip(
                figures[f"{task}.exits.requests_per_second"]["repeats"],
                figures[f"{task}.plain-loop.requests_per_second"]["repeats"],
                strict=True,
            )
        ]
        assert over == pytest.approx(rates)
        assert figures[f"{task}.full_depth_agrees"]["median"] > 0.8


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"samples": -1}, {"loop_rows": 0}])
def test_settings_that_make_no_sense_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        generation_bench(wrong)
