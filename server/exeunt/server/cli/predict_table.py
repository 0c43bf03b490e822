"""The tables of `exeunt predict`: what every layer would have answered."""

from collections.abc import Iterator, Mapping

import numpy as np
from rich.markup import escape
from rich.table import Table

from exeunt.engine import Answer, Engine
from exeunt.engine.probe import LaneProbe


def layer_tables(engine: Engine, sample: Mapping[str, object], answer: Answer) -> Iterator[Table]:
    """Yield a table for each lane that the sample walked, the exit of `answer` marked."""
    tensors = {name: array[np.newaxis] for name, array in engine.read(sample).tensors.items()}
    probes = engine.probe(tensors, answer.task)
    for lane, probe in probes.items():
        if lane in answer.lanes and answer.lanes[lane].depth:
            yield _lane_table(engine, lane, probe, answer)


def summary(answer: Answer) -> str:
    """Return the served answer in two lines."""
    shown = answer.label or answer.text or str(answer.index)
    if answer.reason == "criterion":
        why = f"{answer.criterion} {answer.score:.4g} against {answer.threshold:.4g}"
    elif answer.criterion == "never":
        why = "no rule set"
    else:
        why = f"{answer.criterion} never fired"
    sure = answer.probabilities.get(shown)
    probability = "" if sure is None else f" ({sure:.1%})"
    return (
        f"[bold]{escape(shown)}[/bold]{probability} at layer {answer.exit_layer} of {answer.depth}:"
        f" {why}\n"
        f"{answer.timings_ms.total:.1f} ms, policy version {answer.policy_version}"
    )


def _lane_table(engine: Engine, lane: str, probe: LaneProbe, answer: Answer) -> Table:
    is_loop = engine.manifest.lane(lane).loop is not None
    # A loop is probed for its first step alone.
    exits = answer.token_exit_layers if is_loop else ()
    left = exits[0] if exits else answer.lanes[lane].exit_layer
    rules = {
        rule.name: rule for rule in engine.compile(engine.policy).lanes[answer.task, lane].rules
    }
    task = next(task for task in engine.manifest.tasks if task.name == answer.task)
    labels = task.labels if task.lane == lane and not is_loop else ()
    title = f"lane {lane}, first token" if is_loop else f"lane {lane}"
    table = Table(title=title, caption_justify="left")
    table.add_column("layer", justify="right", no_wrap=True)
    if probe.logits:
        table.add_column("answer", no_wrap=True)
    for name in probe.scores:
        table.add_column(f"{name}*" if name in rules else name, justify="right", no_wrap=True)
    limits = [f"{name} {_span(rule.thresholds)}" for name, rule in rules.items()]
    judged = f"\n*  judged by: {', '.join(limits)}" if limits else ""
    table.caption = f"-> leaves here{judged}"
    for layer in range(1, answer.lanes[lane].depth + 1):
        guess = [_guess(probe, layer, labels)] if probe.logits else []
        scores = [_score(name, values[layer - 1, 0]) for name, values in probe.scores.items()]
        style = "bold green" if layer == left else "dim" if layer > left else None
        table.add_row(f"-> {layer}" if layer == left else str(layer), *guess, *scores, style=style)
    return table


def _score(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "patience" else f"{value:.4f}"


def _guess(probe: LaneProbe, layer: int, labels: tuple[str, ...]) -> str:
    if layer not in probe.logits:
        return ""
    place = int(probe.logits[layer][0].argmax())
    return labels[place] if labels else str(place)


def _span(thresholds: tuple[float, ...]) -> str:
    low, high = min(thresholds), max(thresholds)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, by layer"
