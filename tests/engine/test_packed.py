"""Packed tokens: rows of any length share batches, and no row's answer depends on its mates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exeunt.engine import Engine, ExitPolicy
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import ConfigError
from exeunt.engine.lanes.tokens import TokenStore
from exeunt.engine.step.pack import pack_rows, rounded
from exeunt.kernels.cosine import cosine
from tests.engine.test_sequential_equality import SIZES, Arrival, Record, sequential, traffic
from tests.support.manifests import fake_bundle, manifest, single_stream
from tests.support.packed import PACK, attending, packed_parts, packed_stream, ragged
from tests.support.scripted import ScriptedBackend
from tests.support.tensors import one_sample, random_tensors
from tests.support.waiting import GatedBackend

Array = NDArray[Any]
STREAM = packed_stream(layers=5, classes=4)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_pack_brings_every_token_to_its_place_and_back(lengths: list[int]) -> None:
    sizes = np.asarray(lengths)
    pack = pack_rows(sizes, np.ones(len(sizes), dtype=np.float32))
    tensors = pack.tensors()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    assert pack.count == sizes.sum()
    assert pack.size % 16 == 0
    assert pack.tokens % 16 == 0
    padded = tensors["pack.gather"]
    assert (owner[padded] == np.arange(len(sizes))[:, None]).all(), "no row sees another"
    back = padded.reshape(-1)[tensors["pack.scatter"][: pack.count]]
    assert back.tolist() == list(range(pack.count))
    assert tensors["pack.mask"].sum(axis=1).tolist() == lengths
    assert pack.size < pack.count + 16 + pack.count / 8


@given(st.integers(1, 200), st.lists(st.integers(1, 600), max_size=3), st.integers(0, 2**16))
@settings(max_examples=40)
def test_a_cosine_over_a_padded_view_does_not_depend_on_its_length(
    length: int, mates: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    old, new = random.normal(size=(2, length, 8)).astype(np.float32)
    scores = []
    for lengths in ([length], [length, *mates]):
        pack = pack_rows(np.asarray(lengths), np.ones(len(lengths), dtype=np.float32))
        gather, valid = pack.summable()
        rest = random.normal(size=(pack.count - length, 8)).astype(np.float32)
        before, after = np.concatenate([old, rest])[gather], np.concatenate([new, rest])[gather]
        scores.append([cosine(before, after, valid, how)[0] for how in ("flattened", "token-mean")])
    assert scores[0] == scores[1]


def test_tokens_keep_their_memory_until_a_longer_row_comes() -> None:
    store = TokenStore(2)
    tokens = np.arange(12, dtype=np.float32).reshape(4, 3)
    store.enter(1, 4, 1.0)
    kept = store.put("hidden", 1, tokens)
    store.enter(1, 2, 0.0)
    again = store.put("hidden", 1, tokens[:2])
    assert np.shares_memory(kept, again)
    assert (store.lengths[1], store.leads[1], store.longest) == (2, 0.0, 4)
    store.enter(1, 5, 1.0)
    assert store.put("hidden", 1, np.zeros((5, 3), np.float32)).shape == (5, 3)
    assert store.slot_bytes == 5 * 3 * 4


@given(drawn=traffic(STREAM))
@settings(max_examples=60)
def test_rows_of_two_lengths_leave_where_the_sequential_algorithm_leaves(
    drawn: tuple[list[Arrival], list[Record], Record],
) -> None:
    arrivals, policies, config = drawn
    samples = [random_tensors(STREAM, 8, size, seed) for seed, size in enumerate(SIZES)]
    backend = GatedBackend()
    with Engine.open(
        fake_bundle(STREAM), {**config, "layout": "packed"}, backend=backend
    ) as engine:
        compiled = [
            engine.compile(ExitPolicy.model_validate({"version": 1, "tasks": {"default": one}}))
            for one in policies
        ]
        futures = []
        for arrival in arrivals:
            tensors = {name: a[arrival.place] for name, a in samples[arrival.size].items()}
            with engine.reserve() as ticket:
                futures.append(
                    engine.submit_tensors(ticket, tensors, exit_policy=compiled[arrival.policy])
                )
        for arrival, future in zip(arrivals, futures, strict=True):
            if arrival.gives_up:
                future.cancel()
        backend.gate.set()
        for arrival, future in zip(arrivals, futures, strict=True):
            if future.cancelled():
                continue
            answer = future.result(timeout=30)
            walk = sequential(STREAM, policies[arrival.policy]).walk(
                one_sample(samples[arrival.size], arrival.place)
            )
            if walk.nearest < 1e-4:
                continue
            (left,) = walk.left["joint"]
            assert left.logits is not None
            assert answer.exit_layer == left.layer
            assert answer.reason == ("depth" if left.fired is None else "criterion")
            np.testing.assert_allclose(answer.logits, left.logits, atol=1e-3)
    assert {name for name, _ in backend.inner.calls if name.startswith("layer.")} == set()


def together(
    contents: Manifest, scripts: Mapping[str, Any], samples: list[Any], **config: object
) -> Any:
    """Return the answers of samples that wait at the same time."""
    backend = ScriptedBackend(scripts)
    with (
        Engine.open(fake_bundle(contents), config, backend=backend) as engine,
        engine.reserve(len(samples)) as ticket,
    ):
        futures = [engine.submit_tensors(ticket, sample) for sample in samples]
        return [future.result(timeout=20) for future in futures]


@pytest.mark.parametrize("heads_read", ["first", "all"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("rule", [None, "flattened", "min-token"])
def test_packed_answers_are_those_of_padded_rows(
    heads_read: str, padding: int, rule: str | None
) -> None:
    contents, scripts = attending(heads_read)
    samples = ragged([1, 5, 33, 5, 18, 2, 7, 40], padding)
    policy = None
    if rule is not None:
        one = {"criterion": "cosine", "threshold": 0.97, "options": {"reduction": rule}}
        policy = {"version": 1, "tasks": {"default": {"joint": {"any": [one]}}}}
    found = {
        layout: together(contents, scripts, samples, layout=layout, exit_policy=policy)
        for layout in ("padded", "packed")
    }
    for one, other in zip(found["padded"], found["packed"], strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.exit_layer == other.exit_layer
        if rule and one.score is not None:
            assert one.score == pytest.approx(other.score, abs=1e-6)
    if rule == "flattened":
        assert len({answer.exit_layer for answer in found["packed"]}) > 1
    alone = [
        together(contents, scripts, [sample], layout="packed", exit_policy=policy)[0]
        for sample in samples[:3]
    ]
    for one, other in zip(alone, found["packed"], strict=False):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.score == other.score


def test_a_first_token_that_is_masked_is_read_but_not_attended_to() -> None:
    contents, scripts = attending()
    samples = ragged([4, 6, 3])
    for sample in samples[:2]:
        sample["mask"][0] = 0
    samples[0]["mask"][:] = 0  # not a single valid token
    one = together(contents, scripts, samples, layout="padded")
    other = together(contents, scripts, samples, layout="packed")
    for padded, packed in zip(one, other, strict=True):
        np.testing.assert_array_equal(padded.logits, packed.logits)


def test_a_row_that_is_not_finite_spoils_no_other() -> None:
    contents, scripts = attending()
    samples = ragged([4, 6, 3])
    samples[1]["tokens"][:] = np.nan
    backend = ScriptedBackend(scripts)
    with (
        Engine.open(fake_bundle(contents), {"layout": "packed"}, backend=backend) as engine,
        engine.reserve(9) as ticket,
    ):
        for _ in range(3):  # the next batches lie in the memory that held it
            futures = [engine.submit_tensors(ticket, sample) for sample in samples]
            assert futures[1].exception(timeout=20) is not None
            for place in (0, 2):
                assert np.isfinite(futures[place].result(timeout=20).logits).all()


def test_the_probe_walks_packed_layers_and_shows_padded_rows() -> None:
    contents, scripts = attending()
    batch = {name: np.stack([s[name] for s in ragged([5, 5, 5], 2)]) for name in ("tokens", "mask")}
    probes = []
    for layout in ("padded", "packed"):
        backend = ScriptedBackend(scripts)
        with Engine.open(fake_bundle(contents), {"layout": layout}, backend=backend) as engine:
            probes.append(engine.probe(batch)["joint"])
            assert engine.layouts == {"joint": layout}
    one, other = probes
    valid = batch["mask"] > 0
    for layer in (1, 2, 3):
        np.testing.assert_array_equal(one.logits[layer], other.logits[layer])
        np.testing.assert_array_equal(one.hidden[layer][valid], other.hidden[layer][valid])
    np.testing.assert_allclose(one.scores["cosine"], other.scores["cosine"], atol=1e-6)


def test_packed_rows_are_warmed_up_and_counted_as_memory() -> None:
    config = {"layout": "packed", "sizes": {"T": [4, 9, 20]}, "max_batch_rows": 8}
    with Engine.open(fake_bundle(STREAM), {**config, "backend": "fake"}) as engine:
        assert engine.costs is not None
        assert engine.slot_bytes == 20 * 16 * 4
        assert engine.used_slots == 0


@pytest.mark.parametrize(("sizes", "expected"), [({"T": [8]}, "padded"), ({}, "padded")])
def test_equal_lengths_stay_padded(sizes: Record, expected: str) -> None:
    with Engine.open(fake_bundle(STREAM), {"backend": "fake", "sizes": sizes}) as engine:
        assert engine.layouts == {"joint": expected}


def test_many_lengths_are_packed() -> None:
    backend = GatedBackend(is_open=True)
    backend.inner.delay_s = 0.002  # of every batch: fewer batches are quicker
    with Engine.open(
        fake_bundle(STREAM), {"sizes": {"T": [8, 16, 24, 32]}}, backend=backend
    ) as engine:
        assert engine.layouts == {"joint": "packed"}
    with Engine.open(
        fake_bundle(STREAM),
        {"sizes": {"T": [8, 16, 24, 32]}, "deterministic": True},
        backend=backend,
    ) as engine:
        assert engine.layouts == {"joint": "padded"}, "no measurement decides"


def test_a_layout_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(ConfigError, match="no packed layers"):
        Engine.open(fake_bundle(single_stream()), {"backend": "fake", "layout": "packed"})
    parts = packed_parts()
    for name in parts["lanes"][0]["layers"]:
        del parts["segments"][name]
    parts["lanes"][0]["layers"] = parts["lanes"][0]["packed"]["layers"]
    alone = fake_bundle(manifest("alone", parts))
    with pytest.raises(ConfigError, match="has packed layers alone"):
        Engine.open(alone, {"backend": "fake", "layout": "padded"})
    with Engine.open(alone, {"backend": "fake"}) as engine:
        assert engine.layouts == {"joint": "packed"}
    unproven = fake_bundle(packed_stream(batch_invariant=False))
    with pytest.raises(ConfigError, match="not found bit-equal"):
        Engine.open(unproven, {"backend": "fake", "layout": "packed", "deterministic": True})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes.0.packed.layers": ["packed.01"]}, "name one for each"),
        ({"lanes.0.packed.mask": "hidden"}, "expected a constant of shape"),
        ({"lanes.0.state.hidden.shape": ["T", "W"]}, "expected a carried state of shape"),
        ({"segments.packed.02.inputs": {"hidden": "hidden", "mask": "mask"}}, "carried state"),
        ({"segments.layer.02.inputs": {"hidden": "hidden", "m": "pack.mask"}}, "in a packed layer"),
        ({"segments.head.02.inputs": {"x": "input.input_ids"}}, "every packed layer writes"),
        ({"lanes.0.rows": 2, "lanes.0.unit": "group"}, "rows that walk alone"),
    ],
)
def test_a_lane_that_cannot_be_packed_is_refused(change: Record, message: str) -> None:
    parts = packed_parts()
    for path, value in change.items():
        *way, last = _steps(path)
        target: Any = parts
        for step in way:
            target = target[step]
        target[last] = value
    with pytest.raises(ValueError, match=message):
        manifest("wrong", parts)


def _steps(path: str) -> list[Any]:
    head, *rest = path.split(".")
    if head == "segments":
        return [head, ".".join(rest[:2]), *rest[2:]]
    return [head, *(int(step) if step.isdigit() else step for step in rest)]


@given(st.integers(1, 5000))
def test_sizes_are_rounded_to_few(size: int) -> None:
    assert size <= rounded(size) < size + max(16, size / 8)
    assert rounded(rounded(size)) == rounded(size)


def test_pack_is_no_lane() -> None:
    assert set(PACK) == {"pack.gather", "pack.mask", "pack.scatter"}
    with pytest.raises(ValueError, match="reserved"):
        manifest(
            "wrong", {**packed_parts(), "lanes": [{**packed_parts()["lanes"][0], "name": "pack"}]}
        )
