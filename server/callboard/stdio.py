"""The stdio transport: JSON-RPC messages, one a line, over standard input and output.

Its one idea: the wire is private. While it serves, the client is reached through two duplicated
descriptors; descriptor 0 is the null device and descriptor 1 is standard error, so a stray print, a
library or a child process can neither take the client's bytes nor tear its frames. Everything is put
back on the way out.

Whatever arrives is answered: a line that is not one unambiguous JSON-RPC message gets an error in our
own words, and the connection goes on. `decode` is that judgement; the HTTP transport uses the same.
"""

import errno
import json
import logging
import math
import os
import re
import stat
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple, NoReturn, Self

import anyio
import anyio.to_thread
from mcp import types
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage

if sys.platform != "win32":
    import fcntl

__all__ = ["Lines", "Malformed", "decode", "serve"]

log = logging.getLogger(__name__)

STRUCTURE_LIMIT: Final = 1 << 17
"""Bytes of one message that may lie outside its strings.

A megabyte of text is parsed in 4 ms, a megabyte of empty objects in 110 ms, and nothing else runs
meanwhile. What the parser's work grows with lies outside the strings, so that is what has a limit: it
keeps the worst message at about 25 ms.
"""

DRAIN_SECONDS: Final = 0.15
"""How long calls in flight may still finish once the client, perhaps a script, has closed its side."""

CLOSING_SECONDS: Final = 0.1
"""How long the last replies may take to be written after that."""

_CHUNK: Final = 1 << 16
_GONE: Final = (BrokenPipeError, ConnectionResetError)


