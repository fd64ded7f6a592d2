"""`callboard projects`: the projects of a store, and what only people decide about one."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from callboard.board import Board
from callboard.cli.common import DbOption, answered, asked, fail, on_board, secret_from, typed
from callboard.errors import Refused

app = typer.Typer(help="Projects: list, change, archive and delete them.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(metavar="ID", help="The project's id.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(envvar="CALLBOARD_TOKEN_FILE", help="Act by a person's token. Or CALLBOARD_TOKEN."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_projects(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the projects of the store."""

    async def work(board: Board) -> list[dict[str, Any]]:
        page = await board.call("list_projects", {"limit": 200})
        listed: list[dict[str, Any]] = page["projects"]
        while "next_after_id" in page:
            page = await board.call("list_projects", {"limit": 200, "after_id": page["next_after_id"]})
            listed += page["projects"]
        return listed

    projects = on_board(db, work)
    if as_json:
        typer.echo(json.dumps(projects, ensure_ascii=False))
        return
    for project in projects:
        typer.echo(
            f"{project['project_id']}  {project['status']:9}  {project['oversight_level']:10}  "
            f"{project.get('cwd', '-')}"
        )


@app.command("show")
def show(project_id: ProjectArgument, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Show one project with its tasks by status and its live sessions, as JSON; --json: on one line."""
    work = partial(asked, tool="get_project", arguments={"project_id": project_id})
    found = answered(on_board(db, work), as_json=as_json)
    typer.echo(json.dumps(found, indent=None if as_json else 2, ensure_ascii=False))


@app.command("set")
def set_project(
    project_id: ProjectArgument,
    oversight: Annotated[
        Literal["supervised", "balanced", "autonomous"] | None, typer.Option(help="Who confirms decisions.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help='The models that roles may use, such as {"developer": ["small"]}; {} for any.'),
    ] = None,
    status: Annotated[Literal["active", "completed"] | None, typer.Option(help="Its status.")] = None,
    cwd: Annotated[Path | None, typer.Option(help="Its repository's folder, after a move.")] = None,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what people decide about a project: at a terminal by typing its id, or by a token."""
    given = {
        "oversight_level": oversight,
        "model_config": models,
        "status": status,
        "cwd": str(cwd.resolve()) if cwd is not None else None,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        fail("name what to change, see --help.")
    said = ", ".join(f"{name}={value}" for name, value in changes.items())
    _update(project_id, changes, f"to set {said}", token_file, db, as_json)


@app.command("archive")
def archive(
    project_id: ProjectArgument,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a project out of use; nothing of it is lost. `set --status active` brings it back."""
    _update(project_id, {"status": "archived"}, "to archive it", token_file, db, as_json)


@app.command("delete")
def delete(
    project_id: ProjectArgument,
    token_file: TokenOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an archived project with everything under it, for good. The ledger keeps what happened."""
    token = secret_from(token_file)
    person = typed(project_id, "to delete it with everything under it") if token is None else None

    async def work(board: Board) -> dict[str, Any] | Refused:
        try:
            return {"project_id": project_id, "rows": await board.remove_project(project_id, person=person)}
        except Refused as refusal:
            return refusal

    gone = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(gone))
    else:
        typer.echo(
            f"{project_id} is deleted, {sum(gone['rows'].values())} rows of {len(gone['rows'])} tables."
        )


def _update(
    project_id: str,
    changes: dict[str, Any],
    to_do: str,
    token_file: Path | None,
    db: Path | None,
    as_json: bool,
) -> None:
    token = secret_from(token_file)
    person = typed(project_id, to_do) if token is None else None
    arguments = {"project_id": project_id} | changes
    work = partial(asked, tool="update_project", arguments=arguments, person=person)
    project = answered(on_board(db, work, token=token), as_json=as_json)
    if as_json:
        typer.echo(json.dumps(project, ensure_ascii=False))
    else:
        typer.echo(f"{project_id} is {project['status']}, oversight {project['oversight_level']}.")
