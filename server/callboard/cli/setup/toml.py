"""TOML, edited so that comments, order and foreign tables stay as they are.

tomlkit keeps the text that it has read; what it writes is read again here by the standard library's
parser, and an edit that would do anything but what it should is refused.
"""

import tomllib
from copy import deepcopy
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from callboard.cli.setup.jsonc import Broken, Keys


def read(text: str) -> dict[str, Any]:
    """What the text says. Raises Broken."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Broken(str(error)) from None


def get(text: str, keys: Keys) -> Any:
    """The value under a path of keys; None if there is none. Raises Broken."""
    node: Any = read(text)
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def put(text: str, keys: Keys, value: dict[str, Any]) -> str:
    """The text with the table `value` under a path of two keys; one that is there is replaced in its place.
    Raises Broken."""
    wanted = deepcopy(read(text))
    outer, key = keys
    tables = wanted.setdefault(outer, {})
    if not isinstance(tables, dict):
        raise Broken(f"{outer} is not a table")
    if tables.get(key) == value:
        return text
    replaced = key in tables
    tables[key] = value
    if not replaced:
        # A table of its own at the end: the one place that no other table's text surrounds.
        newline = _newline(text)
        between = "" if not text else newline if text.endswith("\n") else newline * 2
        document = tomlkit.document()
        document.add(outer, tomlkit.table(is_super_table=True).add(key, _table(value)))
        appended = text + between + tomlkit.dumps(document).replace("\n", newline)
        if _says(appended, wanted):
            return appended
    document = _document(text)
    try:
        container: Any = document[outer]
        container[key] = _table(value, inline=isinstance(container, InlineTable))
        written = tomlkit.dumps(document)
    except TOMLKitError as error:
        raise Broken(str(error)) from None
    return _checked(written, wanted)


def remove(text: str, keys: Keys) -> str:
    """The text without the table at the end of a path of two keys; as it is, if it has none. Raises
    Broken."""
    wanted = deepcopy(read(text))
    outer, key = keys
    tables = wanted.get(outer)
    if not isinstance(tables, dict) or key not in tables:
        return text
    del tables[key]
    document = _document(text)
    try:
        container: Any = document[outer]
        del container[key]
        if not tables:
            del wanted[outer], document[outer]
        written = tomlkit.dumps(document)
    except TOMLKitError as error:
        raise Broken(str(error)) from None
    newline = _newline(text)
    if written.endswith(newline * 2) and not text.endswith(newline * 2):
        written = written.removesuffix(newline)  # the empty line that stood ahead of the table
    return _checked(written, wanted)


def _document(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise Broken(str(error)) from None


def _table(value: dict[str, Any], *, inline: bool = False) -> Table | InlineTable:
    table = tomlkit.inline_table() if inline else tomlkit.table()
    for key, item in value.items():
        table.add(key, item)
    return table


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _says(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _checked(text: str, wanted: dict[str, Any]) -> str:
    if not _says(text, wanted):
        raise Broken("it is laid out in a way that cannot be edited safely")
    return text
