"""The exit-layer histogram as a picture."""

from pathlib import Path

from exeunt.bench.evaluation.report import EvalReport

COLOURS = ("#2a6f97", "#e09f3e", "#6a994e", "#9e2a2b", "#7b2cbf")


def plot_exits(report: EvalReport, file: Path) -> None:
    """Write the exits by layer as a PNG or SVG picture, one bar for each group of kinds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    groups = {name: found for name, found in report.kinds.items() if "/" not in name}
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(groups)
    for place, (name, found) in enumerate(groups.items()):
        layers = [layer + (place - (len(groups) - 1) / 2) * width for layer in found.exits]
        shares = [count / found.samples for count in found.exits.values()]
        label = f"{name}: {found.accuracy:.2%} right, rho {found.rho:.3f}"
        bars = axes.bar(layers, shares, width, label=label, color=COLOURS[place % len(COLOURS)])
        axes.bar_label(bars, [f"{share:.0%}" if share >= 0.005 else "" for share in shares])
    axes.set_xticks(list(report.exits))
    axes.set_xlabel("exit layer")
    axes.set_ylabel("share of the requests")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"{report.samples} requests, each answered at the layer where it is sure")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=130)
