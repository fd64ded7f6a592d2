"""JSON with comments and trailing commas, edited as text.

Its one idea: an edit is a handful of splices of the text that a person wrote, never a new rendering of it,
so comments, order, indentation and everything foreign stay as they are, byte for byte.

The grammar is RFC 8259 with what the clients' own parsers allow on top: `//` and `/* */` comments, and a
comma behind the last member. Home-made, since the libraries that edit such text in place are native code of
few months' standing, and those in Python only read it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any
Keys = tuple[str, ...]

_TRIVIA = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_REST_OF_LINE = re.compile(r"(?:[ \t]+|/\*[^\r\n]*?\*/|//[^\r\n]*)*(?=\r?\n)")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_LINE_HEAD = re.compile(r"(\r?\n|\A)([ \t]*)\Z")

MAX_DEPTH = 200
"""Deeper nesting is taken for a broken file; no client's configuration comes near it."""


class Broken(ValueError):
    """A file cannot be edited as it is; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Child:
    """A member of an object or an item of an array, as it stands in the text."""

    start: int
    """Where it begins; of a member, where its key does."""
    key: str | None
    node: "Node"
    comma: int | None
    """Where the comma behind it stands."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value, and the span of text that says it."""

    start: int
    end: int
    value: Json
    children: tuple[Child, ...] = ()

    def child(self, key: str) -> Child | None:
        """The member with this key. Raises Broken when there are several: clients differ in which counts."""
        found = [child for child in self.children if child.key == key]
        if len(found) > 1:
            raise Broken(f'"{key}" stands there {len(found)} times')
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class _Splice:
    start: int
    end: int
    text: str


def read(text: str) -> Json:
    """The value that the text says; None if it says none at all. Raises Broken."""
    root = _parse(text)
    return None if root is None else root.value


def put(text: str, keys: Keys, value: Json) -> str:
    """The text with `value` under a path of keys; objects on the way are made. A value that is there already
    is replaced in its place. Raises Broken."""
    root = _parse(text)
    if root is None:
        return _begun(text, _nested(keys, value))
    node = root
    for depth, key in enumerate(keys):
        _expect(node, dict, keys[:depth])
        child = node.child(key)
        if child is None:
            return _with_child(text, root, node, key, _nested(keys[depth + 1 :], value))
        node = child.node
    if node.value == value:
        return text
    rendered = _rendered(value, _unit(text, root), _line_indent(text, node.start), _newline(text))
    return _spliced(text, [_Splice(node.start, node.end, rendered)])


def append(text: str, keys: Keys, value: Json) -> str:
    """The text with `value` as the last item of the array under a path of keys, which is made if it is not
    there. Raises Broken."""
    root = _parse(text)
    found = _at(root, keys) if root is not None else None
    if root is None or found is None:
        return put(text, keys, [value])
    _expect(found.node, list, keys)
    return _with_child(text, root, found.node, None, value)


def get(text: str, keys: Keys) -> Json:
    """The value under a path of keys; None if there is none. Raises Broken."""
    root = _parse(text)
    found = _at(root, keys) if root is not None else None
    return found.node.value if found is not None else None


def remove(text: str, keys: Keys) -> str:
    """The text without the member at the end of a path of keys; as it is, if it has none. Raises Broken."""
    root = _parse(text)
    parent = _parent(root, keys)
    child = parent.child(keys[-1]) if parent is not None else None
    return text if parent is None or child is None else _without(text, parent, child)


def remove_item(text: str, keys: Keys, value: Json) -> str:
    """The text without the last item of an array that equals `value`; as it is, if none does. Raises
    Broken."""
    root = _parse(text)
    found = _at(root, keys) if root is not None else None
    if found is None:
        return text
    for child in reversed(found.node.children):
        if child.key is None and child.node.value == value:
            return _without(text, found.node, child)
    return text


# --- reading ------------------------------------------------------------------------------------------------


def _parse(text: str) -> Node | None:
    start = _skip(text, 0)
    if start == len(text):
        return None
    root = _value(text, start, 0)
    if _skip(text, root.end) != len(text):
        raise _unexpected(text, _skip(text, root.end))
    return root


def _skip(text: str, at: int) -> int:
    found = _TRIVIA.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise Broken(f"it is nested more than {MAX_DEPTH} deep")
    opening = text[at : at + 1]
    if opening in ("{", "["):
        return _container(text, at, depth, closing="}" if opening == "{" else "]")
    scalar = (_STRING if opening == '"' else _SCALAR).match(text, at)
    if scalar is None:
        raise _unexpected(text, at)
    try:
        return Node(at, scalar.end(), json.loads(scalar[0]))
    except ValueError:  # an escape that is none
        raise _unexpected(text, at) from None


def _container(text: str, start: int, depth: int, *, closing: str) -> Node:
    children: list[Child] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != closing:
        if children and children[-1].comma is None:
            raise _unexpected(text, at)
        begun, key = at, None
        if closing == "}":
            name = _STRING.match(text, at)
            colon = _skip(text, name.end()) if name else at
            if name is None or text[colon : colon + 1] != ":":
                raise _unexpected(text, colon)
            key, at = json.loads(name[0]), _skip(text, colon + 1)
        node = _value(text, at, depth + 1)
        behind = _skip(text, node.end)
        comma = behind if text[behind : behind + 1] == "," else None
        children.append(Child(begun, key, node, comma))
        at = behind if comma is None else _skip(text, comma + 1)
    value: Json = (
        {child.key: child.node.value for child in children}
        if closing == "}"
        else [child.node.value for child in children]
    )
    return Node(start, at + 1, value, tuple(children))


