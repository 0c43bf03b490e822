"""A training run from its first or its saved step to its last: progress, prefetching, saving."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

BatchT = TypeVar("BatchT", contravariant=True)


class Steps(Protocol[BatchT]):
    """What a run asks of a trainer."""

    step: int  # the next one's number, from 0

    @property
    def stage(self) -> str:
        """Name what is being trained, for the progress bar."""
        ...

    def train_step(self, batch: BatchT) -> float:
        """Make one step; return the loss."""
        ...

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs."""
        ...


def run_steps(
    trainer: Steps[BatchT],
    batch_of: Callable[[int], BatchT],
    total: int,
    state: Path,
    save_every: int,
    console: Console,
    after_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Train until `total` steps are made, saving on the way and at the end.

    Args:
        trainer: goes on from the step where it stands.
        batch_of: makes the batch of a step; called in another thread.
        total: of steps.
        state: the file that the trainer saves to.
        save_every: steps.
        console: where the progress bar is shown.
        after_step: called with the number of steps made so far.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    # The next batch is drawn while the optimisers, which are serial, hold one core only.
    with ThreadPoolExecutor(1) as prefetch, Progress(*columns, console=console) as progress:
        bar = progress.add_task(trainer.stage, total=total, completed=trainer.step, loss=0.0)
        mean_loss = 0.0
        following = prefetch.submit(batch_of, trainer.step)
        while trainer.step < total:
            batch = following.result()
            following = prefetch.submit(batch_of, trainer.step + 1)
            loss = trainer.train_step(batch)
            mean_loss = loss if mean_loss == 0.0 else 0.98 * mean_loss + 0.02 * loss
            after_step(trainer.step)
            # The last save says "done", so that a resumed run goes straight to the results.
            if trainer.step % save_every == 0 or trainer.step == total:
                trainer.save(state)
            progress.update(bar, completed=trainer.step, description=trainer.stage, loss=mean_loss)


class CpuClock:
    """CPU seconds of this process since it was made, and those of the runs before it."""

    def __init__(self) -> None:
        self.before_s = 0.0
        self._start_s = _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Return the CPU seconds spent so far, over all resumed parts."""
        return self.before_s + _cpu_seconds() - self._start_s


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state, replacing the file at once so that a stop never leaves half of it."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def read_state(path: Path, written_as: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the state that a run saved as format `written_as` under `recipe`.

    Raises:
        ValueError: the file was written by another format or another recipe.
    """
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state.get("format") != written_as or state["recipe"] != recipe:
        raise ValueError(
            f"{path} was written by another recipe: resume with the same options, "
            "or give an empty output directory"
        )
    return state


def write_json(path: Path, value: object) -> None:
    """Write a file of results that people read too."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
