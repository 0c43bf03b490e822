"""Exits by cosine, of checkpoints without exit heads: the engine against the sequential walk."""

from collections.abc import Callable, Mapping

import numpy as np

from exeunt.engine import Engine
from exeunt.engine.backends import open_backend
from exeunt.engine.config import EngineConfig
from exeunt.engine.exit_policy import ExitPolicy, never
from exeunt.engine.probe import LaneProbe
from tests.support.goldens import TOLERANCE, Array
from tests.support.sequential import SequentialModel


def cosine_exits(tensors: Mapping[str, Array]) -> Callable[[Engine], None]:
    """Return a check that every lane's exits, and the answers behind them, are the sequential ones.

    Args:
        tensors: of all samples.
    """

    def check(engine: Engine) -> None:
        thresholds = {
            name: _between(lane) for name, lane in engine.probe(tensors).items() if lane.scores
        }
        rules = {
            name: {"any": [{"criterion": "cosine", "threshold": threshold}]}
            for name, threshold in thresholds.items()
        }
        assert rules, "a lane without exit heads leaves by cosine"
        policy = ExitPolicy.model_validate({"tasks": {"default": rules}})
        engine.replace_exit_policy(policy)
        try:
            answers = engine.run(tensors)
        finally:
            engine.replace_exit_policy(never())
        manifest, root = engine.manifest, engine.bundle.root
        backend = open_backend("onnxruntime", EngineConfig().compute_threads)
        model = SequentialModel(
            manifest,
            lambda name: backend.load(manifest, root, name),
            policy.tasks["default"],
        )
        early = 0
        for row, answer in enumerate(answers):
            walk = model.walk({name: array[row : row + 1] for name, array in tensors.items()})
            for lane in rules:
                assert answer.lanes[lane].exit_layer == max(walk.layers(lane)), (row, lane)
                early += answer.lanes[lane].exit_layer < manifest.lane(lane).depth
            logits = walk.left[manifest.tasks[0].lane][-1].logits
            assert logits is not None
            np.testing.assert_allclose(answer.logits, logits, atol=TOLERANCE, rtol=0)
        backend.close()
        assert early, "the thresholds let somebody leave early"

    return check


def _between(lane: LaneProbe) -> float:
    """Return a threshold in the middle of the scores' widest gap, short of both ends."""
    scores = np.sort(lane.scores["cosine"].ravel().astype(np.float64))
    inner = scores[len(scores) // 4 : max(2, 3 * len(scores) // 4) + 1]
    place = int(np.diff(inner).argmax())
    return float(inner[place] + inner[place + 1]) / 2
