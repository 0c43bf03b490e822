"""The exported bundle against what official code computed, for every golden folder."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exeunt.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy
from exeunt.engine.probe import LaneProbe
from exeunt.export.bundle import export_bundle
from tests.support.goldens import Array, Exits, Golden, GoldenFolder, golden_folders, read_golden

CLOSE_ALONE = 1e-5  # a sample alone is padded to another length than in a batch of all


def _cases() -> Iterator[Any]:
    for folder in golden_folders():
        try:
            variants = read_golden(folder.path)
        except Exception as error:  # a folder that cannot be read is a test that fails
            yield pytest.param(folder, "", "readable", error, id=f"{folder.name}-readable")
            continue
        for variant, golden in variants.items():
            name = f"{folder.name}-{variant}" if variant else folder.name
            for quantity in golden.quantities():
                yield pytest.param(folder, variant, quantity, golden, id=f"{name}-{quantity}")


class Bundles:
    """Exports each variant of a folder once, and opens it once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[tuple[Path, str], Engine] = {}
        self._probed: dict[tuple[Path, str], Mapping[str, LaneProbe]] = {}

    def engine(self, folder: GoldenFolder, variant: str, golden: Golden) -> Engine:
        key = folder.path, variant
        if key not in self._opened:
            out = self._directory / str(len(self._opened))
            export_bundle(folder.path, out, family=golden.family, options=golden.options)
            self._opened[key] = Engine.open(out, {"warm_up": False})
        return self._opened[key]

    def together(
        self, folder: GoldenFolder, variant: str, golden: Golden
    ) -> Mapping[str, LaneProbe]:
        """Return what all samples of the folder give in one batch."""
        key = folder.path, variant
        if key not in self._probed:
            engine = self.engine(folder, variant, golden)
            self._probed[key] = engine.probe(dict(golden.tensors(range(golden.samples))))
        return self._probed[key]

    def close(self) -> None:
        for engine in self._opened.values():
            engine.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundles]:
    opened = Bundles(tmp_path_factory.mktemp("goldens"))
    yield opened
    opened.close()


@pytest.mark.parametrize(("folder", "variant", "quantity", "golden"), list(_cases()))
def test_golden(
    folder: GoldenFolder,
    variant: str,
    quantity: str,
    golden: Golden | Exception,
    bundles: Bundles,
) -> None:
    if isinstance(golden, Exception):
        raise golden
    engine = functools.partial(bundles.engine, folder, variant, golden)
    if quantity in golden.checks:
        golden.checks[quantity](engine())
    elif quantity == "exits":
        for exits in golden.exits:
            check_exits(engine(), golden, exits)
    elif quantity == "batch":
        check_alone(engine(), golden, bundles.together(folder, variant, golden))
    else:
        rows = np.arange(golden.samples)
        found = bundles.together(folder, variant, golden)
        check = check_hidden if quantity == "hidden" else check_logits
        check(golden, found, rows)


def check_hidden(golden: Golden, found: Mapping[str, LaneProbe], rows: Array) -> None:
    """Compare the valid tokens after every layer; `rows` are the samples that were probed."""
    for states in golden.states:
        lane = found[states.lane]
        layers = lane.states[states.state] if states.state else lane.hidden
        assert max(states.layers) == len(layers) - 1, "the goldens end at another layer"
        valid = states.valid[rows]
        where = np.nonzero(valid)
        places = where if states.places is None else (*where[:-1], states.places[rows][valid])
        for layer, expected in states.layers.items():
            close(layers[layer][places], expected[rows][where], golden.tolerance, states, layer)


def check_logits(golden: Golden, found: Mapping[str, LaneProbe], rows: Array) -> None:
    tolerance = golden.logits_tolerance
    for logits in golden.logits:
        lane = found[logits.lane]
        for layer, expected in logits.layers.items():
            close(lane.logits[layer], expected[rows], tolerance, logits.lane, layer)
        if logits.final is not None:
            final = lane.final_logits
            if final is None:  # the head after the last layer answers there
                final = lane.logits[max(lane.logits)]
            close(final, logits.final[rows], tolerance, logits.lane, "final")


def check_exits(engine: Engine, golden: Golden, exits: Exits) -> None:
    """Serve all samples at once under each threshold."""
    tensors = dict(golden.tensors(range(golden.samples)))
    for place, threshold in enumerate(exits.thresholds):
        engine.replace_exit_policy(policy(exits, float(threshold)))
        answers = engine.run(tensors)
        found = [answer.lanes[exits.lane].exit_layer for answer in answers]
        assert found == exits.layers[place].tolist(), f"at {exits.criterion} {threshold}"
        if exits.logits is not None:
            logits = np.stack([answer.logits for answer in answers])
            close(logits, exits.logits[place], golden.logits_tolerance, exits.lane, threshold)


def check_alone(engine: Engine, golden: Golden, together: Mapping[str, LaneProbe]) -> None:
    """Compare every sample alone with the goldens, and with itself among the others."""
    for row in range(golden.samples):
        rows = np.array([row])
        alone = engine.probe(dict(golden.tensors(rows.tolist())))
        check_hidden(golden, alone, rows)
        check_logits(golden, alone, rows)
        for logits in golden.logits:
            one, many = alone[logits.lane], together[logits.lane]
            for layer in one.logits:
                beside = many.logits[layer][row : row + 1]
                close(one.logits[layer], beside, CLOSE_ALONE, logits.lane, layer)


def policy(exits: Exits, threshold: float) -> ExitPolicy:
    rule = {"criterion": exits.criterion, "threshold": threshold, "options": dict(exits.options)}
    lanes = {exits.lane: {"any": [rule]}}
    return ExitPolicy.model_validate({"tasks": {"default": lanes}})


def close(found: Array, expected: Array, tolerance: float, *where: object) -> None:
    np.testing.assert_allclose(
        found, expected, atol=tolerance, rtol=0, err_msg=" ".join(map(str, where))
    )