def _unexpected(text: str, at: int) -> Broken:
    line = text.count("\n", 0, at) + 1
    if at >= len(text):
        return Broken(f"it ends too early, in line {line}")
    return Broken(f"line {line} has {text[at]!r} where it cannot stand")


def _expect(node: Node, kind: type, keys: Keys) -> None:
    if not isinstance(node.value, kind):
        where = ".".join(keys) or "its whole"
        raise Broken(f"{where} is not {'an object' if kind is dict else 'an array'}")


def _at(root: Node, keys: Keys) -> Child | None:
    """What stands at the end of a path of keys. An empty path leads nowhere."""
    parent = _parent(root, keys)
    return parent.child(keys[-1]) if parent is not None else None


def _parent(root: Node | None, keys: Keys) -> Node | None:
    node = root
    for depth, key in enumerate(keys[:-1]):
        if node is None:
            return None
        _expect(node, dict, keys[:depth])
        child = node.child(key)
        node = child.node if child is not None else None
    if node is not None:
        _expect(node, dict, keys[:-1])
    return node


# --- writing ------------------------------------------------------------------------------------------------


def _with_child(text: str, root: Node, parent: Node, key: str | None, value: Json) -> str:
    """The text with one more child at the end of an object or array."""
    newline, unit = _newline(text), _unit(text, root)
    outer = _line_indent(text, parent.start)
    if not parent.children:
        inner = outer + unit
        body = _labelled(key, value, unit, inner, newline)
        # What stands between the brackets, if anything, is comments: they stay ahead of the new child.
        kept = text[parent.start + 1 : parent.end - 1].rstrip(" \t\r\n")
        filled = f"{kept}{newline}{inner}{body}{newline}{outer}"
        return _spliced(text, [_Splice(parent.start + 1, parent.end - 1, filled)])
    last = parent.children[-1]
    head = _LINE_HEAD.search(text, 0, last.start)
    behind = last.node.end if last.comma is None else last.comma + 1
    comma = [_Splice(last.node.end, last.node.end, ",")] if last.comma is None else []
    trailing = "" if last.comma is None else ","
    if head is None:  # the last child shares its line with others, and so does the new one
        body = _labelled(key, value, None, "", newline)
        return _spliced(text, [*comma, _Splice(behind, behind, f" {body}{trailing}")])
    inner = head[2]
    body = _labelled(key, value, unit, inner, newline)
    # A comment at the end of the line belongs to the child before.
    rest = _REST_OF_LINE.match(text, behind, parent.end - 1)
    place = rest.end() if rest else behind
    return _spliced(text, [*comma, _Splice(place, place, f"{newline}{inner}{body}{trailing}")])


def _without(text: str, parent: Node, child: Child) -> str:
    """The text without one child, its comma and its line."""
    place = parent.children.index(child)
    head = _LINE_HEAD.search(text, 0, child.start)
    start = head.start() if head else len(text[: child.start].rstrip(" \t"))
    end = child.node.end if child.comma is None else child.comma + 1
    splices = [_Splice(start, end, "")]
    if child.comma is None and place > 0:
        comma = parent.children[place - 1].comma
        if comma is not None:
            splices.insert(0, _Splice(comma, comma + 1, ""))
    if len(parent.children) == 1:
        inside = text[parent.start + 1 : start] + text[end : parent.end - 1]
        if not inside.strip(" \t\r\n"):
            splices = [_Splice(parent.start + 1, parent.end - 1, "")]
    return _spliced(text, splices)


def _spliced(text: str, splices: Iterable[_Splice]) -> str:
    """The text with each span replaced; the splices stand in order and do not overlap."""
    parts, at = [], 0
    for splice in splices:
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join((*parts, text[at:]))


def _begun(text: str, value: Json) -> str:
    """A text that said nothing yet, but may hold comments, with a value."""
    newline = _newline(text)
    between = "" if not text or text.endswith("\n") else newline
    return f"{text}{between}{_rendered(value, '  ', '', newline)}{newline}"


def _nested(keys: Sequence[str], value: Json) -> Json:
    for key in reversed(keys):
        value = {key: value}
    return value


def _newline(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _unit(text: str, root: Node) -> str:
    """By how much one level is indented in this text."""
    for child in root.children:
        head = _LINE_HEAD.search(text, 0, child.start)
        if head is not None and head[2]:
            return head[2]
    return "  "


def _line_indent(text: str, at: int) -> str:
    """The white space with which the line of a place begins."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _labelled(key: str | None, value: Json, unit: str | None, indent: str, newline: str) -> str:
    rendered = _rendered(value, unit, indent, newline)
    return rendered if key is None else f"{json.dumps(key, ensure_ascii=False)}: {rendered}"


def _rendered(value: Json, unit: str | None, indent: str, newline: str) -> str:
    """A value as people write it: objects a member a line, arrays of plain values in one line. Without a
    unit of indentation, all in one line."""
    nested = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    if unit is None or not value or not (isinstance(value, dict) or nested):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + unit
    if isinstance(value, dict):
        lines = [_labelled(key, item, unit, inner, newline) for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        lines = [_rendered(item, unit, inner, newline) for item in value]
        opening, closing = "[", "]"
    body = f",{newline}{inner}".join(lines)
    return f"{opening}{newline}{inner}{body}{newline}{indent}{closing}"
