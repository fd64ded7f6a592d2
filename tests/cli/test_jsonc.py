"""JSON with comments is edited by splices: what was there stays, in its order and to the character."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.cli.setup import jsonc, toml

KEYS = ("servers", "callboard")
VALUE = {"command": "callboard", "args": ["serve"], "env": {}}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)
comments = st.sampled_from(["", "", " ", "\n", "\r\n\t", "/* a */", "/* {\n */ ", "// b }\n", " // ,\r\n"])


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value as a person may have written it: with comments, trailing commas and white space anywhere."""

    def text(node: Any) -> str:
        if not isinstance(node, dict | list) or not node:
            body = json.dumps(node, ensure_ascii=draw(st.booleans()))
            return body if not isinstance(node, dict | list) else body[0] + draw(comments) + body[1]
        if isinstance(node, dict):
            parts = [
                f"{json.dumps(key)}{draw(comments)}:{draw(comments)}{text(it)}" for key, it in node.items()
            ]
        else:
            parts = [text(item) for item in node]
        last = "," if draw(st.booleans()) else ""
        commas = [","] * (len(parts) - 1) + [last]
        between = "".join(
            f"{draw(comments)}{part}{draw(comments)}{comma}"
            for part, comma in zip(parts, commas, strict=True)
        )
        opening, closing = "{}" if isinstance(node, dict) else "[]"
        return f"{opening}{between}{draw(comments)}{closing}"

    return draw(comments) + text(value) + draw(comments)


documents = objects.flatmap(lambda value: st.tuples(st.just(value), written(value)))


@given(documents)
def test_what_a_person_has_written_is_read_as_what_it_says(document: tuple[dict[str, Any], str]) -> None:
    value, text = document
    assert jsonc.read(text) == value


@given(documents, st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_a_member_that_is_put_in_is_there_and_everything_else_is_as_it_was(
    document: tuple[dict[str, Any], str], servers: dict[str, Any]
) -> None:
    value, text = document
    text = jsonc.put(text, ("servers",), {key: item for key, item in servers.items() if key != "callboard"})
    before = jsonc.read(text)
    put = jsonc.put(text, KEYS, VALUE)
    assert jsonc.read(put) == {**before, "servers": {**before["servers"], "callboard": VALUE}}
    assert list(jsonc.read(put)) == list(before)
    assert is_within(words(text), words(put)), "something that was there is gone"
    assert jsonc.put(put, KEYS, VALUE) == put
    removed = jsonc.remove(put, KEYS)
    assert jsonc.read(removed) == before
    assert words(removed) == words(text)
    assert {**value, "servers": before["servers"]} == before


@given(documents, st.lists(values, max_size=3))
def test_an_item_that_is_appended_is_the_last_and_can_be_taken_out(
    document: tuple[dict[str, Any], str], items: list[Any]
) -> None:
    text = jsonc.put(document[1], ("items",), items)
    appended = jsonc.append(text, ("items",), VALUE)
    assert jsonc.read(appended)["items"] == [*items, VALUE]
    removed = jsonc.remove_item(appended, ("items",), VALUE)
    assert jsonc.read(removed) == jsonc.read(text)
    assert words(removed) == words(text)


def words(text: str) -> list[str]:
    """A text's tokens and comments, without the white space between them."""
    return re.findall(r'"(?:[^"\\]|\\.)*"|//[^\r\n]*|/\*.*?\*/|[^\s"/]', text, re.DOTALL)


def is_within(few: list[str], many: list[str]) -> bool:
    """Whether all of the few words stand among the many, in their order."""
    rest = iter(many)
    return all(word in rest for word in few)


def test_a_new_member_takes_the_indentation_and_the_comma_of_its_neighbours() -> None:
    text = '{\n\t"servers": {\n\t\t"a": {}, // first\n\t},\n}\n'
    assert jsonc.put(text, KEYS, {"x": 1}) == (
        '{\n\t"servers": {\n\t\t"a": {}, // first\n\t\t"callboard": {\n\t\t\t"x": 1\n\t\t},\n\t},\n}\n'
    )


def test_a_comment_behind_the_last_member_stays_with_it() -> None:
    text = '{\n  "servers": {\n    "a": {} // first\n  }\n}'
    assert '"a": {}, // first\n    "callboard"' in jsonc.put(text, KEYS, VALUE)
    assert jsonc.remove(jsonc.put(text, KEYS, VALUE), KEYS) == text


@pytest.mark.parametrize(
    "text", ['{"a": 1} x', "{,}", "{'a': 1}", '{"a": 01}', '{"a": .5}', '{"a": NaN}', '{"a"}']
)
def test_what_no_client_reads_is_refused(text: str) -> None:
    with pytest.raises(jsonc.Broken):
        jsonc.read(text)


def test_a_table_is_put_behind_all_others_in_a_toml_file_and_replaced_in_its_place() -> None:
    text = "a = 1 # one\n\n[servers.other]\nb = 2\n"
    put = toml.put(text, KEYS, {"c": 3})
    assert put == f"{text}\n[servers.callboard]\nc = 3\n"
    later = f"{put}\n[z]\nd = 4\n"
    assert toml.put(later, KEYS, {"c": 5}) == later.replace("c = 3", "c = 5")
    assert toml.remove(put, KEYS) == text
    assert toml.remove(toml.put("a = 1\n", KEYS, {"c": 3}), KEYS) == "a = 1\n"
