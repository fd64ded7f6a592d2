"""Promises that every tool, statement, table and module keeps."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

import callboard
from callboard import contracts, errors, manifests, schema, schemapage
from callboard.catalog import CATALOG, DOMAINS, TOOLSETS, select
from callboard.errors import Refused
from callboard.mcp_server import INSTRUCTIONS
from callboard.store import Command, Query
from callboard.tool import Tool

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "server" / "callboard"

Statement = Query[Any] | Command
AnyTool = Tool[..., Any]

MODULES = {
    name: importlib.import_module(name)
    for name in sorted(
        ["callboard", *(module.name for module in pkgutil.walk_packages(callboard.__path__, "callboard."))]
    )
    if name != "callboard.__main__"
}


def statements() -> Iterator[tuple[str, str, Statement]]:
    """Every typed statement with the module that it stands in and its name there."""
    for module_name, module in MODULES.items():
        for name, value in vars(module).items():
            found = value if isinstance(value, Mapping) else {None: value}
            for key, statement in found.items():
                if isinstance(statement, Query | Command):
                    yield module_name, name if key is None else f"{name}[{key}]", statement


STATEMENTS = {f"{module}.{name}": statement for module, name, statement in statements()}


def assigned_names(module: str) -> set[str]:
    """What a module defines itself, at its top level; the rest of its names it has imported."""
    tree = ast.parse(Path(str(MODULES[module].__file__)).read_text(encoding="utf-8"))
    targets = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


OWNERS = {
    id(statement): module
    for module in MODULES
    for name, statement in (
        (name.split("[")[0], statement) for owner, name, statement in statements() if owner == module
    )
    if name in assigned_names(module)
}


@pytest.fixture(scope="module")
def store() -> Iterator[apsw.Connection]:
    db = apsw.Connection(":memory:")
    schema.create(db)
    yield db
    db.close()


def test_statements_are_found() -> None:
    assert len(STATEMENTS) > 80


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_prepared_and_a_query_returns_exactly_its_rows_columns(
    store: apsw.Connection, name: str
) -> None:
    statement = STATEMENTS[name]
    seen: list[tuple[str, ...]] = []

    def look(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        seen.append(tuple(column for column, _ in cursor.get_description()))
        return False  # prepared and described, never run

    cursor = store.cursor()
    cursor.exec_trace = look
    with pytest.raises(apsw.ExecTraceAbort):
        cursor.execute(statement.sql, _Anything())
    assert seen[0] == (statement.row.columns() if isinstance(statement, Query) else ())


class _Anything(dict[str, Any]):
    """A value for every name."""

    def __missing__(self, key: str) -> None:
        return None


def written_tables(store: apsw.Connection, sql: str) -> set[str]:
    """The tables that a statement itself writes; what its triggers write belongs to the table."""
    tables: set[str] = set()

    def authorize(
        action: int, first: str | None, second: str | None, db: str | None, trigger: str | None
    ) -> int:
        if (
            action in (apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE)
            and trigger is None
            and first
        ):
            tables.add(first)
        return apsw.SQLITE_OK

    store.authorizer = authorize
    try:
        cursor = store.cursor()
        cursor.exec_trace = lambda *_: False
        with pytest.raises(apsw.ExecTraceAbort):
            cursor.execute(sql, _Anything())
    finally:
        store.authorizer = None
    return tables


def test_a_table_is_written_by_one_domain_only(store: apsw.Connection) -> None:
    writers: dict[str, set[str]] = defaultdict(set)
    for statement in STATEMENTS.values():
        for table in written_tables(store, statement.sql):
            writers[table].add(layer(OWNERS[id(statement)]).removeprefix("domains."))
    # A project leaves with its rows of every table, children first, and that is one list.
    for owners in writers.values():
        owners.discard("removal")
        # What is over leaves by its age, by another such list.
        owners.discard("retention")
    # The fence and the last checkup are rows of the store itself; the rest of the settings are configuration.
    assert writers.pop("settings") == {"store", "projects", "checkup"}
    assert writers.pop("_events") == {"dispatch", "duties"}, (
        "the outbox is written and swept outside all domains"
    )
    shared = {table: owners for table, owners in writers.items() if len(owners) > 1}
    assert not shared


# Which modules may import which: a module may use those in the lines before its own, never those behind.
LAYERS = """
    bootclock globs foreign bells
    text graph frames about clock errors events tally signing
    keyfile
    schema unusable process mounts worker lockname
    repository connection reboot
    copying
    storefile
    params
    store
    identity
    signers
    tool
    arguments replay feed search
    domains.projects
    domains.messages domains.locks domains.roster domains.history
    domains.conversations domains.chat domains.timers domains.costs domains.delegations
    domains.memory domains.knowledge
    domains.tasks
    domains.decisions
    domains.retros
    domains.crew
    removal audit approvals
    integrity
    backup
    dump
    catalog
    dispatch
    retention upkeep checkup
    duties
    board contracts
    prompts resources
    subscriptions channel
    mcp_server stdio
    toolpage schemapage packaging
    manifests http
    guards
    cli
    __main__
