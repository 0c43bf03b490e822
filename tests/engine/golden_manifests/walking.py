"""What the tests of published models share: rules that tell samples apart, and comparisons."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from exeunt.engine import Answer, Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.exit_policy import LaneRules
from tests.support.manifests import fake_bundle
from tests.support.sequential import SequentialModel, Walk
from tests.support.tensors import Tensors, one_sample

SIZES = ({"T": 7, "R": 11, "S": 18}, {"T": 12, "R": 4, "S": 16}, {"T": 7, "R": 5, "S": 23})
Rules = Mapping[str, Any]
NOTHING: Rules = {}
FAMILIES = {
    "uniter_nlvr2": {"joint": {"any": [{"criterion": "entropy", "threshold": 0.4}]}},
    "uniter_vcr": {"joint": {"any": [{"criterion": "confidence", "threshold": 0.7}]}},
    "lxmert": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.9}]},
        "text": {"any": [{"criterion": "cosine", "threshold": 0.97}]},
        "cross": {"any": [{"criterion": "cosine", "threshold": 0.7}]},
    },
    "oscar_captioning": {"joint": {"any": [{"criterion": "entropy", "threshold": 5.0}]}},
    "xvlm_vqa": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.95}]},
        "text": {"any": [{"criterion": "cosine", "threshold": 0.8}]},
    },
    "xvlm_nlvr2": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.86}]},
        "fusion": {"any": [{"criterion": "entropy", "threshold": 0.3}]},
    },
    "clip": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.96}]},
        "text": {"any": [{"criterion": "cosine", "threshold": 0.9}]},
    },
    "ofa": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.7}]},
        "text": {"any": [{"criterion": "cosine", "threshold": 0.95}]},
        "decoder": {"any": [{"criterion": "cosine", "threshold": 0.9}]},
    },
}


def open_engine(manifest: Manifest, rules: Rules, **config: object) -> tuple[Engine, FakeBackend]:
    backend = FakeBackend()
    policy = {"version": 7, "tasks": {"default": rules}}
    # Without a state cache every lane is walked, and counted, for every sample.
    settings = {"exit_policy": policy, "max_batch_rows": 8, "state_cache_bytes": 0, **config}
    return Engine.open(fake_bundle(manifest), settings, backend=backend), backend


def sequential(manifest: Manifest, rules: Rules, tensors: Tensors) -> list[Walk]:
    """Walk each sample alone."""
    backend, bundle = FakeBackend(), fake_bundle(manifest)
    model = SequentialModel(
        manifest,
        lambda name: backend.load(manifest, bundle.root, name),
        {lane: LaneRules.model_validate(value) for lane, value in rules.items()},
    )
    count = len(next(iter(tensors.values())))
    return [model.walk(one_sample(tensors, place)) for place in range(count)]


def assert_same(manifest: Manifest, answer: Answer, walk: Walk) -> None:
    lane = manifest.lane(manifest.tasks[0].lane)
    last = walk.left[lane.name][-1]
    assert walk.nearest > 1e-5, "the rule is too near a score to compare decisions"
    assert last.logits is not None
    np.testing.assert_array_equal(answer.logits, last.logits)
    assert answer.index == int(np.argmax(last.logits))
    assert {name: report.exit_layer for name, report in answer.lanes.items()} == {
        name: max(walk.layers(name)) for name in walk.left
    }
    assert {name: report.depth for name, report in answer.lanes.items()} == {
        name: manifest.lane(name).depth for name in walk.left
    }
    assert (answer.exit_layer, answer.depth) == (max(walk.layers(lane.name)), lane.depth)
    assert answer.reason == ("depth" if last.fired is None else "criterion")
    assert list(answer.tokens) == walk.tokens
    assert list(answer.token_exit_layers) == (walk.layers(lane.name) if lane.loop else [])
