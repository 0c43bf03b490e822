"""What the decoders of X-VLM's and EfficientVLM's VQA say: of given answers, and by themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from exeunt.engine import Engine
from exeunt.engine.backends import open_backend
from exeunt.engine.config import EngineConfig
from tests.support.goldens import TOLERANCE, Array, Arrays
from tests.support.sequential import SequentialModel


def check_ranking(
    raw: Mapping[str, Array], inputs: Arrays, expected: Arrays, suffix: str, engine: Engine
) -> None:
    """Rank the answers as official code does, from the bundle's logits along each of them.

    The k with the likeliest first tokens count; their scores are log p of all tokens, of the first
    one twice.
    """
    answers = [row[kept > 0][1:].tolist() for row, kept in _rows(inputs)]
    wanted, shares = expected[f"topk_ids{suffix}"], expected[f"topk_probs{suffix}"]
    with sequential(engine) as model:
        for row, (best, probable) in enumerate(zip(wanted, shares, strict=True)):
            sample = {name: array[row : row + 1] for name, array in raw.items()}
            logs = np.stack([_log_shares(model, sample, answer) for answer in answers])
            likeliest = np.argsort(-logs[:, 0], kind="stable")[: len(best)]
            scores = logs[likeliest].sum(axis=1) + logs[likeliest, 0]
            order = np.argsort(-scores, kind="stable")
            assert likeliest[order].tolist() == best.tolist(), row
            found = np.exp(scores[order] - scores.max())
            np.testing.assert_allclose(found / found.sum(), probable, atol=TOLERANCE, rtol=0)


def check_tokens(raw: Mapping[str, Array], engine: Engine) -> None:
    """Compare the texts that are generated together with those of the sequential walk."""
    served = engine.run(dict(raw))
    with sequential(engine) as model:
        for row, answer in enumerate(served):
            walk = model.walk({name: array[row : row + 1] for name, array in raw.items()})
            assert list(answer.tokens) == walk.tokens, row


@contextmanager
def sequential(engine: Engine) -> Iterator[SequentialModel]:
    """Give the bundle's segments, walked one sample after the other."""
    manifest, root = engine.manifest, engine.bundle.root
    backend = open_backend("onnxruntime", EngineConfig().compute_threads)
    try:
        yield SequentialModel(manifest, lambda name: backend.load(manifest, root, name))
    finally:
        backend.close()


def _rows(inputs: Arrays) -> Iterator[tuple[Array, Array]]:
    return zip(inputs["answer_ids"], inputs["answer_atts"], strict=True)


def _log_shares(model: SequentialModel, sample: Mapping[str, Array], answer: list[int]) -> Array:
    """Return log p of each of an answer's tokens, zeros behind them, up to the longest possible."""
    shares = np.zeros(64)
    for place, (left, token) in enumerate(
        zip(model.follow(sample, answer[:-1]), answer, strict=True)
    ):
        assert left.logits is not None, "the decoder has heads"
        logits = left.logits.astype(np.float64)
        highest = logits.max()
        shares[place] = logits[token] - highest - np.log(np.exp(logits - highest).sum())
    return shares
