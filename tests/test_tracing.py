"""Spans of a server at work, as an exporter of OpenTelemetry in its process is given them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.serving import Json, Place, call, refusal

TRACED = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

spans = open(sys.argv.pop(1), "w")
exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from callboard.__main__ import main
main()
"""
"""The server with a tracer put before it, as OpenTelemetry's launcher does."""

SECRET = "a reason that only agents may read"


@pytest.fixture
async def spans(tmp_path: Path) -> dict[str, list[Json]]:
    """What was exported, by name, of a server that answered a call and refused one."""
    place, exported = Place(tmp_path), tmp_path / "spans"
    _, *command = place.command("serve")
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", TRACED, str(exported), *command[2:]],
        env=place.environment(),
        cwd=tmp_path,
    )
    async with Client(stdio_client(parameters), cache=None) as client:
        await call(client, "register_agent", agent_id="ada", role="lead")
        await call(client, "register_agent", agent_id="ben", role="developer")
        held = {"file_path": "a.py", "reason": SECRET}
        await call(client, "acquire_file_lock", agent_id="ada", **held)
        error = await refusal(client, "acquire_file_lock", agent_id="ben", **held)
        assert error["code"] == "lock_held"
    found: dict[str, list[Any]] = {}
    for line in exported.read_text(encoding="utf-8").splitlines():
        span = json.loads(line)
        found.setdefault(span["name"], []).append(span)
    return found


def test_each_call_is_a_span_that_names_the_tool_and_whether_it_was_refused(
    spans: dict[str, list[Json]],
) -> None:
    done, refused = spans["tools/call acquire_file_lock"]
    for span in (done, refused):
        assert span["kind"] == "SpanKind.SERVER"
        assert span["attributes"]["mcp.method.name"] == "tools/call"
        assert span["attributes"]["gen_ai.tool.name"] == "acquire_file_lock"
    assert done["status"]["status_code"] == "UNSET"
    assert refused["status"]["status_code"] == "ERROR"
    assert len(spans["tools/call register_agent"]) == 2


def test_no_span_holds_what_agents_wrote(spans: dict[str, list[Json]]) -> None:
    """P2"""
    assert SECRET not in json.dumps(spans)
