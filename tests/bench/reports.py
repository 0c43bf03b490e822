"""Small reports for tests."""

from collections.abc import Mapping
from typing import Any

from exeunt.bench.report import Chart, Figure, Machine, Report, Series

MACHINE = Machine(
    cores=2,
    cpu="A processor",
    architecture="x86_64",
    memory_bytes=8 * 2**30,
    system="Linux 6.1",
    python="3.11.9",
    threads=2,
    versions={"exeunt": "0.1.0", "numpy": "2.0.0"},
)
RATE = Figure.of([1000, 990, 1010], "requests/s", "higher")


def report(figures: Mapping[str, Figure] | None = None, **changes: Any) -> Report:
    """Return a report of `figures`, by default one of 1,000 requests/s."""
    given = {"requests_per_second": RATE} if figures is None else dict(figures)
    parts: dict[str, Any] = {
        "created": "2026-01-01T00:00:00Z",
        "command": "exeunt bench load",
        "measured": "demo",
        "workload": {"model": "demo", "rate": 500},
        "machine": MACHINE,
        "figures": given,
    }
    return Report(**{**parts, **changes})


def chart(**changes: Any) -> Chart:
    """Return a chart of two lines."""
    parts: dict[str, Any] = {
        "name": "latency",
        "title": "Latency over rate",
        "kind": "lines",
        "x_label": "requests/s",
        "y_label": "p99 (ms)",
        "series": (
            Series(name="default", x=(1.0, 2.0, 3.0), y=(1.0, 2.0, None)),
            Series(
                name="never",
                x=(1.0, 2.0, 3.0),
                y=(2.0, 4.0, 900.0),
                low=(1.5, 3.0, 500.0),
                high=(2.5, 5.0, 1000.0),
                hollow=(1,),
            ),
        ),
    }
    return Chart(**{**parts, **changes})
