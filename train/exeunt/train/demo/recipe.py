"""`exeunt train demo`: train the embedded model, resumable, and write its checkpoint directory."""

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from exeunt.export.families.demo import DemoModel
from exeunt.train.demo.curves import (
    ExitRecord,
    choose_threshold,
    default_thresholds,
    mean_accuracy_over_rho,
)
from exeunt.train.demo.data import load_split
from exeunt.train.demo.evaluation import score_exits, write_weights
from exeunt.train.demo.examples import write_examples
from exeunt.train.demo.options import DemoRecipe
from exeunt.train.demo.report import exit_table
from exeunt.train.demo.stream import TrainStream
from exeunt.train.demo.trainer import Trainer, demo_config
from exeunt.train.demo.words import LABELS, tokenizer_json
from exeunt.train.run import run_steps, write_json

# Two curves are compared by their mean accuracy where a deployment would work.
COMPARED_RHO = (0.25, 0.6)
STATE_FILE = "state.pt"
PREPROCESSOR = {
    "size": [64, 64],
    "mode": "RGB",
    "resample": "bicubic",
    "scale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def train_demo(
    out: Path,
    recipe: DemoRecipe | None = None,
    *,
    resume: bool = True,
    console: Console | None = None,
) -> None:
    """Train the demo model and write a checkpoint directory that `exeunt export` takes.

    Stage 1 is joint cross-entropy over all exits, stage 2 multimodality self-distillation from
    its end point. The end point with the better accuracy-rho curve on the calibration split
    becomes `model.safetensors`; both curves go to `curves.json`, settings and CPU seconds to
    `training.json`.

    Args:
        out: the directory to write; a state file in it lets a stopped run go on.
        recipe: the options; by default those of the shipped checkpoint.
        resume: go on from the state file in `out` when there is one; otherwise start anew.
        console: where progress and results are shown; by default the terminal.

    Raises:
        ValueError: `out` holds the state of a run with other options.
    """
    recipe = recipe or DemoRecipe()
    console = console or Console()
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe)
    state = out / STATE_FILE
    if resume and state.exists():
        trainer.load(state)
    _run_steps(trainer, state, console)
    write_settings(out, recipe)
    write_examples(out / "examples")
    results = _compare_stages(out, recipe, console)
    shipped = results["shipped_stage"]
    write_exit_policy(out, results["stages"][shipped]["threshold"])
    training = {
        "recipe": recipe.model_dump(),
        "cpu_s": round(trainer.clock.seconds, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "shipped_stage": shipped,
    }
    write_json(out / "training.json", training)


def _run_steps(trainer: Trainer, state: Path, console: Console) -> None:
    recipe, out = trainer.recipe, state.parent
    stream = TrainStream(recipe.seed, recipe.batch_size, recipe.question_share)

    def after_step(made: int) -> None:
        if made == recipe.joint_steps:
            write_weights(trainer.model, out / stage_file("joint"))

    total = recipe.joint_steps + recipe.msd_steps
    run_steps(trainer, stream.batch, total, state, recipe.save_every_steps, console, after_step)
    if recipe.msd_steps:
        write_weights(trainer.model, out / stage_file("msd"))


def stage_file(stage: str) -> str:
    """Return the name of the weights at the end of a stage."""
    return f"{stage}.safetensors"


def write_settings(out: Path, recipe: DemoRecipe) -> None:
    """Write everything of a checkpoint directory but its weights."""
    write_json(out / "config.json", demo_config(recipe).model_dump())
    write_json(out / "labels.json", list(LABELS))
    write_json(out / "preprocessor.json", PREPROCESSOR)
    (out / "tokenizer.json").write_text(tokenizer_json() + "\n", encoding="utf-8")


def write_exit_policy(out: Path, threshold: float) -> None:
    """Write the exit policy that export puts into the bundle: entropy below the threshold."""
    rule = {"criterion": "entropy", "threshold": threshold}
    policy = {"version": 1, "tasks": {"default": {"joint": {"any": [rule]}}}}
    text = yaml.safe_dump({"exit_policy": policy}, sort_keys=False, default_flow_style=None)
    (out / "exit_policy.yaml").write_text(text, encoding="utf-8")


def _compare_stages(out: Path, recipe: DemoRecipe, console: Console) -> dict[str, Any]:
    calibration = load_split("calibration")
    stages = ["joint", *(["msd"] if recipe.msd_steps else [])]
    records: dict[str, ExitRecord] = {}
    for stage in stages:
        model = DemoModel(demo_config(recipe))
        model.load_state_dict(load_file(out / stage_file(stage)))
        records[stage] = score_exits(model, calibration)
    scores = {stage: _curve_score(record) for stage, record in records.items()}
    shipped = max(stages, key=lambda stage: scores[stage])
    results: dict[str, Any] = {
        "split": "calibration",
        "compared_rho": COMPARED_RHO,
        "shipped_stage": shipped,
        "stages": {
            stage: _stage_results(record, scores[stage], recipe.max_accuracy_loss)
            for stage, record in records.items()
        },
    }
    write_json(out / "curves.json", results)
    weights = (out / stage_file(shipped)).read_bytes()
    (out / "model.safetensors").write_bytes(weights)
    for stage in stages:
        mark = " (shipped)" if stage == shipped else ""
        console.print(exit_table(f"{stage}{mark}, calibration split", records[stage]))
    return results


def _curve_score(record: ExitRecord) -> float:
    """Average the curves' mean accuracy over all samples and over the statements alone."""
    curves = [
        record.curve(default_thresholds(), rows) for rows in (None, record.rows("statement/"))
    ]
    return sum(mean_accuracy_over_rho(curve, *COMPARED_RHO) for curve in curves) / len(curves)


def _stage_results(record: ExitRecord, score: float, max_loss: float) -> dict[str, Any]:
    chosen = choose_threshold(record, max_loss)
    results: dict[str, Any] = {
        "mean_accuracy_over_rho": score,
        "threshold": chosen.threshold,
        "groups": {},
    }
    for name, rows in (
        ("all", None),
        ("questions", record.rows("question/")),
        ("statements", record.rows("statement/")),
    ):
        results["groups"][name] = {
            "accuracy_by_exit": record.accuracy_by_exit(rows),
            "at_threshold": asdict(record.at(chosen.threshold, rows)),
            "curve": [asdict(point) for point in record.curve(default_thresholds(), rows)],
        }
    return results
