"""Who is measured: our server in four configurations, and the peers.

Ours differ from each other in one thing at a time, so that every factor is seen singly: from
`exeunt-plain` (ONNX Runtime in float32, full depth, every text padded to the longest) over another
backend and precision and over exits to `exeunt`, in which a short text also costs less than a long
one.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exeunt.bench.http_peers.environment import Framework
from exeunt.bench.http_peers.process import ServedProcess, free_port
from exeunt.bench.http_peers.tuning import Tuning
from exeunt.engine.bundle.manifest import Manifest

Backend = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16"]
SERVERS = Path(__file__).with_name("servers")
SETTINGS_VARIABLE = "EXEUNT_BENCH_PEER"
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}
QUEUED_ROWS = 1024


@dataclass(frozen=True)
class Contender:
    """One server.

    framework: None for ours. exits: whether samples leave early. buckets: whether texts are
    padded to a multiple of their own length, or packed; else padded to the longest, of the model in
    our server and of the batch in a peer's.
    """

    name: str
    framework: Framework | None
    backend: Backend
    precision: Precision
    exits: bool = False
    buckets: bool = False


@dataclass(frozen=True)
class Files:
    """What the servers read. policies: by contender, those with exits."""

    manifest: Manifest
    bundle: Path
    padded: Path
    graph: Path
    policies: Mapping[str, Path]
    pythons: Mapping[Framework, Path]


def ours(backend: Backend, precision: Precision) -> tuple[Contender, ...]:
    """Return our configurations, the best first, each next one without one thing more."""
    return (
        Contender("exeunt", None, backend, precision, exits=True, buckets=True),
        Contender("exeunt-one-length", None, backend, precision, exits=True),
        Contender("exeunt-full-depth", None, backend, precision),
        Contender("exeunt-plain", None, "onnxruntime", "fp32"),
    )


def peer(name: str, backend: Backend, precision: Precision) -> Contender:
    """Return a peer by its name; the given backend and precision are those of `litserve-best`."""
    match name:
        case "litserve-best":
            return Contender(name, "litserve", backend, precision)
        case "litserve" | "bentoml" | "ray":
            return Contender(name, name, "onnxruntime", "fp32")
    raise AssertionError(f"the settings allow no peer {name!r}")


def start(contender: Contender, files: Files, tuning: Tuning, threads: int) -> ServedProcess:
    """Start a contender's server; it is not ready yet.

    Raises:
        ConfigError: it cannot be started.
    """
    if contender.framework is None:
        return _start_ours(contender, files, tuning, threads)
    return _start_peer(contender, contender.framework, files, tuning, threads)


def _start_ours(contender: Contender, files: Files, tuning: Tuning, threads: int) -> ServedProcess:
    port = free_port()
    bundle = files.bundle if contender.buckets else files.padded
    policy = str(files.policies[contender.name]) if contender.exits else "never"
    command = [sys.executable, "-m", "exeunt.server", str(bundle), "--exit-policy", policy]
    engine = {
        "BACKEND": contender.backend,
        "PRECISION": contender.precision,
        "THREADS": str(threads),
        "MAX_BATCH_ROWS": str(tuning.batch_rows),
        "MAX_QUEUED_ROWS": str(QUEUED_ROWS),
        "STREAMS": str(tuning.streams or 1),
    }
    settings = {f"EXEUNT__ENGINE__{key}": value for key, value in engine.items()}
    if not contender.buckets:
        settings["EXEUNT__ENGINE__LAYOUT"] = "padded"  # packed tokens know no padding
    settings["EXEUNT__LOG__LEVEL"] = "warning"
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("EXEUNT__")}
    return ServedProcess(
        contender.name,
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        {**inherited, **settings},
        port,
    )


def _start_peer(
    contender: Contender, framework: Framework, files: Files, tuning: Tuning, threads: int
) -> ServedProcess:
    port, python = free_port(), str(files.pythons[framework])
    command = {
        "litserve": [python, "litserve_server.py"],
        "bentoml": [
            *(python, "-m", "bentoml", "serve", "bentoml_server:Peer", "--working-dir", "."),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "ray": [python, "ray_server.py"],
    }[framework]
    settings = {
        **_model(files),
        "backend": contender.backend,
        "precision": contender.precision,
        "threads": threads,
        "max_batch_size": tuning.batch_rows,
        "batch_timeout_s": tuning.batch_timeout_s or 0.0,
        "port": port,
    }
    # Neither path nor home of this interpreter: the peer has packages of its own.
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment = {**inherited, **QUIET, SETTINGS_VARIABLE: json.dumps(settings)}
    return ServedProcess(contender.name, command, environment, port, SERVERS)


def _model(files: Files) -> dict[str, object]:
    image, text = files.manifest.inputs.image, files.manifest.inputs.text
    assert image is not None, "the workload takes an image"
    assert text is not None, "and a text"
    return {
        "graph": str(files.graph),
        "tokenizer": str(files.bundle / text.tokenizer),
        "labels": files.manifest.tasks[0].labels,
        "size": image.size,
        "mean": image.mean[0],
        "std": image.std[0],
        "words": text.max_tokens,
    }
