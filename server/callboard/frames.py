"""Frames: how large an answer may be, for a model that reads it and for a connection that carries it.

Lists stop by themselves (`tool.fitted`), and that is nearly always all. What one object holds in several
long texts is held to 20,000 tokens here, visibly; only a message is given whole whatever its length. A result
travels twice, as structured content and as its JSON text, whose quotes and newlines are escaped once more;
clients end a connection over a frame that is too large.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

MOST_BYTES = 80_000
"""A result as JSON: 20,000 tokens of four bytes. Clients cut or warn a little above that."""

SURELY_SHORT = MOST_BYTES // 4 - 1024
"""A result of so many characters is not over that whatever they are, with what accompanies any result."""

RESULT_BYTES = 56 * 1024
"""Entries of one page of a list, messages included; with what stands around them it stays under 64 KiB."""

FRAME_BYTES = 512 * 1024
"""One answer on the wire, with everything around the result. The tightest client known ends at 1 MiB."""

AROUND_BYTES = 4 * 1024
"""What stands around a result in its frame: the envelope of the protocol, the line of the transport."""

SURELY_FITS = (FRAME_BYTES - AROUND_BYTES) // 8
"""A result of so many characters fits twice whatever they are: each has up to 4 bytes, or is 1 byte that
becomes 2 in JSON within JSON."""

TAIL = 16
"""Characters that a shortened text keeps of its end: there its fence is closed."""

LEFT_OUT = "… [{count} more characters] …"
ELSEWHERE = "… [{count} more characters, which the structured content of this result has] …"


_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def compact(data: Mapping[str, Any]) -> str:
    """JSON as it is sent: no spaces, and nothing escaped that need not be."""
    return _COMPACT.encode(data)


def bounded(data: dict[str, Any]) -> dict[str, Any]:
    """A result of at most `MOST_BYTES`, its longest texts shortened where it is larger. Messages stay whole:
    they page by themselves, and who acknowledges one must have seen all of it."""
    size = _size(data)
    if size <= MOST_BYTES:
        return data
    beside = {key: value for key, value in data.items() if key != "messages"}
    room = MOST_BYTES - min(size - _size(beside), RESULT_BYTES)
    return data | _until(beside, LEFT_OUT, lambda told: _size(told) <= room)


def text_of(data: dict[str, Any]) -> str:
    """The text copy of a result.

    Some clients show their model the structured copy and some the text, so both hold the same facts. Where
    one message is so long that both do not fit into a frame, the structured copy stays whole, as it is the
    one that is held to the published schema, and the text copy has the beginning of the message.
    """
    whole = compact(data)
    if len(whole) <= SURELY_FITS:
        return whole
    room = FRAME_BYTES - AROUND_BYTES - len(whole.encode())
    if _escaped(whole) <= room:
        return whole
    return compact(_until(data, ELSEWHERE, lambda told: _escaped(compact(told)) <= room))


def _size(data: Mapping[str, Any]) -> int:
    return len(compact(data).encode())


def _escaped(told: str) -> int:
    return len(json.dumps(told, ensure_ascii=False).encode())


def _until(data: dict[str, Any], note: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The result with its longest texts shortened just so far that it fits."""
    most = _longest(data)
    told = data
    while most > TAIL and not fits(told):
        most = most * 3 // 4
        told = _shortened(data, most, note)
    return told


def _longest(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict | list):
        return max(map(_longest, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def _shortened(value: Any, most: int, note: str) -> Any:
    if isinstance(value, str) and len(value) > most + TAIL + len(note):
        return f"{value[:most]}{note.format(count=len(value) - most - TAIL)}{value[-TAIL:]}"
    if isinstance(value, dict):
        return {key: _shortened(item, most, note) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item, most, note) for item in value]
    return value
