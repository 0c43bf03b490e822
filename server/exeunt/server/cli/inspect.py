"""`exeunt inspect`: what a bundle holds, and how far it is from the model it was cut from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from exeunt.engine.bundle import Bundle
    from exeunt.export.parity.report import ParityReport


def command(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle directory; the embedded one by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print manifest and parity as one JSON object.")
    ] = False,
) -> None:
    """Show a bundle's lanes, segments, tasks, inputs, exit policy and parity.

    Every file's checksum is verified on the way.

    Examples:
        exeunt inspect

        exeunt inspect my-bundle --json
    """
    from exeunt.engine.bundle import Bundle, default_bundle

    opened = Bundle.open(bundle or default_bundle())
    parity = read_parity(opened)
    if as_json:
        typer.echo(_json(opened, parity))
        return
    from rich.console import Console

    from exeunt.server.cli.inspect_tables import tables

    console = Console()
    for table in tables(opened, parity):
        console.print(table)


def read_parity(bundle: "Bundle") -> "ParityReport | None":
    """Return the bundle's parity report, or None where it carries none.

    Raises:
        BundleError: the report is not valid.
    """
    from pydantic import ValidationError

    from exeunt.engine.errors import BundleError
    from exeunt.engine.validation import first_problem
    from exeunt.export.parity.report import PARITY_FILE, ParityReport

    if PARITY_FILE not in bundle.manifest.files:
        return None
    file = bundle.path(PARITY_FILE)
    try:
        return ParityReport.model_validate_json(file.read_bytes())
    except ValidationError as error:
        where, what = first_problem(error)
        raise BundleError(
            f"{file} is not valid at {where or 'its top'}: {what}; export the bundle again"
        ) from None


def _json(bundle: "Bundle", parity: "ParityReport | None") -> str:
    import json

    content = {
        "bundle": str(bundle.root),
        "manifest": bundle.manifest.model_dump(mode="json"),
        "parity": parity.model_dump(mode="json") if parity else None,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)
