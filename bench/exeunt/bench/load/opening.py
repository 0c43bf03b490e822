"""Opening what `exeunt bench load` puts under load: an engine, or a server over HTTP."""

import json
import os
import random
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import aiohttp
from pydantic import JsonValue

from exeunt.bench.data import LabelledSample, load_data
from exeunt.bench.load.bodies import form_body
from exeunt.bench.load.engine_target import EngineTarget
from exeunt.bench.load.http import HttpClient, HttpTarget
from exeunt.bench.load.outcome import Reply, Target
from exeunt.bench.load.server_process import ServerProcess
from exeunt.bench.load.settings import LoadSettings, Policy
from exeunt.bench.load.sigterm import exit_on_sigterm
from exeunt.bench.load.synthetic import open_synthetic
from exeunt.engine import Engine
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import never
from exeunt.server.load_settings import load_settings as load_server_settings
from exeunt.server.settings import Settings

FIRST_ANSWER_S = 120.0
OVERRIDES = "EXEUNT__SERVER__OVERRIDES__CRITERIA"


@dataclass(frozen=True)
class Opened:
    """Targets by policy, and what a report says of them.

    labels: of the samples. model: the bundle's name. threads: of the compute pool, None for another
    process's that does not say. setting: more that two reports must share to be comparable.
    memory_bytes: asks for the most memory held so far; None where it is not known.
    """

    targets: dict[Policy, Target]
    labels: list[str | None]
    model: str
    threads: int | None
    setting: dict[str, JsonValue]
    memory_bytes: Callable[[], int | None]


@contextmanager
def open_targets(settings: LoadSettings) -> Iterator[Opened]:
    """Open what the settings name, prepare the samples, and close it in the end.

    Raises:
        ConfigError: the data, the bundle or the server cannot be used that way.
    """
    if settings.exits is not None:
        with _synthetic(settings) as opened:
            yield opened
        return
    samples = choose_samples(load_data(settings.data), settings)
    opening = _engine if settings.over == "engine" else _http
    with opening(settings, samples) as opened:
        yield opened


def choose_samples(every: Sequence[LabelledSample], settings: LoadSettings) -> list[LabelledSample]:
    """Return as many samples as are asked for, or all, drawn from the seed."""
    return random.Random(settings.seed).sample(every, min(settings.samples, len(every)))


@contextmanager
def _synthetic(settings: LoadSettings) -> Iterator[Opened]:
    server = _server_settings(settings)
    with open_synthetic(settings, server.engine_config()) as (engine, targets, said):
        _check_places(settings, engine)
        yield Opened(
            targets=targets,
            labels=[None] * settings.samples,
            model=engine.manifest.name,
            threads=engine.config.compute_threads,
            setting=_setting(server) | said,
            memory_bytes=_peak_memory_bytes,
        )


@contextmanager
def _engine(settings: LoadSettings, samples: list[LabelledSample]) -> Iterator[Opened]:
    server = _server_settings(settings)
    with Engine.open(server.bundle, server.engine_config()) as engine:
        _check_places(settings, engine)
        inputs = [engine.prepare(_fields(sample)) for sample in samples]
        policies = {"default": engine.policy, "never": never()}
        yield Opened(
            targets={
                name: EngineTarget(engine, inputs, engine.compile(policies[name]))
                for name in settings.policies
            },
            labels=[sample.label for sample in samples],
            model=engine.manifest.name,
            threads=engine.config.compute_threads,
            setting=_setting(server),
            memory_bytes=_peak_memory_bytes,
        )


def _check_places(settings: LoadSettings, engine: Engine) -> None:
    places = engine.config.max_queued_rows // engine.rows_per_sample
    if not settings.is_open and settings.in_flight > places:
        raise ConfigError(
            f"--in-flight is {settings.in_flight}, but the engine holds {places} requests:"
            " lower it, or set EXEUNT__ENGINE__MAX_QUEUED_ROWS"
        )


