"""`exeunt train scenes`: train the two-task model, resumable, and write its checkpoint."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from exeunt.export.families.ofa.checkpoint import load_model, save_model
from exeunt.train.run import run_steps, write_json
from exeunt.train.scenes.data import load_captions, load_entailment
from exeunt.train.scenes.evaluation import CaptionTask, EntailmentTask
from exeunt.train.scenes.examples import write_examples
from exeunt.train.scenes.exits import NEVER, ExitPlan, LaneRule
from exeunt.train.scenes.options import ScenesRecipe
from exeunt.train.scenes.report import (
    FLOORS,
    Tasks,
    choose_plans,
    cut_lanes,
    plan_of,
    print_results,
    shipped_rules,
    trade_off,
)
from exeunt.train.scenes.stream import TrainStream
from exeunt.train.scenes.trainer import Trainer
from exeunt.train.scenes.words import ANSWERS, CAPTION_PROMPT, tokenizer_json, word_ids

STATE_FILE = "state.pt"
PREPROCESSOR = {
    "size": [64, 64],
    "mode": "RGB",
    "resample": "bicubic",
    "scale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
# What requests may ask for, as `export.json` says it.
TASKS: tuple[dict[str, object], ...] = (
    {
        "name": "entailment",
        "kind": "classification",
        "labels": list(ANSWERS),
        "answers": [word_ids(answer) for answer in ANSWERS],
    },
    {"name": "caption", "kind": "generation", "prompt": CAPTION_PROMPT},
)


def train_scenes(
    out: Path,
    recipe: ScenesRecipe | None = None,
    *,
    resume: bool = True,
    console: Console | None = None,
) -> None:
    """Train the two-task model and write a checkpoint directory that `exeunt export` takes.

    Both tasks are learned together, by the layer-wise task loss. Thresholds are chosen on the
    calibration split; `results.json` holds what they and cut lanes give there, `training.json`
    the settings and CPU seconds.

    Args:
        out: the directory to write; a state file in it lets a stopped run go on.
        recipe: the options; by default those of the shipped checkpoint.
        resume: go on from the state file in `out` when there is one; otherwise start anew.
        console: where progress and results are shown; by default the terminal.

    Raises:
        ValueError: `out` holds the state of a run with other options.
    """
    recipe = recipe or ScenesRecipe()
    console = console or Console()
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe)
    state = out / STATE_FILE
    stream = TrainStream(
        recipe.seed, recipe.num_scenes, recipe.statements_a_scene, recipe.captions_a_scene
    )
    if resume and state.exists():
        trainer.load(state)
    else:
        trainer.begin(stream)
    run_steps(trainer, stream.batch, recipe.steps, state, recipe.save_every_steps, console)
    save_model(trainer.model, out)
    write_settings(out)
    write_examples(out / "examples")
    training = {
        "recipe": recipe.model_dump(),
        "cpu_s": round(trainer.clock.seconds, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    write_json(out / "training.json", training)
    choose_exits(out, recipe, console)


def write_settings(out: Path) -> None:
    """Write everything of a checkpoint directory but its weights, config and exit policy."""
    write_json(out / "preprocessor.json", PREPROCESSOR)
    write_json(out / "export.json", {"tasks": list(TASKS)})
    (out / "tokenizer.json").write_text(tokenizer_json() + "\n", encoding="utf-8")


def choose_exits(out: Path, recipe: ScenesRecipe, console: Console) -> dict[str, Any]:
    """Choose thresholds on the calibration split; write `exit_policy.yaml` and `results.json`.

    Args:
        out: a checkpoint directory.
        recipe: that made it.
        console: where the tables are shown.
    """
    model = load_model(out)
    lanes = {"decomposition": recipe.decomposition}
    tasks: Tasks = {
        "entailment": EntailmentTask(model, load_entailment("calibration"), **lanes),
        "caption": CaptionTask(model, load_captions("calibration"), **lanes),
    }
    results: dict[str, Any] = {
        "split": "calibration",
        "recipe": recipe.model_dump(),
        "cut": cut_lanes(tasks),
        "one_threshold": trade_off(tasks, choose_plans(tasks, by_layer=False)),
        "by_layer": trade_off(tasks, choose_plans(tasks)),
        "confidence": trade_off(tasks, choose_plans(tasks, measure="confidence")),
    }
    results["shipped"] = {task: shipped_rules(results, task) for task in tasks}
    write_json(out / "results.json", results)
    print_results(console, results)
    if recipe.decomposition:
        plans = {
            task: plan_of(results[rules][task][f"{FLOORS[task][0]:g}"]["plan"])
            for task, rules in results["shipped"].items()
        }
        write_exit_policy(out, plans, recipe.encoder_layers, recipe.decoder_layers)
    return results


def write_exit_policy(
    out: Path, plans: Mapping[str, ExitPlan], encoder_layers: int, decoder_layers: int
) -> None:
    """Write the exit policy that export puts into the bundle: a score over each threshold.

    Args:
        out: the checkpoint directory.
        plans: by task.
        encoder_layers: of the model.
        decoder_layers: of the model.
    """
    tasks = {}
    for task, plan in plans.items():
        depths = {"image": encoder_layers, "text": encoder_layers, "decoder": decoder_layers}
        tasks[task] = {
            lane: {"any": [_rule(getattr(plan, lane), depth)]} for lane, depth in depths.items()
        }
    policy = {"version": 1, "tasks": tasks}
    text = yaml.safe_dump({"exit_policy": policy}, sort_keys=False, default_flow_style=None)
    (out / "exit_policy.yaml").write_text(text, encoding="utf-8")


def _rule(rule: LaneRule, depth: int) -> dict[str, object]:
    thresholds = rule.of_depth(depth)
    if min(thresholds) >= NEVER:
        return {"criterion": "never"}
    return {"criterion": rule.measure, "threshold": [min(one, 1.0) for one in thresholds]}
