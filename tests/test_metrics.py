"""/metrics as Prometheus scrapes it: over HTTP, from a server at work."""

import re
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import anyio
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families

from callboard.board import Config, open_board
from tests.serving import PATIENCE, SERVER, Place, call, refusal

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]
SECRET = "a reason that only agents may read"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    with place.http() as url:
        yield url


def get(url: str, **headers: str) -> tuple[int, str]:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scraped(url: str) -> Figures:
    status, text = get(url)
    assert status == 200, text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(figures: Figures, name: str, **labels: str) -> float:
    return figures[name, frozenset(labels.items())]


async def test_the_counts_are_those_of_the_calls_made_while_many_call_and_some_scrape(url: str) -> None:
    agents, each = 6, 10

    async def works(name: str) -> None:
        async with Client(f"{url}/mcp", cache=None) as client:
            await call(client, "register_agent", agent_id=name, role="critical-reviewer")
            for _ in range(each):
                await call(client, "heartbeat", agent_id=name)
                await refusal(client, "get_agent", agent_id=name, target_agent_id="nobody")

    async with anyio.create_task_group() as tasks:
        for number in range(agents):
            tasks.start_soon(works, f"w{number}")
        for _ in range(5):
            await anyio.to_thread.run_sync(scraped, url)

    figures = await anyio.to_thread.run_sync(scraped, url)
    total = agents * each
    assert figure(figures, "callboard_calls_total", tool="register_agent", outcome="ok") == agents
    assert figure(figures, "callboard_calls_total", tool="heartbeat", outcome="ok") == total
    refusals = {
        dict(labels)["outcome"]: value
        for (name, labels), value in figures.items()
        if name == "callboard_calls_total" and dict(labels)["tool"] == "get_agent"
    }
    assert sum(refusals.values()) == total
    assert "ok" not in refusals
    assert figure(figures, "callboard_call_seconds_count", tool="heartbeat") == total
    assert figure(figures, "callboard_call_seconds_bucket", tool="heartbeat", le="+Inf") == total
    commits = figure(figures, "callboard_commit_operations_count")
    assert 0 < commits <= figure(figures, "callboard_commit_operations_sum")
    assert sum(value for (name, _), value in figures.items() if name == "callboard_agents") == agents
    assert figure(figures, "callboard_wal_bytes") > 0


async def test_a_wait_for_a_lock_is_measured_and_no_word_of_an_agent_is_shown(url: str) -> None:
    async with Client(f"{url}/mcp", cache=None) as client:
        for name in ("ann", "bob"):
            await call(client, "register_agent", agent_id=name, role="critical-reviewer")
        lock = {"file_path": "src/hidden.py", "reason": SECRET}
        await call(client, "acquire_file_lock", agent_id="ann", **lock)
        refused = await refusal(client, "acquire_file_lock", agent_id="bob", **lock, wait_seconds=1)
        await client.call_tool("tool_of_my_own", {})
    _, text = await anyio.to_thread.run_sync(get, url)
    figures = await anyio.to_thread.run_sync(scraped, url)
    assert figure(figures, "callboard_calls_total", tool="acquire_file_lock", outcome=refused["code"]) == 1
    assert figure(figures, "callboard_calls_total", tool="unknown", outcome="not_found") == 1
    [slept] = [
        value
        for (name, labels), value in figures.items()
        if name == "callboard_wait_seconds_sum" and ("topic", "locks") in labels
    ]
    assert 0.9 < slept < PATIENCE
    assert figure(figures, "callboard_leases", status="exclusive") == 1
    for hidden in (SECRET, "hidden.py", "ann", "bob", "tool_of_my_own"):
        assert f'"{hidden}' not in text


def test_figures_are_for_pages_of_this_server_only(url: str) -> None:
    assert get(url, Host="evil.example")[0] == 421


def test_with_authentication_on_a_scrape_needs_a_token(place: Place) -> None:
    async def issued() -> str:
        async with open_board(Config(folder=place.folder, db=place.db, transport="cli")) as board:
            return await board.issue_token(kind="agent", name="prometheus", scope="observer")

    token = anyio.run(issued)
    with place.http("--auth") as url:
        assert get(url)[0] == 401
        status, text = get(url, Authorization=f"Bearer {token}")
    assert status == 200
    assert "callboard_info{" in text


def test_a_server_over_stdio_does_not_even_import_the_format() -> None:
    program = "import sys, callboard.mcp_server, callboard.stdio, callboard.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SERVER)}, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "prometheus_client" not in loaded.stdout.split()


def test_the_page_on_operations_names_every_figure_and_no_other(url: str) -> None:
    _, text = get(url)
    page = (SERVER.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `callboard")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == {
        family.name for family in text_string_to_metric_families(text) if family.name.startswith("callboard")
    }
