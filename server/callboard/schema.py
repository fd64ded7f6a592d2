"""The data model, read from `schema.sql`.

That file is the only place where the model is written down. Here it becomes what the rest needs: the
statements that make a store, the pragmas of every connection, and the text to compare a store with.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import apsw

__all__ = [
    "APPLICATION_ID",
    "MAKES",
    "PRAGMA",
    "PRAGMAS",
    "VERSION",
    "Part",
    "Source",
    "create",
    "drift",
    "expected",
    "normalised",
    "rows",
    "source",
    "squeezed",
    "statements",
]


def _read() -> str:
    """The text of `schema.sql`: beside this module in a wheel, at the root of the repository in a
    checkout."""
    here = Path(__file__).resolve()
    packaged = here.with_name("schema.sql")
    return (packaged if packaged.exists() else here.parents[2] / "schema.sql").read_text(encoding="utf-8")


class Part(NamedTuple):
    """One statement of the file, with the heading that it stands under and the comment directly above it."""

    section: str
    comment: str
    sql: str


class Source(NamedTuple):
    """`schema.sql` taken apart. Comments are as they are written."""

    preface: str
    sections: dict[str, str]
    parts: list[Part]


_HEADING = re.compile(r"-- === (\w+) ===")
PRAGMA = re.compile(r"PRAGMA (\w+) = ([\w-]+);\s*(?:-- (.*))?")
MAKES = re.compile(r"CREATE (?:UNIQUE )?(?:VIRTUAL )?(TABLE|INDEX|TRIGGER|VIEW) (\w+)")
_LAYOUT = re.compile(r"('(?:[^']|'')*')|(?:\s+|--[^\n]*)+")
_PUNCTUATION = re.compile(r" ?([(),]) ?")
# What FTS5 makes for itself beside a full-text table.
_SHADOW = re.compile(r"(_fts_\w+)_(?:data|idx|docsize|config|content)")


def source() -> Source:
    """The file taken apart: a blank line ends a comment, a heading begins a section, a semicolon ends a
    statement."""
    section, preface = "", ""
    sections: dict[str, str] = {}
    parts: list[Part] = []
    comment: list[str] = []
    statement: list[str] = []
    for line in _read().splitlines():
        if statement or (line and not line.startswith("--")):
            statement.append(line)
            # SQLite itself knows whether a semicolon ends the statement or stands inside a trigger.
            if line.split("--")[0].rstrip().endswith(";"):
                sql = "\n".join(statement)
                if apsw.complete(sql + "\n"):
                    parts.append(Part(section, "\n".join(comment), sql))
                    statement, comment = [], []
        elif heading := _HEADING.fullmatch(line):
            section = heading[1]
        elif line:
            comment.append(line)
        elif comment:
            if section:
                sections[section] = "\n".join(comment)
            else:
                preface = "\n".join(comment)
            comment = []
    return Source(preface, sections, parts)


_WRITTEN = [part.sql for part in source().parts]

PRAGMAS = MappingProxyType(
    {match[1]: match[2] for sql in _WRITTEN if (match := PRAGMA.fullmatch(sql)) is not None}
)
"""Pragma names and values, in the order of the file."""

APPLICATION_ID = int(PRAGMAS["application_id"])
"""The number in an SQLite file's header by which a store is known."""

VERSION = int(PRAGMAS["user_version"])
"""The version of this schema."""


def statements() -> list[str]:
    """Every statement of the file except the pragmas, in order."""
    return [sql for sql in _WRITTEN if not sql.startswith("PRAGMA")]


def create(db: apsw.Connection) -> None:
    """Make the whole model in an empty database and mark it as a store of this version.

    The caller owns the transaction, and has chosen `auto_vacuum` before it.
    """
    for statement in statements():
        db.execute(statement)
    db.pragma("application_id", APPLICATION_ID)
    db.pragma("user_version", VERSION)


def squeezed(sql: str) -> str:
    """A statement without comments and layout, as it is compared."""
    flowing = _LAYOUT.sub(lambda found: found[1] or " ", sql)
    return _PUNCTUATION.sub(r"\1", flowing).strip(" ;")


def _written() -> dict[str, str]:
    """The statements of this file by kind and name."""
    made = ((match, sql) for sql in statements() if (match := MAKES.match(sql)))
    return {f"{match[1].lower()} {match[2]}": sql.removesuffix(";") for match, sql in made}


def _stored(db: apsw.Connection) -> dict[str, str]:
    """The statements of a database by kind and name, without those that SQLite and FTS5 add themselves."""
    found = rows(db, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {
        f"{kind} {name}": sql
        for kind, name, sql in found
        if not name.startswith("sqlite_") and not _SHADOW.fullmatch(name)
    }


def expected() -> dict[str, str]:
    """What `normalised` gives for a store that is as this file says."""
    return {name: squeezed(sql) for name, sql in _written().items()}


def rows(db: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    found: list[tuple[Any, ...]] = db.execute(sql).fetchall()
    return found


def normalised(db: apsw.Connection) -> dict[str, str]:
    """The schema of a database by kind and name, without comments, layout, and what SQLite and FTS5 add
    themselves."""
    return {name: squeezed(sql) for name, sql in _stored(db).items()}


def drift(db: apsw.Connection) -> list[str]:
    """What is in a database otherwise than this file says, or in one of the two only: by kind and name, in
    order. Nothing in a sound store; anything is drift or tampering."""
    if _stored(db) == _written():  # to the letter, as in every store that this schema made
        return []
    found, wanted = normalised(db), expected()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