class Malformed(ValueError):
    """What arrived is not one JSON-RPC message; `reply` is the error that tells the client so."""

    def __init__(self, code: int, message: str, request_id: types.RequestId | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id

    @property
    def reply(self) -> types.JSONRPCError:
        """The answer: this error under the id of the request, or under null when no id could be read."""
        error = types.ErrorData(code=self.code, message=str(self))
        return types.JSONRPCError(jsonrpc="2.0", id=self.request_id, error=error)


def decode(data: bytes) -> types.JSONRPCMessage:
    """The JSON-RPC message in `data`, which must have exactly one meaning.

    Stricter than JSON parsers are by habit: repeated keys, NaN and infinities, and text that is not
    Unicode (half of a surrogate pair) are refused, because two readers could understand them differently
    (RFC 8259, sections 4, 6 and 8.2; RFC 7493). Nothing of the input is echoed.

    Raises:
        Malformed: -32700 when `data` is not UTF-8 or not JSON, -32600 when it is JSON but no message.
    """
    if len(data) > STRUCTURE_LIMIT and _structure(data) > STRUCTURE_LIMIT:
        raise Malformed(types.INVALID_REQUEST, "The message holds too many values.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Malformed(types.PARSE_ERROR, "The message is not UTF-8.") from None
    try:
        decoded = _STRICT.decode(text)
        if _SURROGATE.search(text) and not _is_unicode(decoded):
            raise Malformed(types.INVALID_REQUEST, "The message holds text that is not Unicode.")
    except json.JSONDecodeError:
        raise Malformed(types.PARSE_ERROR, "The message is not JSON.") from None
    except Malformed as refusal:
        raise Malformed(refusal.code, str(refusal), _salvaged_id(text)) from None
    except RecursionError:
        raise Malformed(types.INVALID_REQUEST, "The message is nested too deeply.") from None
    except ValueError:  # the interpreter's own limit on the digits of an integer
        raise Malformed(types.INVALID_REQUEST, "The message holds a number that is too long.") from None
    if not isinstance(decoded, dict):
        raise Malformed(types.INVALID_REQUEST, "The message is not a JSON object.")
    try:
        message = types.jsonrpc_message_adapter.validate_python(decoded, by_name=False)
    except ValueError:
        raise Malformed(types.INVALID_REQUEST, "The message is not JSON-RPC.", _request_id(decoded)) from None
    if isinstance(message, types.JSONRPCNotification) and "id" in decoded:
        # The notification model ignores the keys it does not know, so a request with a bad id would pass
        # as one and never be answered.
        raise Malformed(types.INVALID_REQUEST, "The id of a request is a string or an integer.")
    return message


def _structure(data: bytes) -> int:
    """The bytes of `data` outside its strings. Counting stops being exact where it no longer matters."""
    return len(_STRING.sub(b"", data, count=STRUCTURE_LIMIT // 4))


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Malformed(types.INVALID_REQUEST, "The message repeats a key.")
    return members


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members whose key occurs once: a repeated key has no value that anybody could rely on."""
    members = dict(pairs)
    if len(members) < len(pairs):
        times = Counter(key for key, _ in pairs)
        members = {key: value for key, value in members.items() if times[key] == 1}
    return members


def _no_constant(_: str) -> NoReturn:
    raise Malformed(types.INVALID_REQUEST, "The message holds a number that JSON does not have.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Malformed(types.INVALID_REQUEST, "The message holds a number that is too large.")
    return number


def _is_unicode(decoded: object) -> bool:
    try:
        json.dumps(decoded, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _salvaged_id(text: str) -> types.RequestId | None:
    """The id in a message that was refused before it was read to its end."""
    try:
        return _request_id(_LENIENT.decode(text))
    except (ValueError, RecursionError):
        return None


def _request_id(decoded: object) -> types.RequestId | None:
    """The id by which the sender would recognise an answer, if it has one that can be sent back."""
    candidate = decoded.get("id") if isinstance(decoded, dict) else None
    if isinstance(candidate, bool) or not isinstance(candidate, str | int) or not _is_unicode(candidate):
        return None
    return candidate


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unambiguous, parse_constant=_no_constant, parse_float=_finite
)
_LENIENT: Final = json.JSONDecoder(object_pairs_hook=_unrepeated)
# A string, closed or not. Possessive and with an optional end, so it never looks at a byte twice.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# Only an escape can bring in half of a pair, as the bytes themselves were valid UTF-8.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class Lines:
    """Cuts a stream of bytes into lines, and never holds more than one line of the limit and one chunk."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that `chunk` completes, without their ends; None, once, for a line over the limit."""
        *complete, start = chunk.split(b"\n")
        for part in complete:
            if self._overflows(part):
                yield None
            line = self.rest()
            if line is not None:
                yield line
        if self._overflows(start):
            yield None

    def rest(self) -> bytes | None:
        """The line so far, which is then forgotten; None if it was over the limit and has been reported."""
        line = None if self._skipping else b"".join(self._parts)
        self._parts, self._size, self._skipping = [], 0, False
        return line

    def _overflows(self, part: bytes) -> bool:
        """Adds `part` to the line. True at the moment the line passes the limit."""
        if self._skipping:
            return False
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
            return False
        self._parts, self._skipping = [], True
        return True


class _Wire(NamedTuple):
    """The client's two ends, and whether each can be waited for or must be used from a thread."""

    source: int
    sink: int
    source_polls: bool
    sink_polls: bool

    async def read(self) -> bytes:
        """The next bytes, as soon as there are any; empty at the end of input."""
        try:
            if not self.source_polls:
                return await anyio.to_thread.run_sync(os.read, self.source, _CHUNK, abandon_on_cancel=True)
            while True:
                # Waiting first leaves the descriptor's mode alone: it is shared with whoever started us.
                await anyio.wait_readable(self.source)
                try:
                    return os.read(self.source, _CHUNK)
                except BlockingIOError:
                    continue
        except ConnectionResetError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that was hung up
                return b""
            raise

    async def write(self, data: bytes) -> None:
        """Writes all of `data`, at the pace of the reader."""
        rest = memoryview(data)
        while rest:
            if self.sink_polls:
                try:
                    written = os.write(self.sink, rest)
                except BlockingIOError:
                    await anyio.wait_writable(self.sink)
                    continue
            else:
                written = await anyio.to_thread.run_sync(os.write, self.sink, rest, abandon_on_cancel=True)
            rest = rest[written:]


def _polls(descriptor: int) -> bool:
    """Whether readiness can be waited for: of pipes, sockets and terminals, but not on Windows."""
    if sys.platform == "win32":
        return False
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _duplicate(descriptor: int) -> int:
    """A private copy, closed to children and outside the standard range even when part of that is closed."""
    if sys.platform == "win32":
        return os.dup(descriptor)
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


@contextmanager
def _private_wire() -> Iterator[_Wire]:
    """Takes the client's ends away from descriptors 0 and 1, and gives them back."""
    if sys.stdout is not None:
        sys.stdout.flush()
    with ExitStack() as undo:
        wire = _Wire(source := _duplicate(0), sink := _duplicate(1), _polls(0), _polls(1))
        # A thread may still be blocked on a descriptor that cannot be polled. Closed, its number could be
        # given to another file under that thread's hands, so it stays open.
        for descriptor, polls in ((source, wire.source_polls), (sink, wire.sink_polls)):
            if polls:
                undo.callback(os.close, descriptor)
        if wire.sink_polls:
            undo.callback(os.set_blocking, sink, os.get_blocking(sink))
            os.set_blocking(sink, False)
        null = os.open(os.devnull, os.O_RDWR)
        undo.callback(os.close, null)
        undo.callback(os.dup2, source, 0)
        os.dup2(null, 0)
        undo.callback(os.dup2, sink, 1)
        try:
            os.dup2(2, 1)
        except OSError:  # started without a standard error
            os.dup2(null, 1)
        if sys.stdout is not None:
            # What was printed meanwhile sits in a buffer, and must leave before 1 is the wire again.
            undo.callback(sys.stdout.flush)
        yield wire


class _Connection:
    """One client, from its first byte to its last: the two streams that the SDK reads and writes.

    They are the wire itself and no queues with tasks between: each hop through one is a turn of the event
    loop, and a call had four of them.
    """

    def __init__(self, wire: _Wire, line_limit: int, scope: anyio.CancelScope) -> None:
        self._wire = wire
        self._lines = Lines(line_limit)
        self._unread: deque[bytes | None] = deque()
        self._scope = scope
        self._ended = False
        self._turn = anyio.Lock(fast_acquire=True)
        self._unanswered: set[str] = set()
        self._answered = anyio.Event()

    # What the client says

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        """What the client says next, until it closes its side and its calls had a moment to finish."""
        while True:
            while self._unread:
                try:
                    message = await self._taken(self._unread.popleft())
                except anyio.BrokenResourceError:  # a refusal of ours that nobody reads any more
                    raise StopAsyncIteration from None
                if message is not None:
                    return SessionMessage(message)
            if self._ended:
                await self._drain()
                self._scope.deadline = anyio.current_time() + CLOSING_SECONDS
                raise StopAsyncIteration
            if chunk := await self._wire.read():
                self._unread.extend(self._lines.feed(chunk))
            else:
                self._ended = True
                self._unread.append(self._lines.rest() or b"")

    async def receive(self) -> SessionMessage:
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def _drain(self) -> None:
        with anyio.move_on_after(DRAIN_SECONDS):
            while self._unanswered:
                self._answered = anyio.Event()
                await self._answered.wait()

    async def _taken(self, line: bytes | None) -> types.JSONRPCMessage | None:
        """The message in a line, which is counted; None for what was answered here or is empty."""
        if line is None:
            await self._write(Malformed(types.INVALID_REQUEST, "The message is too long.").reply)
            return None
        if not line or line.isspace():
            return None
        try:
            message = decode(line)
        except Malformed as refusal:
            await self._write(refusal.reply)
            return None
        # While a reply cannot be written nothing new is begun: who stops reading is not read either.
        async with self._turn:
            self._count(message)
        return message

    def _count(self, message: types.JSONRPCMessage) -> None:
        if isinstance(message, types.JSONRPCRequest):
            self._unanswered.add(str(message.id))
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            # A cancelled call is never answered.
            self._unanswered.discard(str((message.params or {}).get("requestId")))

    # What the server says

    async def send(self, item: SessionMessage) -> None:
        await self._write(item.message)

    async def _write(self, message: types.JSONRPCMessage) -> None:
        frame = _encode(message)
        try:
            async with self._turn:
                await self._wire.write(frame)
        except _GONE:
            log.debug("the client stopped reading")
            self._scope.cancel()
            raise anyio.BrokenResourceError from None
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
            self._unanswered.discard(str(message.id))
            self._answered.set()

    # Both streams end with the wire, which `serve` closes.

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def _encode(message: types.JSONRPCMessage) -> bytes:
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:  # a result nested too deeply, or with text that is not Unicode
        log.exception("a message has no JSON form")
        request_id = message.id if isinstance(message, types.JSONRPCResponse | types.JSONRPCError) else None
        text = Malformed(
            types.INTERNAL_ERROR, "The answer has no JSON form.", request_id
        ).reply.model_dump_json()
    return text.encode() + b"\n"


async def serve(server: MCPServer[Any], *, line_limit: int = 1 << 20) -> None:
    """Serves one client, in whichever protocol era it opens, until it closes standard input.

    Pipes, sockets and terminals are waited for on the event loop. Regular files, and everything on
    Windows, are read and written by threads; a thread outlives a cancelled call until the client sends or
    closes. At the end of input, calls in flight have `DRAIN_SECONDS` to finish and are then cancelled. A
    client that no longer takes replies ends the connection too.

    Args:
        server: Whose tools, resources and prompts are served. Its lifespan is entered once.
        line_limit: The longest line accepted, in bytes. A longer one is answered with an error.

    Raises:
        OSError: Standard input or output is closed to begin with.
        ExceptionGroup: The server's own lifespan failed.
    """
    # MCPServer has no public door for a stream pair; its own run_stdio_async goes through this one.
    protocol = server._lowlevel_server
    with _private_wire() as wire, anyio.CancelScope() as scope:
        connection = _Connection(wire, line_limit, scope)
        await protocol.run(connection, connection, protocol.create_initialization_options())
