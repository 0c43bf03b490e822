"""The synthetic workload: its exits, its samples, its bundle and the same model as one graph."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exeunt.bench.workloads import (
    UniterConfig,
    draw_exits,
    draw_samples,
    drawn_policies,
    exit_shares,
    uniter_base_bundle,
    uniter_bundle,
    uniter_config,
)
from exeunt.bench.workloads.samples import Lengths
from exeunt.bench.workloads.uniter import uniter_base
from exeunt.bench.workloads.uniter_plan import uniter_plan
from exeunt.bench.workloads.whole import Heads, load_whole, whole_graph
from exeunt.engine import Engine
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.onnxruntime.library import import_onnxruntime
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError
from exeunt.export.alike import AlikeWriter
from exeunt.export.layers.bert import BertLayer
from exeunt.export.onnx_writer import write_segment
from exeunt.export.plan import Port, SegmentPlan

TINY = UniterConfig(hidden=64, layers=3, words=10, regions=12, vocab=50)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bench-cache"  # shared by the bench's test modules


@pytest.fixture(scope="module")
def bundle(cache: Path) -> Bundle:
    return Bundle.open(uniter_base_bundle(TINY, cache_dir=cache))


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend("onnxruntime", EngineConfig().compute_threads)


@pytest.fixture(scope="module")
def engine(bundle: Bundle, backend: Backend) -> Iterator[Engine]:
    with Engine.open(bundle, backend=backend) as opened:
        yield opened


@given(
    layers=st.integers(1, 24),
    share=st.floats(0, 1),
    count=st.integers(1, 500),
    seed=st.integers(0, 9),
)
def test_rho_has_the_mean_that_it_says(layers: int, share: float, count: int, seed: int) -> None:
    rho = min(1.0, 1 / layers + share * (1 - 1 / layers))
    shares = exit_shares(f"rho:{rho}", layers)
    assert shares.sum() == pytest.approx(1)
    assert shares @ np.arange(1, layers + 1) == pytest.approx(rho * layers, abs=1e-6)
    exits = draw_exits(f"rho:{rho}", layers, count, seed)
    assert len(exits) == count
    assert exits.min() >= 1
    assert exits.max() <= layers
    assert abs(exits.mean() - rho * layers) * count <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("spec", "layers", "expected"),
    [
        ("uniform", 12, [10] * 12),
        ("bimodal", 12, [0, 0, 72, 0, 0, 0, 0, 0, 0, 0, 0, 48]),
        ("bimodal", 3, [72, 0, 48]),
        ("last", 4, [0, 0, 0, 120]),
        ("rho:0.541666666666666667", 12, [10] * 12),  # uniform is a member of the family
        ("rho:1", 3, [0, 0, 120]),
        ("rho:0.25", 4, [120, 0, 0, 0]),
    ],
)
def test_named_exits(spec: str, layers: int, expected: list[int]) -> None:
    exits = draw_exits(spec, layers, 120)
    assert np.bincount(exits, minlength=layers + 1)[1:].tolist() == expected


def test_the_order_of_exits_is_random_but_always_the_same() -> None:
    exits = draw_exits("uniform", 12, 240, seed=1)
    assert np.array_equal(exits, draw_exits("uniform", 12, 240, seed=1))
    assert not np.array_equal(exits, draw_exits("uniform", 12, 240, seed=2))
    halves = exits[:120].mean(), exits[120:].mean()
    assert max(halves) < 8  # sorted, the second half would have 9.5


def test_recorded_exits(tmp_path: Path) -> None:
    counts = {"1": 5, "2": 0, "3": 15}
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    (tmp_path / "report.json").write_text(json.dumps({"rho": 0.5, "exits": counts}))
    for name in ("counts", "report"):
        exits = draw_exits(f"recorded:{tmp_path / name}.json", 6, 40)
        assert Counter(exits.tolist()) == {2: 10, 6: 30}
    with pytest.raises(ConfigError, match="model of 3 layers, the workload has 4"):
        draw_exits(f"recorded:{tmp_path / 'counts.json'}", 4, 40)


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"2": 5}', '{"1": -1}', '{"1": 0.5}'])
def test_a_record_that_says_no_exits_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "exits.json").write_text(content)
    with pytest.raises(ConfigError, match=r"exits\.json"):
        exit_shares(f"recorded:{tmp_path / 'exits.json'}", 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("normal", "expected uniform, bimodal, last, rho:X or recorded:FILE"),
        ("uniform:3", "expected uniform"),
        ("rho", "expected uniform"),
        ("rho:", "expected uniform"),
        ("rho:0.08", "expected a number from 0.08333 .* to 1"),
        ("rho:1.01", "expected a number from"),
        ("rho:nan", "expected a number from"),
        ("rho:half", "expected a number from"),
        ("recorded:nowhere.json", "cannot be read"),
    ],
)
def test_unknown_exits_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_exits(spec, 12, 10)


def test_no_samples_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        draw_exits("uniform", 12, 0)


def test_samples_have_the_lengths_that_were_asked_for() -> None:
    config = UniterConfig()

    def sizes(lengths: Lengths) -> tuple[list[int], list[int]]:
        samples = draw_samples(config, 400, lengths=lengths)
        assert all(
            len(s["attention_mask"]) == len(s["input_ids"])
            and len(s["region_features"]) == len(s["region_boxes"]) == len(s["region_mask"])
            for s in samples
        )
        words = [len(s["input_ids"]) for s in samples]
        return words, [len(s["region_mask"]) for s in samples]

    assert [set(found) for found in sizes("fixed")] == [{28}, {36}]
    words, regions = sizes("varying-text")
    assert set(words) == set(range(8, 29))
    assert set(regions) == {36}
    words, regions = sizes("varying")
    assert set(words) == set(range(8, 29))
    assert set(regions) == set(range(10, 37))
    with pytest.raises(ConfigError, match="expected one of"):
        sizes(cast(Lengths, "long"))


def test_drawn_exits_are_where_samples_leave(engine: Engine) -> None:
    samples = draw_samples(TINY, 40, lengths="varying")
    exits = draw_exits("rho:.6", TINY.layers, len(samples))
    policies = drawn_policies(engine)
    with engine.reserve(len(samples)) as ticket:
        pending = [
            engine.submit_tensors(ticket, sample, exit_policy=policies[int(layer)])
            for sample, layer in zip(samples, exits, strict=True)
        ]
        answers = [future.result() for future in pending]
    assert [answer.exit_layer for answer in answers] == exits.tolist()
    for sample, answer in zip(samples, answers, strict=True):
        assert answer.criterion == "entropy"
        assert answer.reason == "criterion"
        assert answer.score is not None  # the criterion has run
        assert 0 <= answer.score <= np.log(TINY.labels) + 1e-6
        alone = engine.probe({name: array[None] for name, array in sample.items()})["joint"]
        np.testing.assert_array_equal(answer.logits, alone.logits[answer.exit_layer][0])


def test_answers_differ_from_sample_to_sample(engine: Engine) -> None:
    """Else the agreement of two number formats would say nothing."""
    samples = draw_samples(TINY, 30)
    batch = {name: np.stack([s[name] for s in samples]) for name in samples[0]}
    for logits in engine.probe(batch)["joint"].logits.values():
        assert logits.std(axis=0).min() > 0.1


@pytest.mark.parametrize("heads", ["last", "all"])
def test_the_whole_graph_answers_as_its_segments(
    heads: Heads, engine: Engine, backend: Backend, cache: Path
) -> None:
    file = whole_graph(engine.bundle, heads, cache_dir=cache)
    onnx.checker.check_model(onnx.load(file), full_check=True)
    written = file.stat().st_mtime_ns
    assert whole_graph(engine.bundle, heads, cache_dir=cache) == file
    assert file.stat().st_mtime_ns == written
    graph = load_whole(backend, engine.bundle, heads, file)
    for length in get_args(Lengths):
        samples = draw_samples(TINY, 1, lengths=length, seed=3)
        batch = {name: np.stack([array, array]) for name, array in samples[0].items()}
        found = graph.run(batch)
        expected = engine.probe(batch)["joint"].logits
        np.testing.assert_allclose(found["logits"], expected[TINY.layers], atol=1e-4)
        exits = {f"logits.{layer}" for layer in expected} if heads == "all" else set()
        assert set(found) == {"logits", *exits}
        for layer, logits in expected.items():
            if heads == "all":
                np.testing.assert_allclose(found[f"logits.{layer}"], logits, atol=1e-4)


class _AtDepth(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = uniter_base(TINY)

    def forward(
        self, ids: Tensor, words: Tensor, features: Tensor, boxes: Tensor, regions: Tensor
    ) -> Tensor:
        return self.model.at_depth(ids, words, features, boxes, regions)


def test_the_whole_graph_runs_the_operators_of_one_traced_as_a_whole(
    engine: Engine, cache: Path, tmp_path: Path
) -> None:
    """After ONNX Runtime's own optimisation: joined from segments, it is no slower a baseline."""
    entry = next(part for part in uniter_plan(TINY).segments if part.name == "embed")
    logits = Port("logits", "head.logits", ("batch", TINY.labels))
    whole = SegmentPlan("whole", "head", _AtDepth(), entry.inputs, (logits,), entry.examples)
    write_segment(whole, tmp_path / "traced.onnx")

    library = import_onnxruntime()

    def operators(file: Path) -> Counter[str]:
        options = library.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)

    joined = operators(whole_graph(engine.bundle, cache_dir=cache))
    traced = operators(tmp_path / "traced.onnx")
    assert joined["FusedMatMul"] == joined["Softmax"] == joined["BiasGelu"] == TINY.layers
    assert not joined - traced  # nothing more, of no kind


