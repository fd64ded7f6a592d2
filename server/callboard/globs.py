"""Which paths a pattern covers, and whether two patterns can meet.

The one idea: a pattern covers what it matches and everything below, so two patterns meet exactly when their
names meet pairwise from the left, until one of them ends or reaches `**`. From there on each can be continued
inside the other. The answer is exact for every pair, and nothing is looked up in the file system: a path is
covered whether or not it exists.

A path is a row of names, a pattern a row of segments, both parted by `/`:

- `*` stands for any run of characters inside one name, the empty run included;
- `?` stands for exactly one character of a name;
- `**`, alone in its segment, stands for any number of whole names, none included;
- every other character stands for itself.

`src` covers `src/a/b`, and `src/*.py` covers `src/x.py/below`. A text without wildcards is a pattern too, so
a file, a folder and a glob are compared by the same functions. All but `normalise` expect a text it returned.

Where wildcards meet wildcards, the states of one pattern are the bits of an integer and the other is stepped
through it symbol by symbol: the bit-parallel method of Baeza-Yates and Gonnet ("A new approach to text
searching", 1992), with the carry of an addition to run through a `*` (Myers, "A fast bit-vector algorithm",
1999). A step is a handful of integer operations; there is no recursion and no backtracking, so no pair of
patterns is slow.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = [
    "MAX_BYTES",
    "MAX_NAMES",
    "MAX_WILDCARDS",
    "InvalidPattern",
    "ancestors",
    "covers",
    "is_literal",
    "literal_prefix",
    "normalise",
    "overlaps",
]

MAX_BYTES: Final = 1024
"""Longest canonical pattern, in bytes of UTF-8."""

MAX_WILDCARDS: Final = 16
"""Most wildcards in one pattern; `*`, `?` and `**` count one each. One call may compare a hundred patterns
with every lease near them."""

MAX_NAMES: Final = 64
"""Most names in one path: each is looked at for being a link."""

_MAX_INPUT: Final = 2 * MAX_BYTES

_WILD = re.compile(r"[*?]")
_WILDCARD = re.compile(r"\*\*?|\?")
_WILDCARDS = re.compile(r"[*?]{2,}")
_STARS = re.compile(r"\*{2,}")
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BRACKET = re.compile(r"[\[\]{}]")
_DOTS = re.compile(r"[.*?]+")
# Names that stand for all names of their length where only dots and wildcards matter.
_SHORT_NAMES: Final = {1: ("x",), 2: ("xx", "x.", ".x")}


class InvalidPattern(ValueError):
    """A text that is no path or pattern of the repository; `rule` says in one sentence what it breaks."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def normalise(text: str) -> str:
    """Return the one spelling of a repository-relative path or pattern, found from its text alone.

    Backslashes become slashes; `.`, doubled and trailing slashes vanish; `..` takes back the name before it;
    Unicode is composed (NFC); runs of stars are as short as they can be; the root is `**`. Normalising again
    changes nothing more.

    Raises InvalidPattern for what is empty, absolute or outside the root, for `..` after a wildcard, control
    characters, lone surrogates, `[ ] { }`, more than MAX_BYTES bytes and more than MAX_WILDCARDS wildcards.
    """
    if len(text) > _MAX_INPUT:
        raise _too_long()
    if _SURROGATE.search(text):
        raise InvalidPattern("A path must be valid Unicode; this one holds a lone surrogate.")
    if _CONTROL.search(text):
        raise InvalidPattern("A path may not hold control characters.")
    if _BRACKET.search(text):
        raise InvalidPattern("Brackets and braces are not patterns here; use *, ? and **, or name each path.")
    text = unicodedata.normalize("NFC", text).replace("\\", "/")
    if text.startswith("/"):
        raise InvalidPattern("A path is relative to the repository's root; this one is absolute.")
    segments = _segments(text)
    if segments and _DRIVE.fullmatch(segments[0]):
        raise InvalidPattern("A path is relative to the repository's root; this one names a drive.")
    pattern = "/".join(segments) or "**"
    if not text.strip() or not pattern.strip():
        raise InvalidPattern("A path may not be empty.")
    if len(pattern.encode()) > MAX_BYTES:
        raise _too_long()
    if len(_WILDCARD.findall(pattern)) > MAX_WILDCARDS:
        raise InvalidPattern(f"A path may hold at most {MAX_WILDCARDS} wildcards; name the folder above.")
    if len(segments) > MAX_NAMES:
        raise InvalidPattern(f"A path may have at most {MAX_NAMES} names.")
    return pattern


def is_literal(pattern: str) -> bool:
    """Say whether the pattern holds no wildcard, and so names one path and all below it."""
    return _WILD.search(pattern) is None


def literal_prefix(pattern: str) -> str:
    """Return the leading segments before the first one with a wildcard, "" when the first one has one.

    Every path that the pattern covers lies at or below its prefix, so two patterns can only overlap when the
    prefix of one is among the `ancestors` of the other's.
    """
    wild = _WILD.search(pattern)
    return pattern if wild is None else pattern[: max(pattern.rfind("/", 0, wild.start()), 0)]


def ancestors(prefix: str) -> list[str]:
    """Return the folders above a literal path, from the root "" downwards, and last the path itself."""
    if not prefix:
        return [""]
    cuts = [at for at, character in enumerate(prefix) if character == "/"]
    return ["", *(prefix[:at] for at in cuts), prefix]


def overlaps(p: str, q: str) -> bool:
    """Say whether some path is covered by both patterns: exactly, with no false alarm and no miss."""
    for a, b in zip(p.split("/"), q.split("/"), strict=False):
        if a == "**" or b == "**":
            return True
        if a != b and not _names_meet(a, b):
            return False
    return True


