"""Mixed load on a real seq2seq bundle: nobody's exits or tokens depend on who else is there."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from exeunt.bench.data.generation import GenerationSample, load_generation_data
from exeunt.engine import Answer, Engine, EngineConfig
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy

THREADS = EngineConfig().compute_threads
CLIENTS = 64
FILLS = ("propagate", "copy-layer", "mue", "copy-token")
OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"beams": 3},
    {"no_repeat_ngram": 2},
    {"max_tokens": 5},
)


def policies(engine: Engine, samples: list[dict[str, object]]) -> list[CompiledPolicy]:
    """Return rules under which samples and tokens part at every layer: medians of their scores."""
    read = [engine.read(sample) for sample in samples if sample["task"] == "caption"]
    tensors = {name: np.stack([one.tensors[name] for one in read]) for name in read[0].tensors}
    record = engine.probe(tensors, "caption")
    found = []
    for place, fill in enumerate(FILLS):
        rules: dict[str, dict[str, object]] = {}
        for lane, probe in record.items():
            scores = np.quantile(probe.scores["cosine"], 0.35 + 0.1 * place, axis=1).tolist()
            rules[lane] = {"any": [{"criterion": "cosine", "threshold": scores}]}
        rules["decoder"]["fill"] = fill
        found.append(engine.compile(ExitPolicy.model_validate({"tasks": {"default": rules}})))
    return found


def fields(sample: GenerationSample, options: dict[str, object]) -> dict[str, object]:
    own = {} if sample.task == "entailment" else options
    return {"image": sample.image, "text": sample.text, "task": sample.task, **own}


def seen(answer: Answer) -> tuple[object, ...]:
    lanes = {name: lane.exit_layer for name, lane in answer.lanes.items()}
    return answer.tokens, answer.token_exit_layers, lanes, answer.index


@pytest.mark.parametrize("streams", [1, 2])
def test_exits_in_a_mixed_load_are_those_of_a_request_alone(
    scenes_bundle: Path, streams: int
) -> None:
    if THREADS % streams:
        pytest.skip("streams need a thread each")
    data = load_generation_data("scenes")
    random = Random(5)
    chosen = random.sample(data[:200], CLIENTS // 2) + random.sample(data[-200:], CLIENTS // 2)
    random.shuffle(chosen)
    # One pool of ONNX Runtime's serves this process; several streams are OpenVINO's here.
    backend = "onnxruntime" if streams == 1 else "openvino"
    config = {"threads": THREADS, "streams": streams, "backend": backend, "max_batch_rows": 16}
    with Engine.open(scenes_bundle, config) as engine:
        rules = policies(engine, [fields(one, {}) for one in chosen])
        asked = [
            (fields(one, OPTIONS[place % len(OPTIONS)]), rules[place % len(rules)])
            for place, one in enumerate(chosen)
        ]
        alone = []
        for sample, policy in asked:
            with engine.reserve() as ticket:
                alone.append(engine.submit(ticket, sample, policy).result())
        with engine.reserve(CLIENTS) as ticket:
            pending = [engine.submit(ticket, sample, policy) for sample, policy in asked]
            together = [future.result() for future in pending]
        assert engine.used_slots == 0, "no cache is left when nobody is there"
        assert engine.queued_rows == 0
        assert engine.resident_requests == 0
    layers = {layer for answer in alone for layer in answer.token_exit_layers}
    assert len(layers) > 1, "tokens must leave at several layers"
    assert [seen(answer) for answer in together] == [seen(answer) for answer in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
