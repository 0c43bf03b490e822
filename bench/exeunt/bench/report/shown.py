"""Numbers as people read them."""

from exeunt.bench.report.figures import Cell, Figure

_MIB = 2**20


def shown(value: float, unit: str) -> str:
    """Return a value in its unit, with as many digits as a measurement of that kind deserves."""
    match unit:
        case "share":
            return f"{value:.2%}"
        case "x":
            return f"{value:.3g}x" if value < 100 else f"{value:.0f}x"
        case "bytes":
            return f"{value / _MIB:,.1f} MiB"
        case _:
            return digits(value)


def digits(value: float) -> str:
    """Return a number with three digits that count; whole ones from 100 on."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2e}"


def spread(figure: Figure) -> str:
    """Return a figure's least and most."""
    return f"{shown(figure.least, figure.unit)} to {shown(figure.most, figure.unit)}"


def unit_shown(unit: str) -> str:
    """Return the unit as a column names it; empty where the value shows it."""
    return "" if unit in ("share", "x", "bytes") else unit


def cell(value: Cell) -> str:
    """Return a sheet's cell."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else digits(value)
