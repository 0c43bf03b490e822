"""The in-process peers: each leaves where it should, with the answers of the model."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.bench.peers import (
    Batch1,
    Batch1Processes,
    Compact,
    Consensus,
    OwnProcess,
    Peer,
    PeerRun,
    RunUntilLast,
    Segments,
    StaticBatches,
    StaticCallers,
    best_static,
    build_segment_peer,
    search_static,
    static_graphs,
)
from exeunt.bench.peers.cores import Cores
from exeunt.bench.peers.fixed_shapes import fixed_graphs
from exeunt.bench.peers.onnx_session import OnnxGraph
from exeunt.bench.peers.static_search import Tried
from exeunt.bench.peers.torch_compile import TorchCompile
from exeunt.bench.workloads import Sample, UniterConfig, draw_exits, draw_samples
from exeunt.bench.workloads import uniter_base_bundle as write_bundle
from exeunt.bench.workloads.whole import whole_graph
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.backends.onnxruntime import OnnxRuntimeBackend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError, SegmentError
from tests.bench.test_workloads import TINY

COUNT = 21  # no multiple of a batch
THREADS = EngineConfig().compute_threads
ALONE = Cores(1, THREADS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bench-cache"


@pytest.fixture(scope="module")
def bundle(cache: Path) -> Bundle:
    return Bundle.open(write_bundle(TINY, cache_dir=cache))


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend("onnxruntime", THREADS)


@pytest.fixture(scope="module")
def segments(bundle: Bundle, backend: Backend) -> Segments:
    return Segments(bundle, backend)


@pytest.fixture(scope="module", params=["fixed", "varying"])
def samples(request: pytest.FixtureRequest) -> list[Sample]:
    return draw_samples(TINY, COUNT, lengths=request.param)


@pytest.fixture(scope="module")
def exits() -> NDArray[np.int64]:
    return draw_exits("uniform", TINY.layers, COUNT)


@pytest.fixture(scope="module")
def answers(bundle: Bundle, backend: Backend, samples: list[Sample]) -> NDArray[np.float32]:
    """The logits [N, L, C] of each sample alone, segment by segment, without any peer's code."""
    manifest, lane = bundle.manifest, bundle.manifest.lane("joint")

    def run(name: str, tensors: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        spec = manifest.segments[name]
        loaded = backend.load(manifest, bundle.root, name)
        found = loaded.run({port: tensors[text] for port, text in spec.inputs.items()})
        return [found[port] for port in spec.outputs]

    rows = []
    for sample in samples:
        raw = {f"input.{name}": array[None] for name, array in sample.items()}
        hidden, mask = run("embed", raw)
        logits = []
        for layer, name in enumerate(lane.layers, 1):
            (hidden,) = run(name, {"hidden": hidden, "mask": mask})
            logits.append(run(lane.heads[layer], {"hidden": hidden})[0][0])
        rows.append(logits)
    return np.array(rows)


def _serve(peer: Peer, samples: list[Sample], exits: NDArray[np.int64]) -> PeerRun:
    """Run twice: the first pass binds memory, and the second meets it bound."""
    peer.prepare(samples, exits)
    first, second = peer.run(), peer.run()
    assert np.array_equal(first.exit_layers, second.exit_layers)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert second.seconds > 0
    peer.close()
    peer.close()
    return second


def _check(run: PeerRun, layers: NDArray[np.int64], answers: NDArray[np.float32]) -> None:
    assert run.exit_layers.tolist() == layers.tolist()
    expected = answers[np.arange(COUNT), layers - 1]
    np.testing.assert_allclose(run.logits, expected, atol=1e-4)


EARLY: dict[str, Callable[[Segments], Peer]] = {
    "run until last": lambda segments: RunUntilLast(segments, 8),
    "compact": lambda segments: Compact(segments, 8),
    "compact, all at once": lambda segments: Compact(segments, 64),
    "batch 1": Batch1,
}


@pytest.mark.parametrize("name", EARLY)
def test_rows_leave_where_they_were_drawn_to(
    name: str,
    segments: Segments,
    samples: list[Sample],
    exits: NDArray[np.int64],
    answers: NDArray[np.float32],
) -> None:
    _check(_serve(EARLY[name](segments), samples, exits), exits, answers)


def test_in_consensus_the_hardest_sets_the_pace(
    segments: Segments,
    samples: list[Sample],
    exits: NDArray[np.int64],
    answers: NDArray[np.float32],
) -> None:
    run = _serve(Consensus(segments, 4), samples, exits)
    pace = [exits[first : first + 4].max() for first in range(0, COUNT, 4)]
    assert min(pace) < TINY.layers  # else this would not show that a batch leaves early
    _check(run, np.repeat(pace, 4)[:COUNT], answers)


def test_samples_that_change_are_served_anew(
    segments: Segments, samples: list[Sample], exits: NDArray[np.int64]
) -> None:
    peer = Compact(segments, 8)
    peer.prepare(samples, exits)
    before = peer.run()
    peer.prepare(samples[::-1], exits[::-1].copy())
    after = peer.run()
    assert after.exit_layers.tolist() == before.exit_layers[::-1].tolist()
    np.testing.assert_allclose(after.logits, before.logits[::-1], atol=1e-4)


def test_another_backend_runs_the_same_segments(
    bundle: Bundle, samples: list[Sample], exits: NDArray[np.int64], answers: NDArray[np.float32]
) -> None:
    _check(
        _serve(Compact(Segments(bundle, open_backend("torch", THREADS)), 8), samples, exits),
        exits,
        answers,
    )


def test_static_batches_run_to_full_depth(
    bundle: Bundle,
    backend: Backend,
    cache: Path,
    samples: list[Sample],
    exits: NDArray[np.int64],
    answers: NDArray[np.float32],
) -> None:
    graphs = static_graphs(bundle, backend, ALONE, cache_dir=cache)
    assert len(graphs) == 2
    for name, graph in graphs.items():
        peer = StaticBatches(graph, bundle.manifest, 8, backend="onnxruntime", optimizers=name)
        _check(_serve(peer, samples, exits), np.full(COUNT, TINY.layers), answers)


def test_the_search_takes_the_fastest_of_all_settings(
    bundle: Bundle, backend: Backend, cache: Path
) -> None:
    samples = draw_samples(TINY, 4)
    graphs = static_graphs(bundle, backend, ALONE, cache_dir=cache)
    passes: list[None] = []
    found = search_static(
        {ALONE: graphs},
        bundle.manifest,
        samples,
        backend="onnxruntime",
        sizes=(1, 4, 8),
        repeats=2,
        progress=lambda: passes.append(None),
    )
    assert set(found.seconds) == {(name, size, 1) for name in graphs for size in (1, 4)}
    assert len(passes) == 4 * 3
    best = found.best.settings
    key = Tried(str(best["optimizers"]), int(best["batch_rows"]), int(best["callers"]))
    assert found.seconds[key] == min(found.seconds.values())
    found.best.prepare(samples, np.empty(0, dtype=np.int64))
    assert found.best.run().logits.shape == (4, TINY.labels)
    with pytest.raises(ConfigError, match="fill no batch"):
        search_static({ALONE: graphs}, bundle.manifest, samples, backend="onnxruntime", sizes=(8,))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_several_callers_share_the_samples(
    name: str, bundle: Bundle, cache: Path, samples: list[Sample], answers: NDArray[np.float32]
) -> None:
    cores = ALONE if name == "onnxruntime" else Cores(2, 2)
    graphs = static_graphs(bundle, open_backend(name, THREADS), cores, cache_dir=cache)
    graph = next(iter(graphs.values()))
    callers = [StaticBatches(graph, bundle.manifest, 4, backend=name) for _ in range(2)]
    peer = StaticCallers(callers)
    assert peer.settings["callers"] == 2
    full = np.full(COUNT, TINY.layers)
    _check(_serve(peer, samples, full), full, answers)
    with pytest.raises(ConfigError, match="give one of 2 callers 3, which fill no batch of 4"):
        peer.prepare(samples[:7], full)
    peer.close()


class _Slow(StaticBatches):
    """Takes the seconds that it is told to, to show what of two callers is counted."""

    def __init__(self, bundle: Bundle, graph: LoadedSegment, batch_s: float) -> None:
        super().__init__(graph, bundle.manifest, 1, backend="test")
        self.batch_s, self.served = batch_s, 0

    def serve_batch(self, first: int, logits: NDArray[np.float32]) -> None:
        time.sleep(self.batch_s)
        self.served += 1


def test_the_rates_of_all_callers_count_and_none_is_idle_before_the_last_ends(
    bundle: Bundle, backend: Backend, cache: Path
) -> None:
    graph = next(iter(static_graphs(bundle, backend, ALONE, cache_dir=cache).values()))
    fast, slow = _Slow(bundle, graph, 0.01), _Slow(bundle, graph, 0.04)
    peer = StaticCallers([fast, slow])
    peer.prepare(draw_samples(TINY, 8), np.empty(0, dtype=np.int64))
    seconds = peer.run().seconds
    peer.close()
    assert fast.served > 4
    assert slow.served == 4
    # 100 and 25 samples a second at best; alone, the slow one would set the pace: 50.
    assert 8 / 125 <= seconds < 8 / 60


def test_full_depth_is_searched_in_both_ways_beside_two_streams(
    bundle: Bundle, cache: Path
) -> None:
    backend = open_backend("openvino", 2, streams=2)
    samples = draw_samples(TINY, 8)
    found = best_static(
        bundle, backend, samples, threads=2, streams=2, sizes=(4, 8), repeats=1, cache_dir=cache
    )
    general = {tried[1:] for tried in found.seconds if tried.optimizers == "default"}
    assert general == {(4, 1), (8, 1), (4, 2)}  # two callers have four samples each
    best = found.best.settings
    assert (best["optimizers"], best["batch_rows"], best["callers"]) in found.seconds
    with pytest.raises(ConfigError, match="cannot be shared out evenly among 2"):
        Cores(2, 3)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_full_depth_may_be_compiled_for_one_shape(
    name: str, bundle: Bundle, segments: Segments, cache: Path
) -> None:
    backend = open_backend(name, THREADS)
    samples = draw_samples(TINY, COUNT)
    found = best_static(
        bundle, backend, samples, threads=THREADS, sizes=(2, 4), repeats=1, cache_dir=cache
    )
    fixed = {key for key in found.seconds if key[0].startswith("fixed shapes")}
    assert {tried.batch_rows for tried in fixed} == {2, 4}
    assert len(fixed) == (4 if name == "onnxruntime" else 2)
    best = found.best.settings
    assert (best["optimizers"], best["batch_rows"], 1) in found.seconds
    alone = Batch1(segments)
    alone.prepare(samples, np.full(COUNT, TINY.layers))
    answers = alone.run().logits
    file = whole_graph(bundle, cache_dir=cache)
    general = next(iter(static_graphs(bundle, backend, ALONE, cache_dir=cache).values()))
    sizes = {"batch": 4, "S": TINY.words, "R": TINY.regions}
    for graph in fixed_graphs(bundle.manifest, file, sizes, backend=name, cores=ALONE).values():
        peer = StaticBatches(general, bundle.manifest, 4, backend=name, fixed=graph)
        first = np.ones(COUNT, dtype=np.int64)
        run = _serve(peer, samples, first)  # full depth heeds no exits
        assert set(run.exit_layers) == {TINY.layers}
        np.testing.assert_allclose(run.logits, answers, atol=1e-4)
        with pytest.raises(ConfigError, match="several lengths"):
            peer.prepare(draw_samples(TINY, COUNT, lengths="varying"), first)


def test_samples_of_several_lengths_have_no_shape_to_compile_for(
    bundle: Bundle, backend: Backend, cache: Path
) -> None:
    samples = draw_samples(TINY, 6, lengths="varying")
    found = best_static(
        bundle, backend, samples, threads=THREADS, sizes=(2,), repeats=1, cache_dir=cache
    )
    assert not [tried for tried in found.seconds if tried.optimizers.startswith("fixed")]


def test_the_whole_graph_has_the_engines_own_session_options(
    bundle: Bundle, backend: Backend, cache: Path
) -> None:
    assert isinstance(backend, OnnxRuntimeBackend)
    ours, engines = OnnxGraph(whole_graph(bundle, cache_dir=cache), THREADS, []), backend
    names = [name for name in dir(ours.options) if not name.startswith("_")]
    plain = [name for name in names if not callable(getattr(ours.options, name))]
    assert len(plain) > 10
    for name in plain:
        assert getattr(ours.options, name) == getattr(engines._options, name), name
    entry = "session.use_env_allocators"
    assert ours.options.get_session_config_entry(entry) == "1"
    assert engines._options.get_session_config_entry(entry) == "1"


def test_one_process_for_each_core(
    bundle: Bundle, samples: list[Sample], exits: NDArray[np.int64], answers: NDArray[np.float32]
) -> None:
    _check(_serve(Batch1Processes(bundle.root, "onnxruntime", 2), samples, exits), exits, answers)


def test_a_peer_may_have_a_process_and_a_thread_pool_of_its_own(
    bundle: Bundle, exits: NDArray[np.int64], answers: NDArray[np.float32], samples: list[Sample]
) -> None:
    build = partial(build_segment_peer, "compact", bundle.root, "onnxruntime", 1, 8)
    peer = OwnProcess("compact", build)
    assert peer.settings == {"backend": "onnxruntime", "batch_rows": 8, "processes": 1}
    _check(_serve(peer, samples, exits), exits, answers)


def test_a_process_of_its_own_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=r"of the peer compact failed: .*manifest\.json"):
        OwnProcess("compact", partial(build_segment_peer, "compact", tmp_path, "fake", 1, 8))


def test_a_process_that_fails_says_why(tmp_path: Path, exits: NDArray[np.int64]) -> None:
    peer = Batch1Processes(tmp_path, "onnxruntime", 1)
    with pytest.raises(SegmentError, match=r"manifest\.json is missing"):
        peer.prepare(draw_samples(TINY, 1), exits[:1])
    peer.close()


def test_the_compiled_model_has_the_bundles_weights(
    bundle: Bundle, samples: list[Sample], exits: NDArray[np.int64], answers: NDArray[np.float32]
) -> None:
    """The compiler is left out, which takes a minute; what it compiles is not."""
    peer = TorchCompile(TINY, bundle.manifest, 8, THREADS, compiler="eager")
    _check(_serve(peer, samples, exits), np.full(COUNT, TINY.layers), answers)


def test_impossible_batches_are_refused(segments: Segments, bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Compact(segments, 0)
    with pytest.raises(ConfigError, match="at least 1"):
        TorchCompile(UniterConfig(layers=1, hidden=64), bundle.manifest, 0, THREADS)
    with pytest.raises(ConfigError, match="at least 1"):
        Batch1Processes(bundle.root, "onnxruntime", 0)
