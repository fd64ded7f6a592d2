"""The stdio transport as a client meets it: a process at the other end of two descriptors."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters, types

from callboard.stdio import CLOSING_SECONDS, DRAIN_SECONDS, STRUCTURE_LIMIT, Lines, Malformed, decode

PROGRAM = """
import signal, subprocess, sys
import anyio
from callboard import stdio
from mcp.server.mcpserver import MCPServer

stdio.DRAIN_SECONDS = float(sys.argv[2])
server = MCPServer("transport", log_level="ERROR")

@server.tool()
async def echo(text: str) -> str:
    return text

@server.tool()
async def repeat(text: str, times: int) -> str:
    return text * times

@server.tool()
async def wait() -> str:
    try:
        await anyio.sleep_forever()
    finally:
        print("the call was cancelled", file=sys.stderr, flush=True)

@server.tool()
async def chatter() -> str:
    print("a stray print")
    return "child read: " + subprocess.run(["cat"], stdout=subprocess.PIPE, text=True).stdout

@server.tool()
async def half_a_character() -> str:
    return chr(0xD800)

async def main() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            async def stop() -> None:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
            tasks.start_soon(stop)
            await stdio.serve(server, line_limit=int(sys.argv[1]))
            tasks.cancel_scope.cancel()

anyio.run(main)
print("over", file=sys.stderr, flush=True)
try:
    print("served", flush=True)
except BrokenPipeError:
    sys.stdout = None
