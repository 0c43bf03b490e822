"""Manifests whose caches, loops, tasks or tied lanes contradict themselves are refused at load."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from exeunt.engine.bundle.manifest import Manifest
from tests.engine.golden_manifests import ofa

Record = dict[str, Any]


def lane(record: Record, name: str) -> Record:
    return next(one for one in record["lanes"] if one["name"] == name)


def _drop_a_cache_record(record: Record) -> None:
    lane(record, "decoder")["caches"].pop()


def _other_steps(record: Record) -> None:
    lane(record, "decoder")["state"]["self_k_1"]["shape"] = [12, 32]


def _open_size(record: Record) -> None:
    lane(record, "decoder")["state"]["self_k_1"]["shape"] = [13, "W"]


def _unnamed_cache(record: Record) -> None:
    lane(record, "decoder")["state"]["more"] = {
        "role": "cache",
        "dtype": "float32",
        "shape": [13, 32],
    }


def _no_loop(record: Record) -> None:
    del lane(record, "decoder")["loop"]


def _foreign_cache(record: Record) -> None:
    record["segments"]["dec.02"]["inputs"]["self_k_2"] = "self_k_1"


def _unwritten_cache(record: Record) -> None:
    del record["segments"]["dec.02"]["outputs"]["new_self_k_2"]


def _context_is_carried(record: Record) -> None:
    lane(record, "decoder")["caches"][0]["context"] = ["hidden", "cross_v_1"]


def _widths_differ(record: Record) -> None:
    lane(record, "decoder")["state"]["self_k_3"]["shape"] = [13, 16]


def _propagate_the_first(record: Record) -> None:
    propagate = lane(record, "decoder")["propagate"]
    propagate[1] = propagate.pop("2", None) or propagate.pop(2)


def _propagate_reads_the_step(record: Record) -> None:
    record["segments"]["propagate.02"]["inputs"]["loop_step"] = "loop.step"


def _head_reads_cached(record: Record) -> None:
    record["segments"]["dec.logits"]["inputs"]["cached"] = "loop.cached"


def _tied_lanes_disagree(record: Record) -> None:
    lane(record, "text")["state"]["hidden"]["shape"] = ["T", 48]


def _tied_lanes_differ_in_dtype(record: Record) -> None:
    lane(record, "text")["state"]["mask"]["dtype"] = "int64"


def _end_beyond_the_vocabulary(record: Record) -> None:
    lane(record, "decoder")["loop"]["eos"] = 300


def _end_is_never_answered(record: Record) -> None:
    lane(record, "decoder")["loop"]["never"] = [1, 2]


def _too_many_tokens_before_the_end(record: Record) -> None:
    lane(record, "decoder")["loop"]["min_tokens"] = 13


def _answers_without_labels(record: Record) -> None:
    record["tasks"][0] |= {"answers": [[5], [6]], "labels": ["yes"]}


def _an_empty_answer(record: Record) -> None:
    record["tasks"][0] |= {"answers": [[5], []], "labels": ["yes", "no"]}


def _a_prompt_without_a_text(record: Record) -> None:
    record["tasks"][0]["prompt"] = "what does the image describe?"


CASES: list[tuple[Callable[[Record], None], str]] = [
    (_drop_a_cache_record, "3 layers and 2 records"),
    (_other_steps, "holds 12 tokens, but the loop has 13"),
    (_open_size, "expected numbers"),
    (_unnamed_cache, "each belongs to one layer"),
    (_no_loop, "loop"),
    (_foreign_cache, "another layer's caches"),
    (_unwritten_cache, "appends"),
    (_context_is_carried, "is no constant"),
    (_widths_differ, "differ in number, dtype or shape"),
    (_propagate_the_first, "expected one that can be skipped"),
    (_propagate_reads_the_step, "carried states alone"),
    (_head_reads_cached, "only a layer with caches"),
    (_tied_lanes_disagree, "are tied by segment"),
    (_tied_lanes_differ_in_dtype, "are tied by segment"),
    (_end_beyond_the_vocabulary, "eos token is 300"),
    (_end_is_never_answered, "never answers its end token"),
    (_too_many_tokens_before_the_end, "min_tokens is 13"),
    (_answers_without_labels, "1 labels and 2 answers"),
    (_an_empty_answer, "has the answer"),
    (_a_prompt_without_a_text, "has a prompt"),
]


@pytest.mark.parametrize(("spoil", "message"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_a_contradiction_is_named(spoil: Callable[[Record], None], message: str) -> None:
    record = ofa().model_dump(mode="json", exclude_unset=True)
    Manifest.model_validate(record)
    spoil(record)
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(record)
