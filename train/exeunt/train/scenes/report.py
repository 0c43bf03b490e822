"""Tables of a trained model; `python -m exeunt.train.scenes.report DIRECTORY` prints them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from exeunt.train.scenes.evaluation import CaptionTask, EntailmentTask, Outcome, Task
from exeunt.train.scenes.exits import ExitPlan, LaneRule, LayersUsed, Measure
from exeunt.train.scenes.search import best, kept_share, search

Tasks = Mapping[str, Task]
# Shares of full depth's quality at which the trade-off is read; the first of each is the goal.
FLOORS = {"entailment": (0.99, 0.995, 0.98, 0.95), "caption": (0.96, 0.98, 0.94, 0.9)}
# Of what a floor allows to lose, the part that is kept back: other data loses a little more.
MARGIN = 0.2
RULES = ("one_threshold", "by_layer", "confidence")
PARTS = {
    "cut": "lanes cut at half depth",
    "one_threshold": "one cosine threshold a lane",
    "by_layer": "a cosine threshold a layer",
    "confidence": "a threshold a layer, on the decoder's confidence",
}


def fixed_plans(encoder_layers: int, decoder_layers: int) -> dict[str, ExitPlan]:
    """Return full depth, and plans that cut lanes at half depth for every row."""
    half = LaneRule.fixed(max(1, encoder_layers // 2), encoder_layers)
    first = LaneRule.fixed(max(1, decoder_layers // 2), decoder_layers)
    return {
        "full depth": ExitPlan(),
        "image at half": ExitPlan(image=half),
        "text at half": ExitPlan(text=half),
        "image and text at half": ExitPlan(image=half, text=half),
        "decoder at half": ExitPlan(decoder=first),
    }


def outcome_record(outcome: Outcome, full: Outcome, metrics: Sequence[str]) -> dict[str, Any]:
    """Return an outcome as JSON: quality, its share of full depth's, layers used, reduction."""
    layers = outcome.layers
    return {
        "quality": {name: round(value, 3) for name, value in outcome.quality.items()},
        "kept": round(kept_share(outcome, full, metrics), 5),
        "layers": {
            "image": round(LayersUsed.mean(layers.image), 3),
            "text": round(LayersUsed.mean(layers.text), 3),
            "decoder": round(LayersUsed.mean(layers.tokens), 3),
        },
        "reduction": round(layers.reduction, 5),
    }


def cut_lanes(tasks: Tasks) -> dict[str, dict[str, dict[str, Any]]]:
    """Return each task's outcomes with lanes cut at half depth.

    Reference: MuE, table 2
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name, task in tasks.items():
        config = task.encoded.model.config
        plans = fixed_plans(config.encoder_layers, config.decoder_layers)
        full = task.run(ExitPlan())
        results[name] = {
            cut: outcome_record(task.run(plan), full, task.metrics) for cut, plan in plans.items()
        }
    return results


def choose_plans(
    tasks: Tasks, *, by_layer: bool = True, measure: Measure = "cosine"
) -> dict[str, dict[float, ExitPlan]]:
    """Return, for each task and floor, the plan with the largest reduction that keeps the floor.

    Args:
        tasks: of held-out data; choosing on the test data would flatter.
        by_layer: a threshold for each layer, or one for all layers of a lane.
        measure: of the decoder's layers.
    """
    chosen: dict[str, dict[float, ExitPlan]] = {}
    for name, task in tasks.items():
        points = search(task, min(FLOORS[name]), by_layer=by_layer, measure=measure)
        chosen[name] = {
            floor: best(points, floor + MARGIN * (1.0 - floor)).plan for floor in FLOORS[name]
        }
    return chosen


def plan_record(plan: ExitPlan) -> dict[str, Any]:
    """Return a plan as JSON: each lane's measure, and the thresholds of its layers but the last."""
    return {
        lane: {"measure": rule.measure, "thresholds": list(rule.thresholds)}
        for lane, rule in vars(plan).items()
    }


def trade_off(
    tasks: Tasks, plans: Mapping[str, Mapping[float, ExitPlan]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what plans chosen elsewhere give on these tasks.

    Reference: MuE, table 3
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name, task in tasks.items():
        full = task.run(ExitPlan())
        results[name] = {}
        for floor, plan in plans[name].items():
            record = outcome_record(task.run(plan), full, task.metrics)
            results[name][f"{floor:g}"] = {"plan": plan_record(plan), **record}
    return results


def shipped_rules(results: Mapping[str, Any], task: str) -> str:
    """Return which kind of rules saves most at the task's goal, where they were chosen.

    Cosines alone, as MuE has them, unless the decoder's confidence saves a hundredth more.
    """
    goal = f"{FLOORS[task][0]:g}"
    saved = {rules: results[rules][task][goal]["reduction"] for rules in RULES}
    cosine = max(("by_layer", "one_threshold"), key=lambda rules: saved[rules])
    return "confidence" if saved["confidence"] > saved[cosine] + 0.01 else cosine


def results_table(title: str, results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay out the records of one task."""
    metrics = list(next(iter(results.values()))["quality"])
    columns = [name.replace("accuracy/", "") for name in metrics]
    lanes = ("image", "text", "decoder")
    table = Table("", *columns, "kept %", *lanes, "reduction %", title=title)
    for name, record in results.items():
        table.add_row(
            name,
            *(f"{record['quality'][metric]:.2f}" for metric in metrics),
            f"{100 * record['kept']:.1f}",
            *(f"{record['layers'][lane]:.2f}" for lane in lanes),
            f"{100 * record['reduction']:.1f}",
        )
    return table


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print the tables of `results.json`."""
    for part, title in PARTS.items():
        for task, records in results[part].items():
            console.print(results_table(f"{task}: {title}, {results['split']} split", records))


def report(directory: Path, console: Console, split: str = "test") -> dict[str, Any]:
    """Score a checkpoint directory on a split, at the thresholds that calibration chose."""
    from exeunt.export.families.ofa.checkpoint import load_model
    from exeunt.train.scenes.data import load_captions, load_entailment

    recorded = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    model, joint = load_model(directory), not recorded["recipe"]["decomposition"]
    tasks: Tasks = {
        "entailment": EntailmentTask(model, load_entailment(split), decomposition=not joint),
        "caption": CaptionTask(model, load_captions(split), decomposition=not joint),
    }
    results: dict[str, Any] = {"split": split, "cut": cut_lanes(tasks)}
    for part in RULES:
        plans = {
            task: {float(floor): plan_of(record["plan"]) for floor, record in records.items()}
            for task, records in recorded[part].items()
        }
        results[part] = trade_off(tasks, plans)
    print_results(console, results)
    return results


def plan_of(record: Mapping[str, Any]) -> ExitPlan:
    """Return the plan that `plan_record` wrote."""
    return ExitPlan(
        **{
            lane: LaneRule(tuple(rule["thresholds"]), rule["measure"])
            for lane, rule in record.items()
        }
    )


if __name__ == "__main__":
    report(Path(sys.argv[1]), Console(width=120))