""".strip().splitlines()
LEVEL = {name: level for level, line in enumerate(LAYERS) for name in line.split()}


def layer(module: str) -> str:
    """The module's name in `LAYERS`: a package stands for what is in it."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:1] == ["domains"] else parts[0] if parts else ""


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, those inside functions too, as `package.module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    module = ".".join(("callboard", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    own = layer(module)
    if not own or own == "domains":
        return
    for other in imports(path):
        if not other.startswith("callboard.") or layer(other) in (own, "domains"):
            continue
        assert LEVEL[layer(other)] < LEVEL[own], f"{module} imports {other}"


@pytest.mark.parametrize("path", sorted((SOURCE / "domains").rglob("*.py")), ids=lambda path: path.stem)
def test_domains_know_neither_protocol_nor_engine_nor_loop(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & {
        "mcp",
        "mcp_types",
        "apsw",
        "anyio",
        "asyncio",
        "time",
        "random",
        "secrets",
        "os",
        "socket",
    }


def test_a_domain_uses_only_earlier_ones() -> None:
    order = {domain.__name__: place for place, domain in enumerate(DOMAINS)}
    for path in (SOURCE / "domains").rglob("*.py"):
        module = ".".join(("callboard", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        own = ".".join(module.split(".")[:3])
        for other in imports(path):
            used = ".".join(other.split(".")[:3])
            if used in order and own in order:
                assert order[used] <= order[own], f"{module} imports {other}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_is_over_500_lines_and_each_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 500
    assert ast.get_docstring(ast.parse(text))


def test_nothing_but_the_commands_of_the_command_line_starts_processes_or_connects_outward() -> None:
    """W2"""
    for path in files():
        if path.relative_to(SOURCE).parts[0] in ("cli", "guards"):
            continue
        used = {name.split(".")[0] for name in imports(path) if not name.startswith("urllib.parse")}
        assert not used & {"subprocess", "multiprocessing", "urllib", "requests", "httpx", "httpx2"}, path


def test_no_process_of_the_product_has_a_second_sqlite() -> None:
    """S4: neither written down, nor brought in by a package that it uses."""
    tests = Path(__file__).parent
    for path in [*files(), *tests.rglob("*.py")]:
        assert "sqlite3" not in {name.partition(".")[0] for name in imports(path)}, path
    every = "; ".join(f"import {name}" for name in sorted(MODULES) if not name.endswith("__main__"))
    program = f"import sys; {every}; print({{'sqlite3', '_sqlite3'}} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


# Refusals


def refusals() -> list[type[Refused]]:
    found: list[type[Refused]] = []
    waiting: list[type[Refused]] = [Refused]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found.append(kind)
            waiting.append(kind)
    return found


def test_refusals_have_a_code_of_the_closed_set_once_and_say_what_they_mean() -> None:
    codes = [kind.code for kind in refusals()]
    assert len(codes) == len(set(codes))
    assert set(codes) <= set(errors.CODES)
    assert len(errors.CODES) == 41
    assert all((kind.__doc__ or "").strip().endswith(".") for kind in refusals())


# Tools


@pytest.mark.parametrize("tool", CATALOG, ids=lambda tool: tool.name)
class TestEveryTool:
    def test_has_a_name_that_every_client_takes(self, tool: AnyTool) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", tool.name)
        assert len(tool.name) <= 40

    def test_is_described_in_what_and_when_and_then_the_next_step(self, tool: AnyTool) -> None:
        assert 40 <= len(tool.description) <= 700
        first, _, rest = tool.description.partition("\n\n")
        assert first[0].isupper()
        assert rest, "a second paragraph names refusals or the next step"
        assert not re.search(r"\b(MUST|NEVER|ALWAYS|IMPORTANT)\b", tool.description)
        assert tool.description.isascii()

    def test_publishes_flat_closed_schemas(self, tool: AnyTool) -> None:
        for published in (tool.input_schema, tool.output_schema):
            assert published["type"] == "object"
            for node in nodes(published):
                assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not"} & node.keys()
                assert not isinstance(node.get("type"), list)
                if "properties" in node:
                    assert node["additionalProperties"] is False
                if node.get("type") == "array":
                    assert node["items"]

    def test_describes_and_bounds_every_argument(self, tool: AnyTool) -> None:
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), name
            if argument["type"] == "integer" and not name.endswith(
                ("_id", "_to", "fence", "epoch", "version")
            ):
                assert name == "priority" or "tokens" in name or {"minimum", "maximum"} <= argument.keys(), (
                    name
                )
            if argument["type"] == "array":
                assert "maxItems" in argument, name

    def test_takes_the_callers_name_and_a_request_key_if_it_writes(self, tool: AnyTool) -> None:
        arguments = tool.input_schema["properties"]
        assert "agent_id" in arguments
        assert ("request_key" in arguments) is tool.writes
        # A transcript's `from_role` is whose words a line holds; its writer is the caller all the same.
        words_of = {"from_role"} if tool.name == "add_conversation_message" else set()
        names = {"sender", "from_agent_id", "source_agent_id", "from_role"} - words_of
        assert not names & arguments.keys()

    def test_waits_by_its_own_argument(self, tool: AnyTool) -> None:
        assert ("wait_seconds" in tool.input_schema["properties"]) is (tool.waits_on is not None)

    def test_that_only_reads_is_repeatable_and_takes_nothing_away(self, tool: AnyTool) -> None:
        assert tool.writes or (tool.idempotent and not tool.destructive)

    def test_is_published_as_its_code_has_it(self, tool: AnyTool) -> None:
        assert contracts.published(tool).model_dump_json() == contracts.derived(tool).model_dump_json()

    def test_costs_few_tokens(self, tool: AnyTool) -> None:
        assert manifests.tokens(tool) <= 400


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key == "properties":
                for item in value.values():
                    yield from nodes(item)
            else:
                yield from nodes(value)
    elif isinstance(node, list):
        for item in node:
            yield from nodes(item)


def test_profiles_keep_their_token_budgets() -> None:
    assert sum(manifests.tokens(tool) for tool in select(["core"]).values()) <= 5_000
    assert sum(manifests.tokens(tool) for tool in select(["all"]).values()) <= 18_000


def test_profiles_contain_each_other_and_reading_needs_no_writing_tool() -> None:
    core, lead, everything = (set(select([profile])) for profile in ("core", "lead", "all"))
    assert core < lead < everything == {tool.name for tool in CATALOG}
    assert not any(tool.writes for tool in select(["all"], read_only=True).values())
    with pytest.raises(ValueError, match="no profile or toolset 'lcoks'"):
        select(["lcoks"])


def test_toolsets_are_those_that_people_read_of() -> None:
    assert {tool.toolset for tool in CATALOG} == set(TOOLSETS)


def test_the_instructions_are_short_enough_for_every_client() -> None:
    assert len(INSTRUCTIONS.encode()) <= 2_000


def test_the_manifests_and_the_readme_are_what_the_code_publishes() -> None:
    assert manifests.drift(ROOT) == []


def test_the_schema_page_is_what_the_schema_says() -> None:
    assert (ROOT / "docs" / "schema.md").read_text(encoding="utf-8") == schemapage.markdown()