def _peak_memory_bytes() -> int:
    # Linux counts in KiB; the generator and the samples live in this process too.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _http(settings: LoadSettings, samples: list[LabelledSample]) -> Iterator[Opened]:
    if settings.url is not None:
        with HttpClient(settings.url) as client:
            yield _served(settings, samples, client, None, {"server": settings.url}, lambda: None)
        return
    server = _server_settings(settings)
    environment = dict(os.environ)
    if "never" in settings.policies:
        environment[OVERRIDES] = json.dumps(["never"])
    if settings.backend is not None:
        environment["EXEUNT__ENGINE__BACKEND"] = settings.backend
    if settings.threads is not None:
        environment["EXEUNT__ENGINE__THREADS"] = str(settings.threads)
    arguments = [] if settings.bundle is None else [str(settings.bundle)]
    with (
        exit_on_sigterm(),
        ServerProcess(arguments, environment) as process,
        HttpClient(process.url) as client,
    ):
        threads = server.engine.compute_threads
        setting = _setting(server)
        yield _served(settings, samples, client, threads, setting, process.peak_memory_bytes)


def _served(
    settings: LoadSettings,
    samples: list[LabelledSample],
    client: HttpClient,
    threads: int | None,
    setting: dict[str, JsonValue],
    memory_bytes: Callable[[], int | None],
) -> Opened:
    info = _info(client)
    fields: dict[Policy, dict[str, str]] = {"default": {}, "never": {"criterion": "never"}}
    targets: dict[Policy, Target] = {}
    for name in settings.policies:
        bodies = [form_body(_fields(sample), fields[name]) for sample in samples]
        targets[name] = HttpTarget(client, bodies)
        _first_answer(client, targets[name], name)
    labels: list[str | None] = [sample.label for sample in samples]
    return Opened(targets, labels, str(info["name"]), threads, setting, memory_bytes)


def _info(client: HttpClient) -> dict[str, Any]:
    """Return what the server tells about itself.

    Raises:
        ConfigError: it cannot be reached, or is no server of ours.
    """
    try:
        status, content = client.get("/info")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConfigError(
            f"the server at {client.url} cannot be reached ({error or type(error).__name__}): check"
            " --url"
        ) from None
    try:
        info = json.loads(content)
        if status == 200 and isinstance(info, dict) and isinstance(info["name"], str):
            return info
    except (ValueError, KeyError):
        pass
    raise ConfigError(
        f"the server at {client.url} answers /info with status {status}, not with a model's name:"
        " is it `exeunt serve`, and ready?"
    )


def _first_answer(client: HttpClient, target: Target, policy: Policy) -> None:
    """Send one request; what fails now would fail all the time.

    Raises:
        ConfigError: there was no answer.
    """
    reply = _ask(target)
    if reply.error == "override_refused":
        raise ConfigError(
            f"the server at {client.url} refuses `criterion: never`: start it with"
            f" {OVERRIDES}='[\"never\"]', or measure with --policy default"
        )
    if reply.error is not None:
        raise ConfigError(
            f"the server at {client.url} fails the first request of policy {policy}:"
            f" {reply.error}: {str(reply.answer)[:200]}"
        )
    try:
        target.read(reply.answer)
    except ValueError as error:
        raise ConfigError(f"the server at {client.url} does not answer as ours: {error}") from None


def _ask(target: Target) -> Reply:
    ended: SimpleQueue[Reply] = SimpleQueue()
    target.send(0, ended.put)
    return ended.get(timeout=FIRST_ANSWER_S)


def _fields(sample: LabelledSample) -> dict[str, object]:
    return {"image": sample.image, "text": sample.text}


def _server_settings(settings: LoadSettings) -> Settings:
    """Return what `exeunt serve` would run with: the environment's settings, under the options."""
    engine = {"backend": settings.backend, "threads": settings.threads}
    flags: dict[str, Any] = {"engine": {k: v for k, v in engine.items() if v is not None}}
    if settings.bundle is not None:
        flags["bundle"] = settings.bundle
    return load_server_settings(None, flags)


def _setting(server: Settings) -> dict[str, JsonValue]:
    engine = server.engine.model_dump(mode="json", exclude={"exit_policy", "limits"})
    return {"engine": engine}
