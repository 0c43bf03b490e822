"""The error of everything that export refuses."""

from exeunt.engine.errors import ExeuntError


class ExportError(ExeuntError):
    """A checkpoint cannot become a bundle; nothing was written."""

    error_type = "export"
