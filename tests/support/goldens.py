"""Golden folders: what official code computed, and where an adapter says what its arrays hold."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from exeunt.engine import Engine
from exeunt.export.families.options import DEFAULTS, SourceOptions
from exeunt.export.families.registry import find_family

Array = NDArray[Any]
Arrays = dict[str, Array]

COPIES = Path(__file__).parents[1] / "parity" / "goldens"
ELSEWHERE = "EXEUNT_GOLDENS"  # folders of golden folders, or golden folders, as in PATH
EXPECTED, INPUTS = "expected.npz", "inputs.npz"
TOLERANCE = 1e-4


@dataclass(frozen=True)
class States:
    """The hidden states of one lane.

    layers: by layer, 0 being the entry's output: f32[N, T, D], or [N, rows, T, D]. valid: bool[N(,
    rows), T], the tokens that are compared. places: i64, the same shape, where each token is in the
    bundle's own sequence; where it is in the expected one, by default. state: its name in the lane.
    """

    lane: str
    layers: Mapping[int, Array]
    valid: Array
    places: Array | None = None
    state: str | None = None


@dataclass(frozen=True)
class Logits:
    """The logits of one lane's heads: by layer, f32[N, C], and those of the head at full depth."""

    lane: str
    layers: Mapping[int, Array] = field(default_factory=dict)
    final: Array | None = None


@dataclass(frozen=True)
class Exits:
    """Where samples leave a lane.

    thresholds: one a policy, K of them. layers: i64[K, N]. logits: f32[K, N, C], of what answered;
    None where the goldens do not say. options: of the criterion.
    """

    lane: str
    criterion: str
    thresholds: Sequence[float]
    layers: Array
    logits: Array | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Golden:
    """One export of a golden folder, and what it must compute.

    tensors: makes the raw tensors [len(rows), ...] of some samples, padded to the longest of them.
    samples: N. checks: further quantities by name, of whatever else official code computed; each
    raises AssertionError on an engine opened on the bundle.
    """

    folder: Path
    tensors: Callable[[Sequence[int]], Mapping[str, Array]]
    samples: int
    states: Sequence[States] = ()
    logits: Sequence[Logits] = ()
    exits: Sequence[Exits] = ()
    checks: Mapping[str, Callable[[Engine], None]] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    logits_tolerance: float = TOLERANCE
    options: SourceOptions = DEFAULTS
    family: str | None = None

    def quantities(self) -> list[str]:
        """Return the names of what is compared."""
        named = {"hidden": self.states, "logits": self.logits, "exits": self.exits}
        return [*(name for name, parts in named.items() if parts), "batch", *self.checks]


class Adapter(Protocol):
    """The module `tests.parity.adapters.FAMILY`, - in the family's name written as _."""

    def read(self, folder: Path) -> Mapping[str, Golden]:
        """Return the folder's exports by variant: "" for the plain one, then official quirks."""
        ...


@dataclass(frozen=True)
class GoldenFolder:
    """A folder with its name in test ids, unique among all."""

    path: Path
    name: str


def golden_folders() -> list[GoldenFolder]:
    """Return the copies in the repository, then the folders that the environment names."""
    found = [GoldenFolder(path, path.name) for path in _inside(COPIES)]
    names = {folder.name for folder in found}
    for place in filter(None, os.environ.get(ELSEWHERE, "").split(os.pathsep)):
        for path in _inside(Path(place)):
            name = path.name if path.name not in names else f"{path.parent.name}/{path.name}"
            names.add(name)
            found.append(GoldenFolder(path, name))
    return found


def _inside(place: Path) -> Iterator[Path]:
    if (place / EXPECTED).is_file():
        yield place
        return
    if not place.is_dir():
        raise FileNotFoundError(f"{ELSEWHERE} names {place}, which is no directory")
    yield from sorted(path for path in place.iterdir() if path.is_dir())


def read_golden(folder: Path) -> Mapping[str, Golden]:
    """Return the folder's exports by variant, as its family's adapter reads them.

    Raises:
        ExportError: no family recognises the folder.
        ModuleNotFoundError: its family has no adapter.
    """
    family = find_family(folder).name.replace("-", "_")
    adapter = cast(Adapter, importlib.import_module(f"tests.parity.adapters.{family}"))
    return adapter.read(folder)


def read_arrays(folder: Path, name: str) -> Arrays:
    """Return the arrays of a folder's npz file."""
    with np.load(folder / name) as arrays:
        return dict(arrays)


def by_layer(states: Array, first: int = 0) -> dict[int, Array]:
    """Return [N, L, ...] as arrays [N, ...] by layer, the first of which is `first`."""
    return {first + place: states[:, place] for place in range(states.shape[1])}


def first_valid(lengths: Array, size: int) -> Array:
    """Return bool[..., size]: the first `lengths` places of each row."""
    valid: Array = np.arange(size) < np.asarray(lengths)[..., None]
    return valid


def cut(array: Array, axis: int, lengths: Array) -> Array:
    """Return the array with an axis cut to the longest of `lengths`, as a batch of them has it."""
    return np.ascontiguousarray(array.take(range(int(np.max(lengths))), axis=axis))
