"""The synthetic model as a bundle, written once into the bench's cache."""

import shutil
from collections.abc import Callable
from pathlib import Path

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.bench.workloads.config import UniterConfig
from exeunt.engine.backends import Backend
from exeunt.engine.bundle.reader import MANIFEST_FILE

FORMAT = 2  # to be raised whenever the same settings give another model or other graphs

Progress = Callable[[str, int, int], None]


def uniter_base_bundle(
    config: UniterConfig | None = None,
    *,
    cache_dir: Path | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the directory of the bundle, which is written at the first call.

    A half-written bundle is never there, and of two processes that ask at once one waits.

    Args:
        config: the model's sizes; UNITER-base's by default.
        cache_dir: see `bench_cache`.
        backend: measures parity when the bundle is written. By default ONNX Runtime with a thread
            for each core; a process has one pool of threads, so give the bench's own backend where
            that has another number.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        ConfigError: the cache cannot be written.
        ExportError: the graphs cannot be written, or parity fails.
    """
    chosen = UniterConfig() if config is None else config
    bundle = bench_cache(cache_dir) / f"uniter-base-f{FORMAT}-{chosen.key}"
    with making(bundle):
        if not (bundle / MANIFEST_FILE).is_file():
            for left in bundle.parent.glob(f".{bundle.name}.export-*"):  # of a process killed
                shutil.rmtree(left, ignore_errors=True)
            _write(chosen, bundle, backend, progress)
    return bundle


def _write(
    config: UniterConfig, bundle: Path, backend: Backend | None, progress: Progress | None
) -> None:
    from exeunt.export.requirements import require_libraries

    require_libraries()
    from exeunt.bench.workloads.uniter_plan import uniter_plan
    from exeunt.export.alike import AlikeWriter
    from exeunt.export.bundle import write_bundle

    if progress:
        progress("draw the weights", 0, 1)
    write_bundle(
        uniter_plan(config),
        bundle,
        layout="both",
        backend=backend,
        progress=progress,
        write=AlikeWriter(),
    )
