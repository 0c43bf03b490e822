"""Logs: one JSON object a line on standard error, never a request's content."""

import logging
import sys

import structlog

from exeunt.server.settings import LogSettings


def configure_logs(settings: LogSettings) -> None:
    """Send structlog's and the standard library's records to standard error; once a process."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json" or (settings.format == "auto" and not terminal)
        else structlog.dev.ConsoleRenderer(colors=terminal)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries that see a request's content may only warn, those that parse it not even that.
    root.setLevel("WARNING")
    logging.getLogger("python_multipart").setLevel("CRITICAL")
    for ours in ("exeunt", "uvicorn"):
        logging.getLogger(ours).setLevel(settings.level.upper())