def test_a_bundle_is_written_once(bundle: Bundle, cache: Path) -> None:
    steps: list[str] = []
    again = uniter_base_bundle(
        TINY, cache_dir=cache, progress=lambda step, _done, _steps: steps.append(step)
    )
    assert again == bundle.root
    assert steps == []
    assert bundle.manifest.lane("joint").depth == TINY.layers
    assert all(spec.parity for spec in bundle.manifest.segments.values())
    assert TINY.key != UniterConfig(**{**TINY.model_dump(), "seed": 1}).key


def test_a_bundle_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    left = tmp_path / f".uniter-base-f{uniter_bundle.FORMAT}-{TINY.key}.export-of-a-killed-one"
    left.mkdir()
    monkeypatch.setattr(AlikeWriter, "__call__", fail)
    with pytest.raises(KeyboardInterrupt):
        uniter_base_bundle(TINY, cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_cache_lies_where_caches_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"file/exeunt/bench \(Not a directory\).*XDG_CACHE_HOME"):
        uniter_base_bundle(TINY)


def test_alike_segments_get_the_bytes_that_tracing_gives_them(
    bundle: Bundle, tmp_path: Path
) -> None:
    segments = {segment.name: segment for segment in uniter_plan(TINY).segments}
    for name in ("layer.02", "head.03"):
        write_segment(segments[name], tmp_path / name)
        file = bundle.path(bundle.manifest.segments[name].file)
        assert file.read_bytes() == (tmp_path / name).read_bytes()


