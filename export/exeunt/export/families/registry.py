"""The families by name, and finding the one that a checkpoint belongs to."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from exeunt.export.errors import ExportError
from exeunt.export.families.base import Family
from exeunt.export.families.bert_exits.family import DEEBERT, PABEE
from exeunt.export.families.demo_family import DemoFamily
from exeunt.export.families.hf.blip import BlipFamily
from exeunt.export.families.hf.clip import ClipFamily
from exeunt.export.families.hf.lxmert import LxmertFamily
from exeunt.export.families.hf.vilt import ViltFamily
from exeunt.export.families.hf.visualbert import VisualBertFamily
from exeunt.export.families.ofa.family import OfaFamily
from exeunt.export.families.options import DEFAULTS, SourceOptions
from exeunt.export.families.oscar.family import OscarFamily
from exeunt.export.families.state_dict import MisfitError
from exeunt.export.families.uniter.family import UniterFamily
from exeunt.export.families.vlbert.family import VlbertFamily
from exeunt.export.families.weights import read_state_dict
from exeunt.export.families.xvlm.family import XvlmFamily
from exeunt.export.plan import BundlePlan

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        DemoFamily(),
        OfaFamily(),
        UniterFamily(),
        UniterFamily("villa"),
        UniterFamily("uniter-msd", exits=True),
        ViltFamily(),
        VisualBertFamily(),
        LxmertFamily(),
        ClipFamily(),
        BlipFamily(),
        XvlmFamily(),
        XvlmFamily("efficientvlm", pruned=True),
        OscarFamily(),
        VlbertFamily(),
        DEEBERT,
        PABEE,
    )
}


def find_family(source: Path, name: str | None = None) -> Family:
    """Return the family called `name`, or the one that recognises the checkpoint at `source`.

    Raises:
        ExportError: there is no such family, or none of them recognises the checkpoint.
    """
    known = ", ".join(sorted(FAMILIES))
    if name is not None:
        if name not in FAMILIES:
            raise ExportError(f"unknown family {name!r}: this version exports {known}")
        return FAMILIES[name]
    for family in FAMILIES.values():
        if family.detect(source):
            return family
    raise ExportError(
        f"{source} is not a checkpoint of a family that this version exports ({known}): check its"
        f" config.json, or name the family with --family{_hint(_keys(source))}"
    )


def describe(
    source: Path, name: str | None = None, options: SourceOptions = DEFAULTS
) -> BundlePlan:
    """Load the checkpoint at `source` and cut it, as its family does.

    Args:
        source: the checkpoint's directory.
        name: the family's; recognised by default.
        options: what the user says beside it.

    Raises:
        ExportError: see `find_family` and `Family.describe`; where the tensors are not the
            family's, it names the family that they would fit best.
    """
    family = find_family(source, name)
    try:
        return family.describe(source, options)
    except MisfitError as error:
        raise ExportError(f"{error}{_hint(error.keys, but=family.name)}") from None


def nearest_family(keys: Iterable[str]) -> str | None:
    """Return the family most of whose own keys are among these; None where none has half."""
    found = tuple(keys)

    def share(family: Family) -> float:
        known = [any(fnmatchcase(key, pattern) for key in found) for pattern in family.keys]
        return sum(known) / len(known) if known else 0.0

    shares = {name: share(family) for name, family in FAMILIES.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.5 else None


def _keys(source: Path) -> tuple[str, ...]:
    try:
        return tuple(read_state_dict(source).tensors)
    except ExportError:  # no weights that can be read: nothing to guess from
        return ()


def _hint(keys: Iterable[str], but: str = "") -> str:
    nearest = nearest_family(keys)
    if nearest is None or nearest == but:
        return ""
    return f"; its keys are those of the family {nearest!r} (--family {nearest})"
