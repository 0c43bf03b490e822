"""Tables of a trained demo model; `python -m exeunt.train.demo.report DIRECTORY` prints them."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exeunt.train.demo.curves import ExitRecord

RELATIONS = (
    "statement/relation",
    "statement/double_relation",
    "statement/chained_relation",
    "statement/long_chain",
)
# 0 never fires: full depth.
CURVE_THRESHOLDS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def exit_table(title: str, record: ExitRecord) -> Table:
    """Lay out the accuracy of every exit, by kind."""
    table = Table("kind", "samples", *(str(k + 1) for k in range(record.depth)), title=title)
    kinds = sorted(set(record.kinds))
    for prefix in ("", "question/", "statement/", *kinds):
        rows = record.rows(prefix)
        if not rows.any():
            continue
        cells = [f"{100 * value:.2f}" for value in record.accuracy_by_exit(rows)]
        table.add_row(prefix or "all", str(int(rows.sum())), *cells)
    return table


def threshold_table(title: str, record: ExitRecord, threshold: float) -> Table:
    """Lay out accuracy and rho at a threshold against the last exit, by kind."""
    table = Table("kind", "last exit %", "accuracy %", "loss", "rho", title=title)
    for prefix in ("", "question/", "statement/", *sorted(set(record.kinds))):
        rows = record.rows(prefix)
        if not rows.any():
            continue
        last = record.accuracy_by_exit(rows)[-1]
        point = record.at(threshold, rows)
        table.add_row(
            prefix or "all",
            f"{100 * last:.2f}",
            f"{100 * point.accuracy:.2f}",
            f"{100 * (last - point.accuracy):.2f}",
            f"{point.rho:.3f}",
        )
    return table


def curve_table(title: str, record: ExitRecord) -> Table:
    """Lay out accuracy and rho over a range of thresholds, for all samples and by group."""
    groups = {"all": None, "questions": "question/", "statements": "statement/"}
    columns = [f"{name} {what}" for name in groups for what in ("%", "rho")]
    table = Table("entropy <", *columns, title=title)
    for threshold in CURVE_THRESHOLDS:
        cells = []
        for prefix in groups.values():
            point = record.at(threshold, None if prefix is None else record.rows(prefix))
            cells += [f"{100 * point.accuracy:.2f}", f"{point.rho:.3f}"]
        table.add_row(f"{threshold:g}" if threshold else "never", *cells)
    return table


def report(directory: Path, console: Console) -> None:
    """Score a checkpoint directory on the test split, at the threshold that calibration chose."""
    from exeunt.export.families.demo import load_checkpoint
    from exeunt.train.demo.data import load_split
    from exeunt.train.demo.evaluation import score_exits

    curves = json.loads((directory / "curves.json").read_text(encoding="utf-8"))
    threshold = float(curves["stages"][curves["shipped_stage"]]["threshold"])
    record = score_exits(load_checkpoint(directory), load_split("test"))
    console.print(exit_table("accuracy % by exit, test split", record))
    console.print(threshold_table(f"entropy < {threshold}, test split", record, threshold))
    console.print(curve_table("accuracy-rho curve, test split", record))
    related = [row in RELATIONS for row in record.kinds]
    accuracy = record.correct[-1][related].mean()
    console.print(f"relations together, last exit: {100 * accuracy:.2f} %")


if __name__ == "__main__":
    report(Path(sys.argv[1]), Console(width=100))
