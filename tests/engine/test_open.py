"""Opening an engine: settings, backends, and the one thread pool of the process."""

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from exeunt.engine import Engine, EngineConfig
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.backends.onnxruntime import library
from exeunt.engine.backends.registry import open_backend
from exeunt.engine.errors import BackendUnavailable, BundleError, ConfigError, SegmentError
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"backend": "tensorflow"}, "backend"),
        ({"threads": -1}, "threads"),
        ({"threads": 100_000}, "threads"),
        ({"max_batch_rows": 0}, "max_batch_rows"),
        ({"max_wait_s": float("nan")}, "max_wait_s"),
        ({"max_wait_s": 0}, "max_wait_s"),
        ({"max_queued_rows": 0}, "max_queued_rows"),
        ({"max_batch_size": 8}, "max_batch_size"),
        ({"limits": {"max_image_pixels": 0}}, "limits.max_image_pixels"),
        ({"limits": {"pixels": 1}}, "limits.pixels"),
        ({"exit_policy": {"version": 0}}, "exit_policy.version"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"at {key}"):
        Engine.open(fake_bundle(single_stream()), settings)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        EngineConfig().threads = 2  # type: ignore[misc]


def test_no_threads_asked_for_takes_those_of_the_process() -> None:
    assert EngineConfig(threads=3).compute_threads == 3
    assert EngineConfig(threads=0).compute_threads >= 1


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'jax'.*'fake', 'onnxruntime', 'openvino', 'torch'"):
        open_backend("jax", 1)


def test_the_fake_backend_is_a_setting() -> None:
    with Engine.open(fake_bundle(single_stream()), {"backend": "fake"}) as engine:
        assert engine.ready
        assert engine.run(random_tensors(engine.manifest, 1))[0].depth == 6
    assert not engine.ready


def test_a_bundle_that_fails_its_warm_up_is_not_opened(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.failing.add("layer.04")
    bundle = fake_bundle(single_stream(with_inputs=True), tmp_path)
    with pytest.raises(SegmentError, match=r"layer\.04"):
        Engine.open(bundle, backend=backend)
    with Engine.open(bundle, {"warm_up": False}, backend=backend) as engine:
        assert engine.ready


def test_warming_up_runs_every_segment(tmp_path: Path) -> None:
    backend = FakeBackend()
    manifest = single_stream(with_inputs=True, final_head=True)
    with Engine.open(fake_bundle(manifest, tmp_path), backend=backend):
        assert {name for name, _ in backend.calls} == set(manifest.segments)


def test_two_engines_serve_beside_each_other() -> None:
    first, second = single_stream(layers=3), single_stream(layers=5)
    with (
        Engine.open(fake_bundle(first), {"backend": "fake"}) as one,
        Engine.open(fake_bundle(second), {"backend": "fake"}) as other,
    ):
        assert one.run(random_tensors(first, 1))[0].depth == 3
        assert other.run(random_tensors(second, 1))[0].depth == 5
        one.close()
        assert other.run(random_tensors(second, 1))[0].depth == 5


def test_a_configuration_is_a_mapping() -> None:
    with pytest.raises(ConfigError, match="at top"):
        Engine.open(fake_bundle(single_stream()), "threads")  # type: ignore[arg-type]


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(BundleError, match="name too long"):
        Engine.open("x" * 300)


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gone"):
        Engine.open(tmp_path / "gone", {"backend": "fake"})


def installed(*names: str) -> Callable[[str], str]:
    """Return what `importlib.metadata.version` would be with only these packages."""

    def version(name: str) -> str:
        if name in names:
            return "1.20.0"
        raise metadata.PackageNotFoundError(name)

    return version


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ((), r"not installed: run `pip install 'exeunt\[cpu\]'`"),
        (("onnxruntime", "onnxruntime-gpu"), r"both installed.*exactly one"),
    ],
)
def test_neither_or_both_packages_of_onnx_runtime_give_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setattr(metadata, "version", installed(*packages))
    with pytest.raises(BackendUnavailable, match=reason):
        Engine.open(fake_bundle(single_stream()), {"backend": "onnxruntime"})


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libcudart.so.12 is missing")

    monkeypatch.setattr(metadata, "version", installed("onnxruntime-gpu"))
    monkeypatch.setattr(library, "import_module", broken)
    with pytest.raises(BackendUnavailable, match=r"onnxruntime-gpu.*libcudart"):
        library.import_onnxruntime()


@pytest.mark.parametrize("packages", [("onnxruntime",), ("onnxruntime-gpu",)])
def test_either_package_alone_will_do(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...]
) -> None:
    monkeypatch.setattr(metadata, "version", installed(*packages))
    assert library.installed_packages() == list(packages)


POOL = """
from exeunt.engine.backends.registry import open_backend
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError

first, second = open_backend("onnxruntime", 1), open_backend("onnxruntime", 1)
second.close()
open_backend("onnxruntime", 1)
try:
    open_backend("onnxruntime", 2)
except ConfigError as error:
    assert "a thread pool of 1" in str(error).replace("ONNX Runtime ", "a "), error
    assert "same `threads`" in str(error), error
    print("refused")
"""


def test_the_process_has_one_thread_pool() -> None:
    """In a process of its own: the pool lasts as long as the process does."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", POOL], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"]