def covers(p: str, q: str) -> bool:
    """Say whether every path that `q` covers is covered by `p`.

    True is always right. False is exact when `q` is a literal path; between two patterns it may also mean
    that no single way through `p` fits all of `q`, as with `*a?*` and `*a*a*`.
    """
    machine = _machine(p)
    states = machine.opened(1)
    for symbol in _symbols(q):
        if symbol == "/":
            states = machine.opened((states & machine.slashes) << 1 | states & machine.deep)
        elif symbol == "**":
            states = machine.opened(states & machine.deep)
        elif symbol == "*":
            # Only a state that reads any run, and is still the same state, is right for all of them.
            states = machine.spread(states & machine.loops)
        else:
            reads = machine.anything if symbol == "?" else machine.reads.get(symbol, machine.anything)
            states = machine.spread((states & reads) << 1 | states & machine.loops)
        if states == 0:
            return False
    return states & machine.end != 0


def _too_long() -> InvalidPattern:
    return InvalidPattern(f"A path may be at most {MAX_BYTES} bytes long.")


def _segments(text: str) -> list[str]:
    """Split a composed text with forward slashes into its canonical segments, `..` resolved."""
    segments: list[str] = []
    for name in text.split("/"):
        if name in ("", "."):
            continue
        if name == "..":
            if not segments:
                raise InvalidPattern("A path may not leave the repository's root with `..`.")
            if not is_literal(segments[-1]):
                raise InvalidPattern("A path may not step back with `..` over a wildcard.")
            segments.pop()
        elif len(name) > 1 and not name.strip("*"):
            # Stars and nothing else, three of them too, are read as the wider meaning, as git reads them.
            if segments[-1:] != ["**"]:
                segments.append("**")
        else:
            segments.append(_STARS.sub("*", name))
    return segments


class _Machine(NamedTuple):
    """A pattern as a nondeterministic automaton: a state is a bit, and reading leads from a bit to the next.

    The state behind the last symbol reads everything, because a pattern covers all below what it matches.
    """

    reads: dict[str, int]
    """For each character that the pattern names: the states that may read it to get ahead, `?` included."""
    anything: int
    """States of a `?`."""
    named: int
    """States of a single character, `?` included."""
    stars: int
    """States of a `*`: they may stay while a name goes on, and may be passed at any time."""
    slashes: int
    """States of a `/`."""
    doors: int
    """States of a `**`: they may stay for ever, and may be passed where a name begins."""
    deep: int
    """States that may stay for ever: the doors and the end."""
    loops: int
    """States that may stay while a name goes on: the stars and the deep."""
    end: int
    """The state behind the last symbol."""

    def spread(self, states: int) -> int:
        """Add the states that are reached by passing a `*`."""
        return states | (states & self.stars) << 1

    def opened(self, states: int) -> int:
        """Add the states that are reached without reading where a name begins."""
        return self.spread(states | (states & self.doors) << 1)


@lru_cache(maxsize=512)
def _machine(pattern: str) -> _Machine:
    reads: dict[str, int] = {}
    anything = named = stars = slashes = doors = 0
    bit = 1
    for symbol in _symbols(pattern):
        match symbol:
            case "**":
                doors |= bit
            case "*":
                stars |= bit
            case "/":
                slashes |= bit
            case "?":
                anything |= bit
            case _:
                reads[symbol] = reads.get(symbol, 0) | bit
                named |= bit
        bit <<= 1
    return _Machine(
        reads={character: states | anything for character, states in reads.items()},
        anything=anything,
        named=named | anything,
        stars=stars,
        slashes=slashes,
        doors=doors,
        deep=doors | bit,
        loops=stars | doors | bit,
        end=bit,
    )


def _symbols(pattern: str) -> Iterator[str]:
    """Yield the symbols a machine is made of: characters, `*`, `?`, `/` behind each name, and `**`.

    A `**` at the end adds nothing to what is covered and is left out. Among neighbours in a name every `?`
    comes before the `*`: the meaning is the same, and fewer coverings are missed.
    """
    segments = pattern.split("/")
    if segments[-1] == "**":
        segments.pop()
    for segment in segments:
        if segment == "**":
            yield segment
        else:
            yield from _WILDCARDS.sub(_question_marks_first, segment)
            yield "/"


def _question_marks_first(run: re.Match[str]) -> str:
    return "?" * run[0].count("?") + "*" * ("*" in run[0])


def _names_meet(a: str, b: str) -> bool:
    """Say whether some name matches both segments, neither of which is `**`."""
    if is_literal(a):
        a, b = b, a
    if is_literal(a):
        return a == b
    if not _run_together(_machine(a), b):
        return False
    if _DOTS.fullmatch(a + b):
        # Where the length is fixed and small, the only shared texts may be `.` and `..`, which are no names.
        for segment in (a, b):
            if "*" not in segment and len(segment) in _SHORT_NAMES:
                names = _SHORT_NAMES[len(segment)]
                return any(all(_run_together(_machine(s), name) for s in (a, b)) for name in names)
    return True


def _run_together(machine: _Machine, segment: str) -> bool:
    """Say whether some text matches both the one segment that the machine was made of and another."""
    ahead = machine.named | machine.stars
    states = machine.spread(1)
    for symbol in segment:
        if symbol == "*":
            # From the lowest state in each row of readers, the carry of this sum runs to the row's end.
            states |= ahead + (states & ahead) ^ ahead
        else:
            reads = machine.named if symbol == "?" else machine.reads.get(symbol, machine.anything)
            states = machine.spread((states & reads) << 1 | states & machine.stars)
            if states == 0:
                return False
    return states & machine.slashes != 0
