"""The data model as people read of it: `docs/schema.md`, the whole of `schema.sql` as a reference.

Its one idea: nothing is said of a table here that the file does not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from callboard.schema import MAKES, PRAGMA, Part, create, rows, source, squeezed, statements

__all__ = ["markdown"]

_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (\w+) ON (\w+) \((.*?)\)(?: WHERE (.*))?")
_TRIGGER = re.compile(
    r"CREATE TRIGGER (\w+) ((?:BEFORE|AFTER) (?:INSERT|DELETE|UPDATE(?: OF [\w, ]+?)?)) ON (\w+)\b"
)
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|\s+|[(),]|[^\s'(),-]+|-")

_SOURCE = source()
_PRAGMAS = [match for part in _SOURCE.parts if (match := PRAGMA.fullmatch(part.sql))]


def _prose(comment: str) -> str:
    """Comment lines as Markdown: what is indented is a list."""
    text = "\n".join(line.removeprefix("--").removeprefix(" ") for line in comment.splitlines())
    listed = re.sub(r"^ {2}", "", text, flags=re.MULTILINE)
    return re.sub(r":\n(?=\* )", ":\n\n", listed).strip()


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
    found = rows(db, f"SELECT * FROM pragma_table_xinfo('{table}')")
    keys = sum(1 for row in found if row[5])
    for _, name, kind, required, default, key, hidden in found:
        item = items[name]
        notes = []
        if key:
            notes.append("primary key" if keys == 1 else f"primary key part {key}")
        if "AUTOINCREMENT" in item.sql:
            notes.append("never given out twice")
        if re.search(r"\bUNIQUE\b", item.sql):
            notes.append("unique")
        notes += [part for part in (_checked(squeezed(item.sql)), item.comment) if part]
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
        sql = squeezed(item.sql)
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
        note = f" {_prose(part.comment)}" if part.comment else ""
        if (index := _INDEX.fullmatch(sql)) and index[3] == table:
            where = f" where `{index[5]}`" if index[5] else ""
            yield f"- Index `{index[2]}`{' unique' if index[1] else ''} (`{index[4]}`){where}.{note}".replace(
                "\n", " "
            )
        elif (trigger := _TRIGGER.match(sql)) and trigger[3] == table:
            yield f"- Trigger `{trigger[1]}` {trigger[2].lower()}.{note}".replace("\n", " ")


def _object(part: Part, db: apsw.Connection) -> Iterator[str]:
    """One table or view."""
    match = MAKES.match(part.sql)
    assert match is not None
    name = match[2]
    yield from (f"### {name}", "", _prose(part.comment), "")
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
    found = rows(
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
        chosen = [row for row in found if row[1] == support]
        sums = [sum(row[column] for row in chosen) for column in (2, 4, 5, 3)]
        yield f"| {title} | {len(chosen)} | " + " | ".join(str(total) for total in sums) + " |"
    full_text = sum(1 for sql in statements() if sql.startswith("CREATE VIRTUAL"))
    views = sum(1 for sql in statements() if sql.startswith("CREATE VIEW"))
    yield from ("", f"Beside them {full_text} full-text tables and {views} views.")


def markdown() -> str:
    """The text of `docs/schema.md`: the whole of `schema.sql` as a reference to read."""
    db = apsw.Connection(":memory:")
    create(db)
    shown = [part for part in _SOURCE.parts if (m := MAKES.match(part.sql)) and m[1] in ("TABLE", "VIEW")]
    out = [
        "# Schema",
        "",
        "Generated from `schema.sql`; change that file, not this one.",
        "",
        _prose(_SOURCE.preface),
        "",
    ]
    out += ["## Contents", "", "| section | tables |", "|---|---|"]
    for section in _SOURCE.sections:
        names = [m[2] for part in shown if part.section == section and (m := MAKES.match(part.sql))]
        out.append(
            f"| [{section}](#domain-{section}) | "
            + ", ".join(f"[`{name}`](#{name})" for name in names)
            + " |"
        )
    out += ["", "[Totals](#totals)", "", "## Pragmas", "", "| pragma | value | purpose |", "|---|---|---|"]
    out += [f"| `{match[1]}` | `{match[2]}` | {match[3]} |" for match in _PRAGMAS]
    for section, words in _SOURCE.sections.items():
        out += ["", f"## Domain {section}", "", _prose(words), ""]
        for part in shown:
            if part.section == section:
                out += _object(part, db)
        out.pop()
    out += ["", "## Totals", "", *_totals(db)]
    db.close()
    return "\n".join(out).rstrip() + "\n"
