"""The server process: listens at once, opens the engine, drains on a signal."""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from exeunt.engine import Engine
from exeunt.engine.errors import ConfigError
from exeunt.server.app import create_app
from exeunt.server.logs import configure_logs
from exeunt.server.protocol import BoundedHttp
from exeunt.server.service import Service
from exeunt.server.settings import Settings

LAST_WORDS_S = 2.0
_log = structlog.stdlib.get_logger("exeunt.server")


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: its own handlers would stop accepting before readiness flips."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT has come and everything accepted has been answered.

    A second signal ends the waiting. Returns after an orderly end.

    Raises:
        ConfigError: the address is not free, or a setting does not fit the bundle.
        BundleError: the bundle cannot be served.
    """
    configure_logs(settings.log)
    listener = _listen(settings.server.host, settings.server.port)
    service = Service()
    config = uvicorn.Config(
        create_app(service, settings.server),
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.server.drain_s),
    )
    with (
        contextlib.closing(listener),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(_Uvicorn(config), listener, service, settings))


async def _serve(
    server: _Uvicorn, listener: socket.socket, service: Service, settings: Settings
) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        server.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await _open(service, settings)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        _log.info("draining", waiting_s=settings.server.shutdown_grace_s)
        service.draining = True
        if not server.force_exit:
            await asyncio.sleep(settings.server.shutdown_grace_s)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving
        if late := server.server_state.tasks:  # cancelled at `drain_s`: let them say so
            await asyncio.wait(late, timeout=LAST_WORDS_S)
        if service.loaded is not None:
            await asyncio.to_thread(service.loaded.close)
        _log.info("stopped")


async def _open(service: Service, settings: Settings) -> None:
    engine = await asyncio.to_thread(Engine.open, settings.bundle, settings.engine_config())
    service.attach(engine)
    _log.info("ready", model=engine.manifest.name, policy_version=engine.policy.version)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}): set server.host and server.port"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    _log.info("listening", url=f"http://{shown}:{listener.getsockname()[1]}")
    return listener
