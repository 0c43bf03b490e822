"""Measuring a bundle's graphs against the model that they were cut from."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from exeunt.engine.backends.base import Array, Backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.criteria.base import answerable
from exeunt.export.errors import ExportError
from exeunt.export.parity.cases import Case
from exeunt.export.parity.report import BatchParity, Measured, ParityReport, parity_of
from exeunt.export.parity.walk import walk
from exeunt.export.plan import BundlePlan

Outputs = list[tuple[str, Mapping[str, Array]]]


class Comparison:
    """A bundle's graphs beside the modules that they were traced from.

    packed: compare the packed layers of lanes that have some, instead of the padded ones.
    """

    def __init__(
        self, plan: BundlePlan, bundle: Bundle, backend: Backend, *, packed: bool = False
    ) -> None:
        self._packed = packed
        self._plan = plan
        self._manifest = bundle.manifest
        self._modules = {segment.name: segment for segment in plan.segments}
        self._graphs = {
            name: backend.load(bundle.manifest, bundle.root, name)
            for name in bundle.manifest.segments
        }

    def measure(self, cases: Iterable[Case]) -> Measured:
        """Return the errors of every segment, and of all of them chained, over the cases.

        Raises:
            ExportError: the model answers with NaN, which would compare as equal.
        """
        segments: dict[str, float] = {}
        composed: dict[str, float] = {}
        same: list[Array] = []
        tried = list(cases)
        for case in tried:
            for name, error in self._segment_errors(case):
                segments[name] = max(segments.get(name, 0.0), error)
            chained = dict(self.run(case.tensors))
            for head, expected in self._whole(case).items():
                if not answerable(expected).all():
                    raise ExportError(
                        f"the model itself answers with numbers that are not finite at {head!r}:"
                        " mend the checkpoint's weights"
                    )
                found = self._logits(head, chained[head])
                composed[head] = max(composed.get(head, 0.0), difference(found, expected))
                same.append(found.argmax(axis=-1) == expected.argmax(axis=-1))
        return Measured(
            samples=sum(case.batch for case in tried),
            batch_sizes=tuple(sorted({case.batch for case in tried})),
            lengths=tuple(sorted({case.length for case in tried})),
            segments={name: parity_of(error) for name, error in segments.items()},
            composed={name: parity_of(error) for name, error in composed.items()},
            same_answers=float(np.concatenate(same).mean()),
        )

    def batch(self, cases: Iterable[Case]) -> BatchParity:
        """Return how far each row in a batch is from the same row alone, in the graphs."""
        rows, error, worst = 0, 0.0, ""
        for case in cases:
            if case.batch == 1:
                continue
            together = self.run(case.tensors)
            for row in range(case.batch):
                alone = self.run({name: a[row : row + 1] for name, a in case.tensors.items()})
                rows += 1
                for (segment, many), (_, one) in zip(together, alone, strict=True):
                    gap = max(difference(many[port][row : row + 1], one[port]) for port in many)
                    if gap > error:
                        error = gap
                        worst = f"{segment}, {case.batch} rows of length {case.length}"
        return BatchParity(rows=rows, max_abs_error=error, bit_exact=error == 0.0, worst=worst)

    def run(self, tensors: Mapping[str, Array]) -> Outputs:
        """Return every graph's outputs, each fed by the graphs before it."""

        def graph(name: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
            return self._graphs[name].run(inputs)

        return list(walk(self._manifest, tensors, graph, packed=self._packed))

    def _segment_errors(self, case: Case) -> list[tuple[str, float]]:
        errors: list[tuple[str, float]] = []

        def module(name: str, inputs: dict[str, Array]) -> Mapping[str, Array]:
            expected = self._run_module(name, inputs)
            found = self._graphs[name].run(inputs)
            errors.extend((name, difference(found[port], expected[port])) for port in expected)
            return expected

        for _ in walk(self._manifest, case.tensors, module, packed=self._packed):
            pass
        return errors

    def _run_module(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        plan = self._modules[name]
        with torch.inference_mode():
            outputs = plan.module(*(torch.from_numpy(inputs[port.name]) for port in plan.inputs))
        found = outputs if isinstance(outputs, tuple) else (outputs,)
        # Contiguous: the backends take no strided memory, and a view may share its input's.
        return {
            port.name: tensor.contiguous().numpy()
            for port, tensor in zip(plan.outputs, found, strict=True)
        }

    def _whole(self, case: Case) -> dict[str, Array]:
        raw = {name: torch.from_numpy(array) for name, array in case.tensors.items()}
        with torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in self._plan.whole(raw).items()}

    def _logits(self, head: str, outputs: Mapping[str, Array]) -> Array:
        ports = self._manifest.segments[head].outputs
        return next(outputs[port] for port, where in ports.items() if where == "head.logits")


def difference(found: Array, expected: Array) -> float:
    """Return the largest absolute difference; infinite where the shapes or the NaNs differ."""
    if found.shape != expected.shape:
        return float("inf")
    if found.dtype == np.bool_:
        return float((found != expected).any())
    with np.errstate(invalid="ignore"):
        gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    equal = (found == expected) | (np.isnan(found) & np.isnan(expected))  # inf - inf is NaN
    gap = np.where(equal, 0.0, np.where(np.isnan(gap), np.inf, gap))
    return float(gap.max(initial=0.0))


def refuse_beyond(report: ParityReport, names: Iterable[str], option: str = "--tolerance") -> None:
    """Raise where an error is over the report's allowed tolerance.

    Args:
        report: what was measured.
        names: the segments to check; the composed model always is.
        option: of the command line, which allows more.

    Raises:
        ExportError: names the worst part, its error and the tolerance that it would need.
    """
    errors = {f"segment {name!r}": report.segment(name) for name in names}
    errors["the composed model"] = report.composed
    where, parity = max(errors.items(), key=lambda item: item[1].max_abs_error)
    if parity.max_abs_error > report.allowed:
        raise ExportError(
            f"parity failed: {where} is off by {parity.max_abs_error:.3g}, at most"
            f" {report.allowed:g} is allowed; if that is good enough, export with {option}"
            f" {parity.tolerance:g}"
        )
