"""The product over HTTP, with the tools, resources and prompts that the public conformance suite asks for.

The suite can only exercise what a server has, and callboard has no tool that returns a picture or asks the
user a question. So these fixtures stand beside the product's own tools, behind the same server class and
the same transport; what the suite then finds holds for callboard. Names, arguments and answers are those
that the suite's scenarios describe. Run it with `scripts/conformance`.
"""

import argparse
import sys
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import anyio
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from pydantic import Field

from callboard import http
from callboard.board import Board, Config, open_board
from callboard.mcp_server import CallboardServer

# One transparent pixel, and one silent sample.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="

Call = Context[Any, Any]
Answer = str | types.InputRequiredResult


def fixture_server(board: Board) -> CallboardServer:
    """The product's server over a board, with every fixture."""
    server = CallboardServer(board)
    add_content(server)
    add_notices(server)
    add_questions_of_the_handshake_era(server)
    add_questions(server)
    add_resources(server)
    add_prompts(server)
    return server


def add_content(server: CallboardServer) -> None:
    """Every kind of content, and an error."""
    image = types.ImageContent(data=PNG, mime_type="image/png")

    @server.tool(description="Answers with text.")
    async def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description="Answers with a picture.")
    async def test_image_content() -> list[types.ImageContent]:
        return [image]

    @server.tool(description="Answers with a sound.")
    async def test_audio_content() -> list[types.AudioContent]:
        return [types.AudioContent(data=WAV, mime_type="audio/wav")]

    @server.tool(description="Answers with a resource.")
    async def test_embedded_resource() -> list[types.EmbeddedResource]:
        return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]

    @server.tool(description="Answers with text, a picture and a resource.")
    async def test_multiple_content_types() -> list[types.ContentBlock]:
        mixed = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
        return [types.TextContent(text="Multiple content types test:"), image, mixed]

    @server.tool(description="Fails.")
    async def test_error_handling() -> types.CallToolResult:
        text = types.TextContent(text="This tool intentionally returns an error for testing")
        return types.CallToolResult(content=[text], is_error=True)

    @server.tool(description="Takes an argument that HTTP clients repeat in a header.")
    async def test_custom_header(
        region: Annotated[str, Field(description="Any word", json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        return region


def add_notices(server: CallboardServer) -> None:
    """What a server says beside its answer: progress, log lines, changes of its lists."""

    @server.tool(description="Reports progress three times.")
    async def test_tool_with_progress(context: Call) -> str:
        for progress in (0, 50, 100):
            await context.report_progress(progress, 100)
        return "done"

    async def logs(context: Call) -> str:
        for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await context.session.send_log_message("info", line, related_request_id=context.request_id)
        return "done"

    for name in ("test_tool_with_logging", "test_logging_tool"):
        server.add_tool(logs, name=name, description="Logs three lines to the client.")

    @server.tool(description="Says that the list of tools has changed.")
    async def test_trigger_tool_change(context: Call) -> str:
        await context.notify_tools_changed()
        return "told"

    @server.tool(description="Says that the list of prompts has changed.")
    async def test_trigger_prompt_change(context: Call) -> str:
        await context.notify_prompts_changed()
        return "told"

    async def set_level(
        _: ServerRequestContext[Any, Any], __: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        return types.EmptyResult()

    server._lowlevel_server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)


def add_questions_of_the_handshake_era(server: CallboardServer) -> None:
    """Requests from the server to the client, as they were until 2025-11-25."""

    async def elicited(context: Call, message: str, properties: Mapping[str, Any], *required: str) -> str:
        answer = await context.session.elicit_form(message, form(properties, *required), context.request_id)
        return f"action={answer.action}, content={answer.content}"

    @server.tool(description="Asks the client's model.")
    async def test_sampling(prompt: str, context: Call) -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
        answer = await context.session.create_message([message], max_tokens=100)
        assert isinstance(answer.content, types.TextContent)
        return f"LLM response: {answer.content.text}"

    @server.tool(description="Asks the user.")
    async def test_elicitation(message: str, context: Call) -> str:
        asked = {name: {"type": "string", "description": name} for name in ("username", "email")}
        return "User response: " + await elicited(context, message, asked, "username", "email")

    @server.tool(description="Asks the user with an answer for each kind of field at hand (SEP-1034).")
    async def test_elicitation_sep1034_defaults(context: Call) -> str:
        asked = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return "Elicitation completed: " + await elicited(context, "Please fill this in", asked)

    @server.tool(description="Asks the user to choose, in each of the five ways (SEP-1330).")
    async def test_elicitation_sep1330_enums(context: Call) -> str:
        plain = [f"option{number}" for number in (1, 2, 3)]
        titled = [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)]
        legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
        asked = {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {"type": "string", **legacy},
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }
        return "Elicitation completed: " + await elicited(context, "Please choose", asked)


def add_questions(server: CallboardServer) -> None:
    """Results that say which input is missing, as of 2026-07-28; the client calls again with it."""
    name = elicitation("What is your name?", name={"type": "string"})
    confirm = elicitation("Please confirm", ok={"type": "boolean"})
    colour = elicitation("Step 2: What is your favorite color?", color={"type": "string"})

    def asks(tool: str, questions: types.InputRequests, *, state: str | None = None) -> None:
        """A tool that is content once every question has its answer and the state has come back."""

        async def call(context: Call) -> Answer:
            if answers := given(context, questions):
                return f"{context.request_state or ''} {answers}"
            return types.InputRequiredResult(input_requests=questions, request_state=state)

        server.add_tool(call, name=tool, description="Needs input.", structured_output=False)

    asks("test_input_required_result_elicitation", {"user_name": name})
    asks("test_streaming_elicitation", {"user_name": name})
    asks("test_input_required_result_sampling", {"capital_question": sampling()})
    asks("test_input_required_result_list_roots", {"client_roots": types.ListRootsRequest()})
    asks("test_input_required_result_request_state", {"confirm": confirm}, state="state-ok")
    asks("test_input_required_result_tampered_state", {"confirm": confirm}, state="sealed")
    every: types.InputRequests = {
        "user_name": name,
        "greeting": sampling(),
        "client_roots": types.ListRootsRequest(),
    }
    asks("test_input_required_result_multiple_inputs", every, state="three questions")

    @server.tool(description="Needs input twice.", structured_output=False)
    async def test_input_required_result_multi_round(context: Call) -> Answer:
        if given(context, {"step2": colour}) and context.request_state == "round 2":
            return "done"
        if given(context, {"step1": name}) and context.request_state == "round 1":
            return types.InputRequiredResult(input_requests={"step2": colour}, request_state="round 2")
        return types.InputRequiredResult(input_requests={"step1": name}, request_state="round 1")

    @server.tool(description="Asks only what the client can answer.", structured_output=False)
    async def test_input_required_result_capabilities(context: Call) -> Answer:
        able = context.client_capabilities or types.ClientCapabilities()
        questions: types.InputRequests = {"greeting": sampling()} if able.sampling else {}
        if able.elicitation:
            questions["user_name"] = name
        if not questions or given(context, questions):
            return "done"
        return types.InputRequiredResult(input_requests=questions)

    @server.tool(description="Needs a client with a model.")
    async def test_missing_capability(context: Call) -> str:
        able = context.client_capabilities
        if able is None or able.sampling is None:
            needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "This needs sampling.", needed)
        return "done"


def add_resources(server: CallboardServer) -> None:
    """Resources of each kind, and subscriptions to them."""

    @server.resource("test://static-text", description="Text.", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="A picture.", mime_type="image/png")
    async def static_binary() -> bytes:
        return b64decode(PNG)

    @server.resource("test://watched-resource", description="May be watched.", mime_type="text/plain")
    async def watched() -> str:
        return "Watched resource content."

    @server.resource("test://template/{id}/data", description="By number.", mime_type="application/json")
    async def template(id: str) -> dict[str, Any]:  # noqa: A002 - the suite's own placeholder
        return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}

    async def accepted(
        _: ServerRequestContext[Any, Any], __: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        return types.EmptyResult()

    for method in ("resources/subscribe", "resources/unsubscribe"):
        server._lowlevel_server.add_request_handler(method, types.SubscribeRequestParams, accepted)
    # What the fixtures change is told by the SDK's own bus, which the product has no use for.
    server._lowlevel_server.add_request_handler(
        "subscriptions/listen", types.SubscriptionsListenRequestParams, ListenHandler(server._subscriptions)
    )


def add_prompts(server: CallboardServer) -> None:
    """Prompts with each kind of content, one that needs input, and completion."""

    @server.prompt(description="Text.")
    async def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="Text with arguments in it.")
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="A resource and text.")
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's
        resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="A picture and text.")
    async def test_prompt_with_image() -> list[UserMessage]:
        image = types.ImageContent(data=PNG, mime_type="image/png")
        return [UserMessage(image), UserMessage("Please analyze the image above.")]

    @server.prompt(description="Needs input.")
    async def test_input_required_result_prompt(context: Call) -> Answer:
        asked = elicitation("What context should the prompt use?", context={"type": "string"})
        questions: types.InputRequests = {"user_context": asked}
        return given(context, questions) or types.InputRequiredResult(input_requests=questions)

    async def complete(
        _: ServerRequestContext[Any, Any], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        words = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=words, total=len(words)))

    server._lowlevel_server.add_request_handler("completion/complete", types.CompleteRequestParams, complete)


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    )


def form(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def elicitation(message: str, **properties: Any) -> types.ElicitRequest:
    asked = form(properties, *properties)
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=asked))


def sampling() -> types.CreateMessageRequest:
    text = types.TextContent(text="What is the capital of France?")
    messages = [types.SamplingMessage(role="user", content=text)]
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=messages, max_tokens=100)
    )


def given(context: Call, questions: types.InputRequests) -> str:
    """The answers to all questions, as text; empty while one of them is missing."""
    answers = context.input_responses or {}
    return "; ".join(str(answers[key]) for key in questions) if questions.keys() <= answers.keys() else ""


async def serve(db: Path, port: int) -> None:
    settings = http.HttpSettings("127.0.0.1", port)
    async with open_board(Config(db=db, transport="http")) as board, anyio.create_task_group() as tasks:
        tasks.start_soon(board.keep)
        app = http.build_app(fixture_server(board), settings, health=board.health)
        await http.serve(app, settings, ready=lambda url: print(f"serving {url}/mcp", file=sys.stderr))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the fixtures of the conformance suite.")
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    anyio.run(serve, options.db, options.port)
