"""The trace tells every batch, who was in it, who left, and why it was chosen."""

from collections import Counter

from exeunt.engine import Engine
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors


def test_the_trace_tells_each_rows_walk() -> None:
    manifest = single_stream(layers=4)
    policy = {"tasks": {"default": {"joint": {"any": [{"criterion": "patience", "threshold": 1}]}}}}
    config = {"backend": "fake", "max_batch_rows": 4, "exit_policy": {"version": 1, **policy}}
    with Engine.open(fake_bundle(manifest), config) as engine:
        trace = engine.start_trace()
        answers = engine.run(random_tensors(manifest, 9))
        engine.stop_trace()
        engine.run(random_tensors(manifest, 3))
    walked: Counter[int] = Counter()
    left: dict[int, int] = {}
    for batch in trace.batches:
        assert batch.started_s <= batch.ended_s
        assert len(batch.requests) <= 4
        assert batch.reason in ("worthwhile", "deepest", "aged", "deadline")
        if batch.layer:
            walked.update(batch.requests)
        left |= {number: batch.layer for number, _ in batch.left}
    numbers = sorted(left)
    assert len(numbers) == 9
    assert [left[number] for number in numbers] == [answer.exit_layer for answer in answers]
    assert [walked[number] for number in numbers] == [answer.exit_layer for answer in answers]
    assert trace.dropped == 0
