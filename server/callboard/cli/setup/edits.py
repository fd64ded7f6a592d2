"""What is put into a file of a client, and how it is taken out again.

An edit knows nothing of files: it is a path of keys and a value, or a section. Bytes in, bytes out, and
whatever else the bytes say is left alone, down to the byte order mark and the ends of the lines.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from callboard.cli.setup import jsonc, section, toml
from callboard.cli.setup.jsonc import Broken, Json, Keys

Format = Literal["json", "toml", "markdown"]

_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an object, or a table."""

    keys: Keys
    value: Json
    keeps: bool = False
    """Whether a value that is there already stays, whatever it is."""

    @property
    def name(self) -> tuple[str, ...]:
        """What tells this edit from the others of its file."""
        return ("entry", *self.keys)


@dataclass(frozen=True, slots=True)
class Item:
    """An item of an array that others may have items in too."""

    keys: Keys
    label: str
    value: dict[str, Json]

    @property
    def name(self) -> tuple[str, ...]:
        return ("item", *self.keys, self.label)


@dataclass(frozen=True, slots=True)
class Section:
    """The marked section of a text."""

    text: str

    @property
    def name(self) -> tuple[str, ...]:
        return ("section",)


Edit = Entry | Item | Section


def apply(data: bytes, form: Format, edits: Sequence[Edit]) -> bytes:
    """The file's bytes with the edits in them; as they are, if all of them are there. Raises Broken."""
    bom, text = decode(data)
    for edit in edits:
        text = _put(text, form, edit)
    return (bom + text).encode()


def undo(data: bytes, form: Format, edits: Sequence[Edit], original: bytes | None) -> bytes:
    """The bytes of a file that has been changed by others since, without the edits: what they replaced is
    there again, and what had to be made to hold them is gone if nothing else has come into it. Raises
    Broken."""
    bom, text = decode(data)
    before = decode(original)[1] if original is not None else ""
    for edit in reversed(edits):
        text = _take(text, before, form, edit)
    return (bom + text).encode()


def holds(data: bytes, form: Format, edit: Edit) -> bool:
    """Whether an edit is in a file as it was made. Raises Broken."""
    text = decode(data)[1]
    if isinstance(edit, Section):
        return section.get(text) == edit.text
    found = toml.get(text, edit.keys) if form == "toml" else jsonc.get(text, edit.keys)
    return bool(edit.value in (found or []) if isinstance(edit, Item) else found == edit.value)


def says_nothing(data: bytes, form: Format) -> bool:
    """Whether a file is as good as none: blank, or an empty object."""
    text = decode(data)[1]
    return not text.strip() or (form == "json" and text.strip() == "{}")


def decode(data: bytes) -> tuple[str, str]:
    """A byte order mark, if there is one, and the text. Raises Broken."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Broken("it is not UTF-8 text") from None
    return (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)


def as_data(edit: Edit) -> dict[str, Json]:
    """An edit as JSON."""
    return {"kind": edit.name[0]} | asdict(edit)


def from_data(data: dict[str, Any]) -> Edit:
    """An edit from its JSON."""
    if data["kind"] == "section":
        return Section(data["text"])
    keys = tuple(data["keys"])
    if data["kind"] == "item":
        return Item(keys, data["label"], data["value"])
    return Entry(keys, data["value"], data["keeps"])


def _put(text: str, form: Format, edit: Edit) -> str:
    if isinstance(edit, Section):
        return section.put(text, edit.text)
    if isinstance(edit, Item):
        there = edit.value in (jsonc.get(text, edit.keys) or [])
        return text if there else jsonc.append(text, edit.keys, edit.value)
    if edit.keeps and jsonc.get(text, edit.keys) is not None:
        return text
    return toml.put(text, edit.keys, edit.value) if form == "toml" else jsonc.put(text, edit.keys, edit.value)


def _take(text: str, before: str, form: Format, edit: Edit) -> str:
    if isinstance(edit, Section):
        return section.remove(text)
    if isinstance(edit, Item):
        if edit.value not in (jsonc.get(before, edit.keys) or []):
            text = jsonc.remove_item(text, edit.keys, edit.value)
        return _pruned(text, before, edit.keys)
    if form == "toml":
        replaced = toml.get(before, edit.keys)
        return toml.remove(text, edit.keys) if replaced is None else toml.put(text, edit.keys, replaced)
    replaced = jsonc.get(before, edit.keys)
    if replaced is not None:
        return jsonc.put(text, edit.keys, replaced)
    return _pruned(jsonc.remove(text, edit.keys), before, edit.keys[:-1])


def _pruned(text: str, before: str, keys: Keys) -> str:
    """The text without the objects and arrays along a path that were not there before and are empty."""
    while keys and jsonc.get(before, keys) is None and jsonc.get(text, keys) in ({}, []):
        text, keys = jsonc.remove(text, keys), keys[:-1]
    return text