"""

# Buffered, as usual: what the server prints must not wait in a buffer until the wire is back.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
LIMIT = 1 << 20
SOON = 3.0
"""Seconds in which the server must have ended: its own limits, and what a busy machine adds to them."""
PATIENCE = 20.0
"""Seconds after which a test gives up. When all is well nothing waits that long."""

Json = dict[str, Any]


class Child:
    """The server as a process, and the test's ends of its descriptors."""

    def __init__(self, process: subprocess.Popen[bytes], source: int, sink: int) -> None:
        self.process = process
        self._source: int | None = source
        self._sink: int | None = sink
        self._unread = b""

    @classmethod
    @contextmanager
    def on(
        cls,
        theirs: tuple[int, int],
        ours: tuple[int, int],
        *,
        limit: int = LIMIT,
        drain: float = DRAIN_SECONDS,
    ) -> Iterator[Self]:
        """A server that reads and writes `theirs`; the test reads and writes `ours`. All are closed."""
        command = [sys.executable, "-c", PROGRAM, str(limit), str(drain)]
        process = subprocess.Popen(
            command, stdin=theirs[0], stdout=theirs[1], stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        for descriptor in set(theirs):
            os.close(descriptor)
        child = cls(process, *ours)
        try:
            yield child
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
            child.hang_up()
            child.stop_reading()

    def send(self, *lines: bytes | Json) -> None:
        assert self._sink is not None
        for line in lines:
            rest = (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            while rest:
                rest = rest[os.write(self._sink, rest) :]

    def hang_up(self) -> None:
        """Close the server's input."""
        if self._sink is not None:
            os.close(self._sink)
            self._sink = None

    def stop_reading(self) -> None:
        """Close the server's output."""
        if self._source is not None:
            os.close(self._source)
            self._source = None

    def flood(self, line: bytes, limit: int) -> int:
        """Send a line again and again until the server takes no more, or `limit` bytes; what it took."""
        assert self._sink is not None
        os.set_blocking(self._sink, False)
        taken = 0
        while taken < limit and select.select([], [self._sink], [], 0.5)[1]:
            taken += os.write(self._sink, line[taken % len(line) :])
        os.set_blocking(self._sink, True)
        return taken

    def has_answered(self) -> bool:
        """Wait until there is something to read, and leave it unread."""
        assert self._source is not None
        return bool(select.select([self._source], [], [], PATIENCE)[0])

    def line(self) -> bytes:
        """The server's next line; empty once it has closed its output."""
        assert self._source is not None
        while b"\n" not in self._unread:
            assert self.has_answered()
            chunk = os.read(self._source, 1 << 16)
            if not chunk:
                return b""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def reply(self) -> Json:
        return cast(Json, json.loads(self.line()))

    def open(self) -> None:
        """The handshake of the older protocol era, in which messages are short enough to write by hand."""
        self.send(OPENING, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert self.reply()["id"] == "opening"

    def complaint(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode().rstrip("\n")

    def ends(self) -> str:
        """Wait for the process to end well; what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, errors.decode()
        return errors.decode()


def piped(*, limit: int = LIMIT, drain: float = DRAIN_SECONDS) -> AbstractContextManager[Child]:
    source, our_sink = os.pipe()
    our_source, sink = os.pipe()
    return Child.on((source, sink), (our_source, our_sink), limit=limit, drain=drain)


def detached(source: socket.socket, sink: socket.socket) -> tuple[int, int]:
    return source.detach(), sink.detach()


def request(request_id: int | str, method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def call(request_id: int | str, tool: str, **arguments: object) -> Json:
    return request(request_id, "tools/call", {"name": tool, "arguments": arguments})


OPENING = request(
    "opening",
    "initialize",
    {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
)


def said(reply: Json) -> str:
    return cast(str, reply["result"]["content"][0]["text"])


# What a client may be given to talk through.


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdk_client_is_served_in_both_protocol_eras(mode: Literal["auto", "legacy"]) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-c", PROGRAM, str(LIMIT), str(DRAIN_SECONDS)], env=ENVIRONMENT
    )
    async with Client(server, mode=mode) as client:
        result = await client.call_tool("echo", {"text": "Grüße \r\n\u2028 🎭"})
    assert isinstance(result.content[0], types.TextContent)
    assert result.content[0].text == "Grüße \r\n\u2028 🎭"


def test_two_sockets_serve_as_well_as_pipes() -> None:
    theirs, ours = zip(socket.socketpair(), socket.socketpair(), strict=True)
    with Child.on(detached(*theirs), detached(*reversed(ours))) as child:
        child.open()
        child.send(call(1, "echo", text="by socket"))
        assert said(child.reply()) == "by socket"


def test_one_socket_may_be_both_input_and_output() -> None:
    theirs, ours = socket.socketpair()
    with Child.on(detached(theirs, theirs.dup()), detached(ours, ours.dup())) as child:
        child.open()
        child.send(call(1, "echo", text="both ways"))
        assert said(child.reply()) == "both ways"


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("line", [b"{", b"x" * (LIMIT + 1)])
def test_a_refusal_that_nobody_reads_any_more_ends_the_connection_in_order(opened: bool, line: bytes) -> None:
    with piped() as child:
        if opened:
            child.open()
        child.stop_reading()
        child.send(line)
        assert "Traceback" not in child.ends()


def test_a_terminal_serves_and_is_left_as_it_was() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    kept = os.dup(theirs)
    try:
        with Child.on((theirs, theirs), (ours, os.dup(ours))) as child:
            child.open()
            child.send(call(1, "echo", text="typed"))
            assert said(child.reply()) == "typed"
            child.process.send_signal(signal.SIGTERM)
            assert child.line().strip() == b"served"
            assert not fcntl.fcntl(kept, fcntl.F_GETFL) & os.O_NONBLOCK
    finally:
        os.close(kept)


def test_requests_in_a_regular_file_are_all_answered(tmp_path: Path) -> None:
    script, answers = tmp_path / "requests", tmp_path / "answers"
    calls = [OPENING, *(call(number, "echo", text=f"line {number}") for number in range(50))]
    script.write_text("\n".join(map(json.dumps, calls)))  # and no end of line after the last
    theirs = os.open(script, os.O_RDONLY), os.open(answers, os.O_WRONLY | os.O_CREAT)
    with Child.on(theirs, os.pipe(), drain=PATIENCE) as child:
        child.ends()
    *lines, last = answers.read_text().splitlines()
    replies = {reply["id"]: reply for reply in map(json.loads, lines)}
    assert last == "served"
    assert [said(replies[number]) for number in range(50)] == [f"line {number}" for number in range(50)]


def test_the_null_device_is_an_empty_input() -> None:
    source, sink = os.pipe()
    with Child.on(
        (os.open(os.devnull, os.O_RDONLY), sink), (source, os.open(os.devnull, os.O_WRONLY))
    ) as child:
        child.ends()
        assert child.line() == b"served"


def test_stray_prints_and_child_processes_do_not_reach_the_wire() -> None:
    """P2"""
    with piped() as child:
        child.open()
        child.send(call(1, "chatter"))
        assert said(child.reply()) == "child read: "
        child.hang_up()
        assert child.line() == b"served"  # standard output is itself again, and nothing else came between
        assert child.line() == b""
        assert "a stray print" in child.ends()


# What a client may say.

PING = b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":%b}}'
REFUSED: dict[str, tuple[bytes, int, int | str | None]] = {
    "not JSON": (b'{"jsonrpc":"2.0","id":1,', -32700, None),
    "a control character in a string": (b'{"jsonrpc":"2.0","id":1,"method":"a\x01"}', -32700, None),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, None),
    "a surrogate in raw bytes": (b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}', -32700, None),
    "a byte order mark": (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', -32700, None),
    "NaN and then not JSON": (b'{"jsonrpc":"2.0","id":1,"params":{"a":NaN},', -32600, None),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
    "a number": (b"1", -32600, None),
    "an empty object": (b"{}", -32600, None),
    "no version": (b'{"id":"a","method":"ping"}', -32600, "a"),
    "another version": (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
    "no method": (b'{"jsonrpc":"2.0","id":7}', -32600, 7),
    "a method that is no text": (b'{"jsonrpc":"2.0","id":7,"method":5}', -32600, 7),
    "parameters in a list": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', -32600, 7),
    "an id of null": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
    "an id that is a truth value": (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
    "an id that is a fraction": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
    "an id that is half a character": (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', -32600, None),
    "a repeated key": (b'{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}', -32600, 7),
    "a repeated key within": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":1,"a":1}}', -32600, 7),
    "a repeated key in other letters": (
        b'{"jsonrpc":"2.0","id":7,"method":"a","m\\u0065thod":"b"}',
        -32600,
        7,
    ),
    "a repeated id": (b'{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}', -32600, None),
    "not a number": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":NaN}}', -32600, 7),
    "an infinity": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":-Infinity}}', -32600, 7),
    "a number out of range": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":1e999}}', -32600, 7),
    "a number too long": (
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":%s}}' % (b"9" * 5000),
        -32600,
        None,
    ),
    "half a character": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":"\\uDC00"}}', -32600, 7),
    "half a character in a key": (
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"\\ud83d":1}}',
        -32600,
        7,
    ),
    "nested without end": (
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":%s' % (b"[" * 60_000),
        -32600,
        None,
    ),
    "too many values": (PING % (b"[" + b"{}," * STRUCTURE_LIMIT + b"{}]"), -32600, None),
    "too many strings": (PING % (b"[" + b'"",' * STRUCTURE_LIMIT + b'""]'), -32600, None),
}


@pytest.mark.parametrize(("line", "code", "request_id"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_unambiguous_message_is_refused(line: bytes, code: int, request_id: object) -> None:
    """X4, X8"""
    with pytest.raises(Malformed) as refusal:
        decode(line)
    reply = refusal.value.reply
    assert (reply.error.code, reply.id) == (code, request_id)


def test_every_refused_line_is_answered_and_the_connection_goes_on() -> None:
    """X4, X8"""
    with piped() as child:
        child.open()
        for line, code, request_id in REFUSED.values():
            child.send(line)
            reply = child.reply()
            assert (reply["error"]["code"], reply["id"]) == (code, request_id)
        child.send(b"", b"  \t\r", call(1, "echo", text="still here"))
        assert said(child.reply()) == "still here"


def test_a_line_over_the_limit_is_answered_before_it_ends_and_the_next_is_served() -> None:
    """W3, X5"""
    with piped(limit=2000) as child:
        child.open()
        endless = b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 100_000
        child.send(endless)
        reply = child.reply()
        assert (reply["error"]["code"], reply["id"]) == (-32600, None)
        child.send(call(2, "echo", text="after"), call(3, "echo", text="x" * 1800))
        assert {said(child.reply())[:5] for _ in range(2)} == {"after", "xxxxx"}


@given(lines=st.lists(st.binary(max_size=12)), cuts=st.lists(st.integers(0, 200)), limit=st.integers(0, 8))
def test_lines_are_the_same_however_the_bytes_arrive(lines: list[bytes], cuts: list[int], limit: int) -> None:
    stream = b"\n".join(lines)
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    cutter = Lines(limit)
    seen = [line for start, end in pairwise(at) for line in cutter.feed(stream[start:end])]
    if (rest := cutter.rest()) is not None:
        seen.append(rest)
    assert seen == [line if len(line) <= limit else None for line in stream.split(b"\n")]


def test_text_of_a_megabyte_is_a_message_and_a_pair_of_surrogates_is_a_character() -> None:
    text = json.dumps('🎭, { } [ ] \\ "' * 40_000)
    message = decode(f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{text}}}}}'.encode())
    assert isinstance(message, types.JSONRPCRequest)
    assert message.params is not None
    assert message.params["a"].startswith("🎭, {")


# What the server says.


def test_a_large_answer_arrives_whole_between_others() -> None:
    with piped() as child:
        child.open()
        child.send(*(call(number, "repeat", text="line\n", times=140_000) for number in range(3)))
        assert [said(child.reply()) for _ in range(3)] == ["line\n" * 140_000] * 3


def test_an_answer_without_a_json_form_is_an_error_and_the_connection_goes_on() -> None:
    with piped() as child:
        child.open()
        child.send(call(1, "half_a_character"))
        reply = child.reply()
        assert reply["id"] == 1
        assert "error" in reply or reply["result"]["isError"]
        child.send(call(2, "echo", text="still here"))
        assert said(child.reply()) == "still here"


def test_a_client_that_stops_reading_is_not_read_either() -> None:
    line = json.dumps(call(1, "echo", text="x" * 20_000)).encode() + b"\n"
    with piped() as child:
        child.open()
        assert child.flood(line, limit=8 << 20) < 1 << 20
        assert said(child.reply()) == "x" * 20_000


# How it ends.


def test_the_end_of_input_is_the_end_within_a_third_of_a_second() -> None:
    assert DRAIN_SECONDS + CLOSING_SECONDS < 0.3


def test_the_end_of_input_cancels_a_waiting_call_and_ends_the_server() -> None:
    with piped() as child:
        child.open()
        child.send(call(1, "wait"), call(2, "echo", text="quick"))
        assert child.reply()["id"] == 2
        before = time.monotonic()
        child.hang_up()
        reply = child.reply()
        assert time.monotonic() - before < SOON
        assert (reply["id"], reply["error"]["code"]) == (1, -32000)
        assert child.line() == b"served"
        assert "the call was cancelled" in child.ends()


def test_the_end_of_input_ends_the_server_although_nobody_reads_its_answers() -> None:
    with piped() as child:
        child.open()
        child.send(call(1, "wait"), call(2, "repeat", text="x", times=1 << 20))
        assert child.has_answered()
        before = time.monotonic()
        child.hang_up()
        assert child.complaint() == "the call was cancelled"
        assert child.complaint() == "over"
        assert time.monotonic() - before < SOON
        assert child.line().endswith(b"xserved")  # in the middle of the frame
        child.ends()


def test_a_client_that_closes_its_reading_side_ends_the_server() -> None:
    with piped() as child:
        child.open()
        child.send(call(1, "wait"))
        child.stop_reading()
        child.send(call(2, "echo", text="to nobody"))
        assert "the call was cancelled" in child.ends()


def test_a_signal_ends_the_server_at_once_with_a_call_waiting() -> None:
    with piped() as child:
        child.open()
        child.send(call(1, "wait"), call(2, "echo", text="quick"))
        assert child.reply()["id"] == 2
        before = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        while (line := child.line()) != b"served":
            assert json.loads(line)["id"] == 1
        assert time.monotonic() - before < SOON
        assert "the call was cancelled" in child.ends()


def test_a_cancelled_call_is_stopped_and_never_answered() -> None:
    """W4"""
    with piped(drain=2 * PATIENCE) as child:  # which would be waited for if the call still counted
        child.open()
        child.send(call(1, "wait"), call(2, "echo", text="quick"))
        assert child.reply()["id"] == 2
        child.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        child.send(call(3, "echo", text="after"))
        assert child.reply()["id"] == 3
        child.hang_up()
        assert child.line() == b"served"
        assert "the call was cancelled" in child.ends()
