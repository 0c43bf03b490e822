"""The families by name, and finding the one that a checkpoint belongs to."""

from pathlib import Path

from exeunt.export.errors import ExportError
from exeunt.export.families.base import Family
from exeunt.export.families.demo_family import DemoFamily
from exeunt.export.families.ofa.family import OfaFamily

FAMILIES: dict[str, Family] = {family.name: family for family in (DemoFamily(), OfaFamily())}


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
        " config.json, or name the family with --family"
    )
