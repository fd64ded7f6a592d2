"""The data model, read from `schema.sql`.

That file is the only place where the model is written down. Here it becomes what the rest needs: the
statements that make a store, the pragmas of every connection, the text to compare a store with, and
`docs/schema.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw

__all__ = [
    "APPLICATION_ID",
    "PRAGMAS",
    "TEXT",
    "VERSION",
    "create",
    "drift",
    "expected",
    "markdown",
    "normalised",
    "statements",
]


def _read() -> str:
    """The text of `schema.sql`: beside this module in a wheel, at the root of the repository in a
    checkout."""
    here = Path(__file__).resolve()
    packaged = here.with_name("schema.sql")
    return (packaged if packaged.exists() else here.parents[2] / "schema.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Part:
    """One statement of the file, with the heading that it stands under and the comment directly above it."""

    section: str
    comment: str
    sql: str


@dataclass(frozen=True)
class _Source:
    """`schema.sql` taken apart."""

    preface: str
    sections: dict[str, str] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)


_HEADING = re.compile(r"-- === (\w+) ===")
_PRAGMA = re.compile(r"PRAGMA (\w+) = ([\w-]+);\s*(?:-- (.*))?")
_CREATE = re.compile(r"CREATE (?:UNIQUE )?(?:VIRTUAL )?(TABLE|INDEX|TRIGGER|VIEW) (\w+)")
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (\w+) ON (\w+) \((.*?)\)(?: WHERE (.*))?")
_TRIGGER = re.compile(
    r"CREATE TRIGGER (\w+) ((?:BEFORE|AFTER) (?:INSERT|DELETE|UPDATE(?: OF [\w, ]+?)?)) ON (\w+)\b"
)
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|\s+|[(),]|[^\s'(),-]+|-")
_LAYOUT = re.compile(r"('(?:[^']|'')*')|(?:\s+|--[^\n]*)+")
_PUNCTUATION = re.compile(r" ?([(),]) ?")
# What FTS5 makes for itself beside a full-text table.
_SHADOW = re.compile(r"(_fts_\w+)_(?:data|idx|docsize|config|content)")


def _prose(comment: list[str]) -> str:
    """Comment lines as Markdown: what is indented is a list."""
    text = "\n".join(line.removeprefix("--").removeprefix(" ") for line in comment)
    listed = re.sub(r"^ {2}", "", text, flags=re.MULTILINE)
    return re.sub(r":\n(?=\* )", ":\n\n", listed).strip()


def _parse(text: str) -> _Source:
    """Take the file apart: a blank line ends a comment, a heading begins a section, a semicolon ends a
    statement."""
    section, preface = "", ""
    sections: dict[str, str] = {}
    parts: list[_Part] = []
    comment: list[str] = []
    statement: list[str] = []
    for line in text.splitlines():
        if statement or (line and not line.startswith("--")):
            statement.append(line)
            sql = "\n".join(statement)
            # SQLite itself knows whether a semicolon ends the statement or stands inside a trigger.
            if line.split("--")[0].rstrip().endswith(";") and apsw.complete(sql + "\n"):
                parts.append(_Part(section, _prose(comment), sql))
                statement, comment = [], []
        elif heading := _HEADING.fullmatch(line):
            section = heading[1]
        elif line:
            comment.append(line)
        elif comment:
            if section:
                sections[section] = _prose(comment)
            else:
                preface = _prose(comment)
            comment = []
    return _Source(preface, sections, parts)


TEXT = _read()
"""The text of `schema.sql`."""

_SOURCE = _parse(TEXT)
_PRAGMA_LINES = [match for part in _SOURCE.parts if (match := _PRAGMA.fullmatch(part.sql))]

PRAGMAS = MappingProxyType({match[1]: match[2] for match in _PRAGMA_LINES})
"""Pragma names and values, in the order of the file."""

APPLICATION_ID = int(PRAGMAS["application_id"])
"""The number in an SQLite file's header by which a store is known."""