def test_the_layer_is_the_post_norm_encoder_layer() -> None:
    """Against torch's own, which packs query, key and value into one matrix."""
    torch.manual_seed(0)
    ours = BertLayer(24, heads=3).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        24, 3, 96, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith("bias"):  # else the LayerNorms' would be 0
                parameter.normal_()
    inner = ours.attention.self
    parts = (inner.query, inner.key, inner.value)
    state = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
    }
    modules: dict[str, torch.nn.Module] = {
        "self_attn.out_proj": ours.attention.output.dense,
        "norm1": ours.attention.output.LayerNorm,
        "linear1": ours.intermediate.dense,
        "linear2": ours.output.dense,
        "norm2": ours.output.LayerNorm,
    }
    for name, module in modules.items():
        state |= {f"{name}.{kind}": value for kind, value in module.state_dict().items()}
    theirs.load_state_dict(state)
    hidden = torch.randn(2, 5, 24)
    mask = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        found = ours(hidden, mask)
        expected = theirs(hidden, src_key_padding_mask=mask == 0)
    torch.testing.assert_close(found[mask > 0], expected[mask > 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 100, "heads": 3}, "not a multiple of 3 heads"),
        ({"layers": 0}, "at layers"),
        ({"depth": 3}, "at depth"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        uniter_config(**settings)


def test_a_bundle_that_is_there_needs_no_torch(bundle: Bundle, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import exeunt.bench.peers;"
        " from exeunt.bench.workloads import UniterConfig, uniter_base_bundle;"
        f" config = UniterConfig.model_validate_json({TINY.model_dump_json()!r});"
        f" print(uniter_base_bundle(config, cache_dir=Path({str(cache)!r})));"
        " print(*{'torch', 'onnx', 'exeunt.export'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == [str(bundle.root), ""]
