"""Whatever shares a batch, a row leaves where the sequential algorithm leaves. No exit is forced.

Rows arrive in random order, under random policies, into batches of random size; some give up.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exeunt.engine import Engine, ExitPolicy
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.exit_policy import LaneRules
from tests.engine.golden_manifests import lxmert, ofa, oscar_captioning, uniter_nlvr2, xvlm_nlvr2
from tests.support.manifests import fake_bundle, single_stream
from tests.support.sequential import SequentialModel
from tests.support.tensors import one_sample, random_tensors
from tests.support.waiting import GatedBackend

Record = dict[str, Any]
THRESHOLDS = {
    "entropy": st.floats(0, 1.5),
    "patience": st.integers(0, 4),
    "cosine": st.floats(0, 1),
    "confidence": st.floats(0.3, 1),
    "margin": st.floats(0, 1),
}
OPTIONS: dict[str, st.SearchStrategy[Record]] = {
    "entropy": st.fixed_dictionaries({}, optional={"normalized": st.booleans()}),
    "cosine": st.fixed_dictionaries(
        {},
        optional={
            "reduction": st.sampled_from(["flattened", "token-mean", "min-token", "cls"]),
        },
    ),
    "confidence": st.fixed_dictionaries({}, optional={"temperature": st.floats(0.5, 4)}),
}


@st.composite
def rules(draw: st.DrawFn, offered: tuple[str, ...], depth: int) -> Record:
    """Return the rules of a lane: thresholds for all layers or for each, `any` or `all`."""
    found: list[Record] = []
    for criterion in draw(st.lists(st.sampled_from(offered), min_size=1, max_size=3)):
        one = THRESHOLDS[criterion]
        threshold = draw(one | st.lists(one, min_size=depth, max_size=depth))
        found.append(
            {
                "criterion": criterion,
                "threshold": threshold,
                "min_layer": draw(st.integers(1, depth)),
                "options": draw(OPTIONS.get(criterion, st.just({}))),
            }
        )
    return {draw(st.sampled_from(["any", "all"])): found}


@st.composite
def lane_rules(draw: st.DrawFn, manifest: Manifest) -> Record:
    offering = [
        lane
        for lane in manifest.lanes
        if lane.scores and not any(spec.role == "cache" for spec in lane.state.values())
    ]
    chosen = draw(st.lists(st.sampled_from(offering), unique_by=lambda lane: lane.name))
    return {lane.name: draw(rules(lane.scores, lane.depth)) for lane in chosen}


@dataclass
class Arrival:
    """One sample: which of a size's samples it is, its policy, and whether its caller gives up."""

    size: int
    place: int
    policy: int
    gives_up: bool


@st.composite
def traffic(draw: st.DrawFn, manifest: Manifest) -> tuple[list[Arrival], list[Record], Record]:
    policies = draw(st.lists(lane_rules(manifest), min_size=1, max_size=3))
    arrivals = draw(
        st.lists(
            st.builds(
                Arrival,
                st.integers(0, 1),
                st.integers(0, 7),
                st.integers(0, len(policies) - 1),
                st.sampled_from([False] * 7 + [True]),
            ),
            min_size=1,
            max_size=24,
        )
    )
    streams = draw(st.sampled_from([1, 2]))
    config = {
        "streams": streams,
        "threads": streams,
        "max_batch_rows": draw(st.sampled_from([4, 5, 8, 32])),
        "min_batch_rows": draw(st.sampled_from([1, 3, 8])),
        "max_wait_s": draw(st.sampled_from([1e-6, 1.0])),
        "max_queued_rows": 24 * 4,
    }
    return arrivals, policies, config


SIZES = ({"T": 5, "R": 4, "S": 9}, {"T": 8, "R": 4, "S": 12})


def check(manifest: Manifest, drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    arrivals, policies, config = drawn
    samples = [random_tensors(manifest, 8, size, seed) for seed, size in enumerate(SIZES)]
    backend = GatedBackend()
    engine = Engine.open(fake_bundle(manifest), config, backend=backend)
    with engine:
        compiled = [
            engine.compile(ExitPolicy.model_validate({"version": 1 + n, "tasks": {"default": one}}))
            for n, one in enumerate(policies)
        ]
        futures = []
        for arrival in arrivals:
            tensors = {name: a[arrival.place] for name, a in samples[arrival.size].items()}
            with engine.reserve() as ticket:
                futures.append(
                    engine.submit_tensors(ticket, tensors, exit_policy=compiled[arrival.policy])
                )
            if len(futures) == len(arrivals) // 2:
                backend.gate.set()  # the rest arrives while the first half is under way
        for arrival, future in zip(arrivals, futures, strict=True):
            if arrival.gives_up:
                future.cancel()
        backend.gate.set()
        for arrival, future in zip(arrivals, futures, strict=True):
            if future.cancelled():
                continue
            answer = future.result(timeout=30)
            walk = sequential(manifest, policies[arrival.policy]).walk(
                one_sample(samples[arrival.size], arrival.place)
            )
            assert answer.policy_version == 1 + arrival.policy
            if walk.nearest < 1e-5:
                continue  # within float32's rounding of a threshold either answer is right
            left = walk.left[manifest.tasks[0].lane][-1]
            assert left.logits is not None
            np.testing.assert_array_equal(answer.logits, left.logits)
            assert answer.reason == ("depth" if left.fired is None else "criterion")
            if left.fired is not None:
                assert answer.criterion == left.fired
            assert {name: lane.exit_layer for name, lane in answer.lanes.items()} == {
                name: max(walk.layers(name)) for name in walk.left
            }
            assert list(answer.tokens) == walk.tokens
        assert engine.queued_rows == 0
        assert max((rows for _, rows in backend.inner.calls), default=0) <= config["max_batch_rows"]


def sequential(manifest: Manifest, policy: Record) -> SequentialModel:
    backend, bundle = FakeBackend(), fake_bundle(manifest)
    return SequentialModel(
        manifest,
        lambda name: backend.load(manifest, bundle.root, name),
        {lane: LaneRules.model_validate(value) for lane, value in policy.items()},
    )


SINGLE = single_stream(layers=5, classes=4)
SINGLE_FINAL = single_stream(layers=5, classes=4, final_head=True)


@given(drawn=traffic(SINGLE))
@settings(max_examples=60)
def test_single_stream(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(SINGLE, drawn)


@given(drawn=traffic(SINGLE_FINAL))
def test_single_stream_with_a_final_head(
    drawn: tuple[list[Arrival], list[Record], Record],
) -> None:
    check(SINGLE_FINAL, drawn)


NLVR2, DUAL, CROSS = uniter_nlvr2(), xvlm_nlvr2(), lxmert()
CAPTION, SEQ2SEQ = oscar_captioning(max_steps=4), ofa()


@given(drawn=traffic(NLVR2))
def test_groups(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(NLVR2, drawn)


@given(drawn=traffic(DUAL))
def test_lanes_side_by_side(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(DUAL, drawn)


@given(drawn=traffic(CROSS))
def test_two_carried_states(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(CROSS, drawn)


@given(drawn=traffic(CAPTION))
@settings(max_examples=10)
def test_loops(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(CAPTION, drawn)


@given(drawn=traffic(SEQ2SEQ))
@settings(max_examples=8)
def test_tied_lanes_and_caches(drawn: tuple[list[Arrival], list[Record], Record]) -> None:
    check(SEQ2SEQ, drawn)