VERSION = int(PRAGMAS["user_version"])
"""The version of this schema."""


def statements() -> list[str]:
    """Every statement of the file except the pragmas, in order."""
    return [part.sql for part in _SOURCE.parts if not part.sql.startswith("PRAGMA")]


def create(db: apsw.Connection) -> None:
    """Make the whole model in an empty database and mark it as a store of this version.

    The caller owns the transaction, and has chosen `auto_vacuum` before it.
    """
    for statement in statements():
        db.execute(statement)
    db.pragma("application_id", APPLICATION_ID)
    db.pragma("user_version", VERSION)


def _squeeze(sql: str) -> str:
    """A statement without comments and layout, as it is compared."""
    flowing = _LAYOUT.sub(lambda found: found[1] or " ", sql)
    return _PUNCTUATION.sub(r"\1", flowing).strip(" ;")


def _written() -> dict[str, str]:
    """The statements of this file by kind and name."""
    made = ((match, sql) for sql in statements() if (match := _CREATE.match(sql)))
    return {f"{match[1].lower()} {match[2]}": sql.removesuffix(";") for match, sql in made}


def _stored(db: apsw.Connection) -> dict[str, str]:
    """The statements of a database by kind and name, without those that SQLite and FTS5 add themselves."""
    rows = _rows(db, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {
        f"{kind} {name}": sql
        for kind, name, sql in rows
        if not name.startswith("sqlite_") and not _SHADOW.fullmatch(name)
    }


def expected() -> dict[str, str]:
    """What `normalised` gives for a store that is as this file says."""
    return {name: _squeeze(sql) for name, sql in _written().items()}


def _rows(db: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = db.execute(sql).fetchall()
    return rows


def normalised(db: apsw.Connection) -> dict[str, str]:
    """The schema of a database by kind and name, without comments, layout, and what SQLite and FTS5 add
    themselves."""
    return {name: _squeeze(sql) for name, sql in _stored(db).items()}


def drift(db: apsw.Connection) -> list[str]:
    """What is in a database otherwise than this file says, or in one of the two only: by kind and name, in
    order. Nothing in a sound store; anything is drift or tampering."""
    if _stored(db) == _written():  # to the letter, as in every store that this schema made
        return []
    found, wanted = normalised(db), expected()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


# --- docs/schema.md -----------------------------------------------------------------------------------------


@dataclass
class _Item:
    """One column or constraint of a CREATE TABLE, as written, with the comment beside it."""

    sql: str = ""
    comment: str = ""


def _items(create_table: str) -> Iterator[_Item]:
    """Columns and constraints of a CREATE TABLE statement. A comment after a comma belongs to what the comma
    ended."""
    depth, item, last = 0, _Item(), _Item()
    for token in _TOKEN.findall(create_table[create_table.index("(") :]):
        if token.startswith("--"):
            owner = item if item.sql.strip() else last
            owner.comment = f"{owner.comment} {token[2:].strip()}".strip()
            continue
        depth += (token == "(") - (token == ")")
        if depth == 0:
            break
        if token == "," and depth == 1:
            yield (last := item)
            item = _Item()
        elif not (token == "(" and depth == 1 and not item.sql):
            item.sql += token
    yield item


_CHECK = re.compile(r"CONSTRAINT (\w+) CHECK ?(\(.*\))")
_KINDS = {"'object'": "JSON object", "'array'": "JSON array"}


def _checked(sql: str) -> str:
    """What a named CHECK demands, in words where its name tells its kind."""
    match = _CHECK.search(sql)
    if match is None:
        return ""
    name, rule = match.groups()
    if name.endswith("_time"):
        return "UTC time"
    if name.endswith("_json"):
        return next((words for word, words in _KINDS.items() if word in rule), "JSON")
    if name.endswith("_length"):
        return re.sub(r".*= (\d+)\)", r"\1 bytes", rule)
    if values := re.search(r" IN ?\((.*?)\)", rule):
        return ", ".join(f"`{value.strip(chr(39))}`" for value in re.split(r", ?", values[1]))
    return f"`{rule[1:-1]}`"


def _cell(text: str) -> str:
    """Text that may stand in a table cell."""
    return text.replace("|", "\\|")


def _default(value: str | None, hidden: int) -> str:
    if hidden:
        return "computed"
    if value is None:
        return "—"
    return "now" if "strftime" in value else f"`{value}`"


def _columns(db: apsw.Connection, table: str, create_table: str) -> Iterator[str]:
    """The rows of a table's column table."""
    items = {item.sql.split()[0]: item for item in _items(create_table)}
    rows = _rows(db, f"SELECT * FROM pragma_table_xinfo('{table}')")
    keys = sum(1 for row in rows if row[5])
    for _, name, kind, required, default, key, hidden in rows:
        item = items[name]
        notes = []
        if key:
            notes.append("primary key" if keys == 1 else f"primary key part {key}")
        if "AUTOINCREMENT" in item.sql:
            notes.append("never given out twice")
        if re.search(r"\bUNIQUE\b", item.sql):
            notes.append("unique")
        notes += [part for part in (_checked(_squeeze(item.sql)), item.comment) if part]
        null = "no" if required else "yes"
        yield f"| `{name}` | {kind} | {null} | {_default(default, hidden)} | {_cell('; '.join(notes))} |"


def _keys(create_table: str, table: str, db: apsw.Connection) -> Iterator[str]:
    """The list below a table's columns: keys, references and rules over several columns."""
    primary = db.execute(
        f"SELECT name FROM pragma_table_xinfo('{table}') WHERE pk > 0 ORDER BY pk"
    ).fetchall()
    yield "- Primary key: " + ", ".join(f"`{name}`" for (name,) in primary) + "."
    references: dict[int, list[tuple[str, str]]] = {}
    ends: dict[int, str] = {}
    for key, _, target, column, there, _, on_delete, _ in db.execute(f"PRAGMA foreign_key_list('{table}')"):
        references.setdefault(key, []).append((column, there))
        ends[key] = f"`{target}` (" + ", ".join(f"`{to}`" for _, to in references[key]) + ")"
        ends[key] += "" if on_delete == "NO ACTION" else f", on delete {on_delete.lower()}"
    for key in sorted(references):
        yield "- Refers: " + ", ".join(f"`{column}`" for column, _ in references[key]) + f" → {ends[key]}."
    for item in _items(create_table):
        sql = _squeeze(item.sql)
        if sql.startswith("CONSTRAINT"):
            yield f"- Always: {_checked(sql)}" + (f" ({item.comment})" if item.comment else "") + "."
        elif sql.startswith("UNIQUE"):
            yield "- Unique: " + ", ".join(f"`{name}`" for name in re.findall(r"\w+", sql)[1:]) + "."


def _spaced(sql: str) -> str:
    """A statement on one line, with its spaces."""
    return re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).strip().rstrip(";")


def _attached(table: str) -> Iterator[str]:
    """The indexes and triggers of a table."""
    for part in _SOURCE.parts:
        sql = _spaced(part.sql)
        note = f" {part.comment}" if part.comment else ""
        if (index := _INDEX.fullmatch(sql)) and index[3] == table:
            where = f" where `{index[5]}`" if index[5] else ""
            yield f"- Index `{index[2]}`{' unique' if index[1] else ''} (`{index[4]}`){where}.{note}".replace(
                "\n", " "
            )
        elif (trigger := _TRIGGER.match(sql)) and trigger[3] == table:
            yield f"- Trigger `{trigger[1]}` {trigger[2].lower()}.{note}".replace("\n", " ")


def _object(part: _Part, db: apsw.Connection) -> Iterator[str]:
    """One table or view."""
    match = _CREATE.match(part.sql)
    assert match is not None
    name = match[2]
    yield from (f"### {name}", "", part.comment, "")
    if match[1] == "VIEW":
        columns = db.execute(f"SELECT name FROM pragma_table_xinfo('{name}')").fetchall()
        yield from ("View of " + ", ".join(f"`{column}`" for (column,) in columns) + ".", "")
    elif part.sql.startswith("CREATE VIRTUAL"):
        options = dict(re.findall(r"(\w+) = '([^']*)'", part.sql))
        columns = db.execute(f"SELECT name FROM pragma_table_xinfo('{name}') WHERE hidden = 0").fetchall()
        yield "FTS5 over " + ", ".join(f"`{column}`" for (column,) in columns)
        yield f"of `{options['content']}` by `{options['content_rowid']}`; tokenizer `{options['tokenize']}`."
        yield ""
    else:
        yield from ("| column | type | null | default | notes |", "|---|---|---|---|---|")
        yield from _columns(db, name, part.sql)
        yield ""
        yield from _keys(part.sql, name, db)
        yield from _attached(name)
        yield ""


def _totals(db: apsw.Connection) -> Iterator[str]:
    rows = _rows(
        db,
        """SELECT t.type, t.name LIKE '\\_%' ESCAPE '\\', (SELECT count(*) FROM pragma_table_xinfo(t.name)),
                  (SELECT count(DISTINCT id) FROM pragma_foreign_key_list(t.name)),
                  (SELECT count(*) FROM sqlite_schema AS i
                    WHERE i.tbl_name = t.name AND i.type = 'index' AND i.sql IS NOT NULL),
                  (SELECT count(*) FROM sqlite_schema AS i WHERE i.tbl_name = t.name AND i.type = 'trigger')
             FROM sqlite_schema AS t
            WHERE t.type = 'table' AND t.sql LIKE 'CREATE TABLE%' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
              AND t.name NOT LIKE '\\_fts\\_%' ESCAPE '\\'""",
    )
    yield from (
        "| | tables | columns | named indexes | triggers | foreign keys |",
        "|---|---|---|---|---|---|",
    )
    for title, support in (("model", 0), ("support", 1)):
        chosen = [row for row in rows if row[1] == support]
        sums = [sum(row[column] for row in chosen) for column in (2, 4, 5, 3)]
        yield f"| {title} | {len(chosen)} | " + " | ".join(str(total) for total in sums) + " |"
    full_text = sum(1 for sql in statements() if sql.startswith("CREATE VIRTUAL"))
    views = sum(1 for sql in statements() if sql.startswith("CREATE VIEW"))
    yield from ("", f"Beside them {full_text} full-text tables and {views} views.")


def markdown() -> str:
    """The text of `docs/schema.md`: the whole of `schema.sql` as a reference to read."""
    db = apsw.Connection(":memory:")
    create(db)
    shown = [part for part in _SOURCE.parts if (m := _CREATE.match(part.sql)) and m[1] in ("TABLE", "VIEW")]
    out = [
        "# Schema",
        "",
        "Generated from `schema.sql`; change that file, not this one.",
        "",
        _SOURCE.preface,
        "",
    ]
    out += ["## Contents", "", "| section | tables |", "|---|---|"]
    for section in _SOURCE.sections:
        names = [m[2] for part in shown if part.section == section and (m := _CREATE.match(part.sql))]
        out.append(
            f"| [{section}](#domain-{section}) | "
            + ", ".join(f"[`{name}`](#{name})" for name in names)
            + " |"
        )
    out += ["", "[Totals](#totals)", "", "## Pragmas", "", "| pragma | value | purpose |", "|---|---|---|"]
    out += [f"| `{match[1]}` | `{match[2]}` | {match[3]} |" for match in _PRAGMA_LINES]
    for section, words in _SOURCE.sections.items():
        out += ["", f"## Domain {section}", "", words, ""]
        for part in shown:
            if part.section == section:
                out += _object(part, db)
        out.pop()
    out += ["", "## Totals", "", *_totals(db)]
    db.close()
    return "\n".join(out).rstrip() + "\n"
