"""The parity of a whole bundle: every layout, over random inputs and examples."""

from pathlib import Path

from exeunt.engine.backends import Backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.export.parity.cases import random_cases, real_cases
from exeunt.export.parity.measure import Comparison, refuse_beyond
from exeunt.export.parity.report import PackedParity, ParityReport
from exeunt.export.plan import BundlePlan


def measure_bundle(
    plan: BundlePlan, bundle: Bundle, backend: Backend, examples: Path | None, tolerance: float
) -> ParityReport:
    """Return how far a bundle's graphs are from their model, in every layout that it has.

    Args:
        plan: the model that the graphs were traced from.
        bundle: the graphs.
        backend: runs them.
        examples: a directory with `examples.jsonl`, whose samples are tried as well.
        tolerance: the largest absolute error allowed.

    Raises:
        ExportError: an error is larger, or an example cannot be used.
    """
    random, real = random_cases(plan), real_cases(examples, bundle) if examples else []
    every = [*random, *real]
    lanes = [lane for lane in bundle.manifest.lanes if lane.packed]
    packed_alone = any(lane.packed and lane.layers == lane.packed.layers for lane in lanes)
    comparison = Comparison(plan, bundle, backend, packed=packed_alone)
    report = ParityReport(
        reference=f"torch {bundle.manifest.tools['torch']}",
        runtime=backend.name,
        allowed=tolerance,
        random=comparison.measure(random),
        real=comparison.measure(real) if real else None,
        batch=comparison.batch(every),
    )
    if lanes:
        packed = Comparison(plan, bundle, backend, packed=True)
        parity = PackedParity(measured=packed.measure(every), batch=packed.batch(every))
        report = report.model_copy(update={"packed": parity})
    if bundle.manifest.precision is None:
        refuse_beyond(report, bundle.manifest.segments)
    else:  # an int8 layer's error has the scale of its states, which only its model knows
        refuse_beyond(report, (), "--int8-tolerance")
    return report
