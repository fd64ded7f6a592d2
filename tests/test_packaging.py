"""What registries and hosts are told: well formed by their schemas, and true of the server that it starts."""

import copy
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]  # has no types
from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # has no types
from mcp import Client, StdioServerParameters, stdio_client

from callboard import packaging
from callboard.cli import app
from tests.serving import SERVER, Json

ROOT = SERVER.parent
SCHEMAS = Path(__file__).parent / "fixtures" / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path: Path) -> Json:
    found: Json = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return found


def check(document: Json, schema: str) -> None:
    told = json.loads((SCHEMAS / schema).read_text(encoding="utf-8"))
    kind = validator_for(told, Draft202012Validator)
    kind.check_schema(told)
    kind(told).validate(document)


def listing(document: Json) -> None:
    check(document, "server-2025-12-11.schema.json")


def bundle(document: Json) -> None:
    check(document, "mcpb-manifest-v0.4.schema.json")


def test_both_files_are_as_their_schemas_want_them() -> None:
    listing(read(packaging.LISTING))
    bundle(read(packaging.BUNDLE))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("description",), "x" * 101),
        (("name",), "callboard"),
        (("version",), "latest"),
        (("packages", 0, "version"), "^1.0.0"),
        (("packages", 0, "transport"), {"type": "pipe"}),
        (("packages", 0, "env"), {}),
        (("packages", 0, "environmentVariables", 0, "format"), "path"),
    ],
)
def test_a_listing_that_the_registry_would_refuse_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    document = copy.deepcopy(packaging.listing())
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        listing(document)


def test_the_readme_names_the_package_as_the_registry_does() -> None:
    readme = (ROOT / PROJECT["readme"]).read_text(encoding="utf-8")
    assert re.findall(r"<!-- mcp-name: (\S+) -->", readme) == [packaging.NAME]


def test_the_environment_is_what_serve_reads() -> None:
    serve = typer.main.get_command(app).get_command(None, "serve")  # type: ignore[attr-defined]  # a group's
    read_there = {option.envvar: option for option in serve.params if option.envvar}
    told = {variable["name"]: variable for variable in packaging.ENVIRONMENT}
    assert told.keys() == read_there.keys()
    for name, variable in told.items():
        default = read_there[name].default
        assert variable.get("default") == (str(default).lower() if default is not None else None), name


def test_the_bundle_asks_for_the_python_that_the_package_asks_for() -> None:
    manifest = packaging.bundle()
    assert manifest["compatibility"]["runtimes"]["python"] == PROJECT["requires-python"]
    assert manifest["license"] == PROJECT["license"]
    assert (ROOT / manifest["server"]["entry_point"]).is_file()
    assert "callboard" in PROJECT["scripts"]


def started(folder: Path, arguments: list[str], environment: dict[str, str]) -> Client:
    """A client of the server that these arguments start, in an empty folder."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")}
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "callboard", *arguments],
        env=own | {"PYTHONPATH": str(SERVER)} | environment,
        cwd=folder,
    )
    return Client(stdio_client(parameters), cache=None)


async def offered(client: Client) -> list[str]:
    async with client:
        return sorted(tool.name for tool in (await client.list_tools()).tools)


async def test_a_server_started_as_the_listing_says_serves(tmp_path: Path) -> None:
    [package] = packaging.listing()["packages"]
    arguments = [argument["value"] for argument in package["packageArguments"]]
    environment = {
        variable["name"]: variable["default"]
        for variable in package["environmentVariables"]
        if "default" in variable
    }
    assert "register_agent" in await offered(started(tmp_path, arguments, environment))


async def test_a_bundle_started_as_its_manifest_says_offers_the_tools_it_names(tmp_path: Path) -> None:
    manifest = packaging.bundle()
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    repository.mkdir()
    elsewhere.mkdir()
    answers = {"folder": str(repository)} | {
        name: json.dumps(setting["default"]).strip('"')
        for name, setting in manifest["user_config"].items()
        if "default" in setting
    }
    config = manifest["server"]["mcp_config"]

    def filled(text: str) -> str:
        return re.sub(r"\$\{user_config\.(\w+)\}", lambda found: answers[found[1]], text)

    before, arguments = config["args"][:3], [filled(argument) for argument in config["args"][3:]]
    assert (config["command"], before) == ("uv", ["run", "--directory", "${__dirname}"])
    assert arguments.pop(0) == "callboard"
    environment = {name: filled(value) for name, value in config["env"].items()}
    names = await offered(started(elsewhere, arguments, environment))
    assert names == sorted(tool["name"] for tool in manifest["tools"])
    assert (repository / ".callboard" / "board.db").exists()
