"""Parsing a body takes memory for what it may hold, not for what it claims."""

import tracemalloc

import pytest

from exeunt.server.errors import InvalidRequest
from exeunt.server.parsing import JSON, parse_body


def test_a_long_list_is_counted_before_anything_is_made_of_it() -> None:
    body = b"[" + b"0," * 200_000 + b"0]"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="200001 samples"):
            parse_body(body, JSON, JSON, max_samples=64)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 * len(body)
