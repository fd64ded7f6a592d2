"""`callboard manifests` and `callboard schema`: the files that are generated from the code."""

from pathlib import Path
from typing import Annotated

import typer

from callboard import schemapage
from callboard.cli.common import fail

WriteOption = Annotated[bool, typer.Option("--write", help="Bring the files up to date.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Fail if a file is not up to date.")]
RootOption = Annotated[Path, typer.Option(help="The checkout whose files are meant.")]

SCHEMA_PAGE = Path("docs") / "schema.md"


def manifests(write: WriteOption = False, check: CheckOption = False, root: RootOption = Path()) -> None:
    """Write or check what is generated of the tools; without an option, print the index."""
    from callboard import manifests as contract  # brings the SDK along, which no other command needs

    if write:
        contract.write(root)
    elif check:
        if found := contract.drift(root):
            fail("; ".join(found) + ". Run: callboard manifests --write")
    else:
        typer.echo(contract.files()["index.json"], nl=False)


def schema_page(write: WriteOption = False, check: CheckOption = False, root: RootOption = Path()) -> None:
    """Write or check docs/schema.md; without an option, print it."""
    page = root / SCHEMA_PAGE
    if write:
        page.write_text(schemapage.markdown(), encoding="utf-8")
    elif check:
        if not page.exists() or page.read_text(encoding="utf-8") != schemapage.markdown():
            fail(f"{SCHEMA_PAGE} is not up to date. Run: callboard schema --write")
    else:
        typer.echo(schemapage.markdown(), nl=False)
