"""Everything that is made before anything is measured: graphs, requests, policies, environments."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exeunt.bench.http_peers.contenders import (
    Backend,
    Contender,
    Files,
    Precision,
    ours,
    peer,
)
from exeunt.bench.http_peers.environment import Framework, peer_python
from exeunt.bench.http_peers.settings import HttpSettings
from exeunt.bench.workloads.calibrated import calibrated_policy
from exeunt.bench.workloads.patches_bundle import patches_bundle
from exeunt.bench.workloads.pictures import PictureRequest, draw_requests
from exeunt.bench.workloads.whole import whole_graph
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.backends import open_backend
from exeunt.engine.backends.openvino.library import capabilities
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import BackendUnavailable, ConfigError
from exeunt.engine.exit_policy import ExitPolicy

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What a run is measured with.

    contenders: those that can be measured. not_measured: why the others cannot. rho: of our
    contenders with exits, as calibrated.
    """

    files: Files
    requests: list[PictureRequest]
    contenders: tuple[Contender, ...]
    not_measured: dict[str, str]
    rho: dict[str, float]


def prepare(
    settings: HttpSettings, directory: Path, cache_dir: Path | None, tell: Progress
) -> Prepared:
    """Make what the run needs; what is slow to make is kept in the bench's cache.

    Args:
        settings: of the run.
        directory: for the exit policies.
        cache_dir: see `bench_cache`.
        tell: called with what comes next.

    Raises:
        ConfigError: our own configurations cannot be had.
    """
    config = settings.workload
    backend, precision = best_backend(settings)
    tell("preparing the bundle")
    with closing(open_backend("onnxruntime", settings.compute_threads)) as writer:
        root = patches_bundle(config, cache_dir=cache_dir, backend=writer)
    padded = patches_bundle(config, pad_to_multiple=config.words, cache_dir=cache_dir)
    bundle = Bundle.open(root)
    image = bundle.manifest.inputs.image
    assert image is not None, "the workload takes an image"
    requests = draw_requests(config, settings.requests, image.size[0], seed=settings.seed)
    pythons, not_measured = _environments(settings, cache_dir, tell)
    contenders = [*ours(backend, precision)]
    for name in settings.peers:
        chosen = peer(name, backend, precision)
        if chosen.framework in pythons:
            contenders.append(chosen)
        else:
            not_measured[name] = not_measured[str(chosen.framework)]
    not_measured = {name: not_measured[name] for name in settings.peers if name in not_measured}
    policies, rhos = {}, {}
    for contender in contenders:
        if contender.exits:
            tell(f"calibrating the exits of {contender.name}")
            served = root if contender.buckets else padded
            policy, rho = _calibrate(settings, contender, served, requests)
            policies[contender.name] = _write(policy, directory / f"{contender.name}.yaml")
            rhos[contender.name] = rho
    graph = whole_graph(bundle, cache_dir=cache_dir)
    files = Files(bundle.manifest, root, padded, graph, policies, pythons)
    return Prepared(files, requests, tuple(contenders), not_measured, rhos)


def best_backend(settings: HttpSettings) -> tuple[Backend, Precision]:
    """Return the backend and the precision of our best configuration, `auto` resolved.

    Raises:
        ConfigError: bf16 was asked for without OpenVINO.
    """
    try:
        known = capabilities()
    except BackendUnavailable:
        known = frozenset()
    backend = settings.backend
    if backend == "auto":
        backend = "openvino" if known else "onnxruntime"
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if backend == "openvino" and "BF16" in known else "fp32"
    if precision == "bf16" and backend != "openvino":
        raise ConfigError(
            "precision bf16 needs the backend openvino: install exeunt[openvino], or set the"
            " precision to fp32"
        )
    return backend, precision


def _environments(
    settings: HttpSettings, cache_dir: Path | None, tell: Progress
) -> tuple[dict[Framework, Path], dict[str, str]]:
    """Return the interpreter of each framework that is needed, and why there is none of others."""
    found: dict[Framework, Path] = {}
    reasons: dict[str, str] = {}
    for name in settings.peers:
        framework: Framework = "litserve" if name == "litserve-best" else name
        if framework in found or framework in reasons:
            continue
        try:
            found[framework] = peer_python(framework, cache_dir=cache_dir, progress=tell)
        except ConfigError as error:
            reasons[framework] = str(error)
    return found, reasons


def _calibrate(
    settings: HttpSettings, contender: Contender, bundle: Path, requests: list[PictureRequest]
) -> tuple[ExitPolicy, float]:
    config = EngineConfig(
        backend=contender.backend,
        precision=contender.precision,
        threads=settings.compute_threads,
        warm_up=False,
    )
    samples = [{"image": one.image, "text": one.text} for one in requests]
    with Engine.open(bundle, config) as engine:
        return calibrated_policy(engine, samples, settings.exits)


def _write(policy: ExitPolicy, file: Path) -> Path:
    content = policy.model_dump(mode="json", exclude_unset=True)
    file.write_text(json.dumps({"exit_policy": content}), encoding="utf-8")  # JSON is YAML
    return file


def order(requests: int, seed: int, repeat: int) -> list[int]:
    """Return the order in which the requests are sent in a repeat, to everybody alike."""
    places: list[int] = np.random.default_rng([seed, repeat]).permutation(requests).tolist()
    return places
