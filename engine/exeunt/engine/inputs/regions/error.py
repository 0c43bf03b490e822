"""The error of regions that cannot be used."""

from exeunt.engine.errors import InputError

HOW = "docs/regions.md says how to make them"


class RegionsError(InputError):
    """Regions are missing, not finite, of the wrong shape or layout, or too many."""

    error_type = "regions"
