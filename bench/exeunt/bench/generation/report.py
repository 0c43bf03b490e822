"""What a bench of generation found."""

from collections.abc import Sequence
from dataclasses import dataclass

from exeunt.bench.generation.settings import GenerationBench
from exeunt.bench.report import Figure, Report, command_line, now, this_machine

EXITS, NEVER, LOOP = "exits", "never", "plain-loop"


@dataclass(frozen=True)
class Pass:
    """One pass over a task's samples.

    seconds: from the first sample sent to the last answer. tokens: of each, those that were
    computed. layers: decoder layers that they ran; 0 where nobody counts.
    """

    seconds: float
    tokens: Sequence[tuple[int, ...]]
    layers: int

    @property
    def requests_per_second(self) -> float:
        """Samples a second."""
        return len(self.tokens) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second."""
        return sum(map(len, self.tokens)) / self.seconds


def generation_report(
    bundle: str,
    settings: GenerationBench,
    threads: int,
    passes: dict[str, dict[str, list[Pass]]],
) -> Report:
    """Return the report: each side's rates, and the exits' over the others', repeat by repeat."""
    figures: dict[str, Figure] = {}
    for task, sides in passes.items():
        for side, found in sides.items():
            requests = [one.requests_per_second for one in found]
            tokens = [one.tokens_per_second for one in found]
            name = f"{task}.{side}"
            figures[f"{name}.requests_per_second"] = Figure.of(requests, "requests/s", "higher")
            figures[f"{name}.tokens_per_second"] = Figure.of(tokens, "tokens/s", "higher")
        for other in (NEVER, LOOP):
            pairs = list(zip(sides[EXITS], sides[other], strict=True))
            ratios = [one.requests_per_second / full.requests_per_second for one, full in pairs]
            figures[f"{task}.requests_over.{other}"] = Figure.of(ratios, "x", "higher")
            ratios = [one.tokens_per_second / full.tokens_per_second for one, full in pairs]
            figures[f"{task}.tokens_over.{other}"] = Figure.of(ratios, "x", "higher")
        same = [
            sum(a == b for a, b in zip(one.tokens, other.tokens, strict=True)) / len(one.tokens)
            for one, other in zip(sides[NEVER], sides[LOOP], strict=True)
        ]
        figures[f"{task}.full_depth_agrees"] = Figure.of(same, "share", "higher")
    return Report(
        created=now(),
        command=command_line(),
        measured=f"generation of {bundle} at saturation, all samples of a task queued at once",
        workload={"bundle": bundle, **settings.model_dump(mode="json")},
        machine=this_machine(threads),
        figures=figures,
    )
