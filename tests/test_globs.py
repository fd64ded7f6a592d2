"""Patterns: one spelling for each, and exact answers about what two of them share."""

import itertools
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.globs import (
    MAX_BYTES,
    MAX_NAMES,
    MAX_WILDCARDS,
    InvalidPattern,
    ancestors,
    covers,
    is_literal,
    literal_prefix,
    normalise,
    overlaps,
)


def examples(count: int) -> settings:
    """The same examples in every run."""
    return settings(max_examples=count, derandomize=True, database=None, deadline=None)


# The oracle knows nothing of the implementation: names are matched by recursion, paths are tried one by one.

NAMES = tuple(
    name
    for length in range(1, 5)
    for name in map("".join, itertools.product("ab.", repeat=length))
    if name not in (".", "..")
)
PATHS = tuple(path for depth in range(1, 6) for path in itertools.product(("a", "b", "ab"), repeat=depth))


def name_matches(segment: str, name: str) -> bool:
    if not segment:
        return not name
    if segment[0] == "*":
        return any(name_matches(segment[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and segment[0] in ("?", name[0]) and name_matches(segment[1:], name[1:])


def path_is_covered(segments: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not segments:
        return True
    if segments[0] == "**":
        return any(path_is_covered(segments[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and name_matches(segments[0], path[0]) and path_is_covered(segments[1:], path[1:])


@cache
def covered_paths(pattern: str) -> frozenset[tuple[str, ...]]:
    return frozenset(path for path in PATHS if path_is_covered(tuple(pattern.split("/")), path))


# If two of these meet, they meet in a name of four characters or less.
segments = (
    st.text("ab.*?", min_size=1, max_size=3).filter(lambda text: text not in (".", "..")).map(normalise)
)
# If two of these meet, they meet in a path of five names or less, each of them a, b or ab.
patterns = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "?b", "**"]), min_size=1, max_size=3
).map(lambda parts: normalise("/".join(parts)))


@examples(1_000)
@given(segments, segments)
def test_two_segments_overlap_exactly_when_a_name_matches_both(p: str, q: str) -> None:
    shared = any(name_matches(p, name) and name_matches(q, name) for name in NAMES)
    assert overlaps(p, q) == overlaps(q, p) == shared


@examples(1_200)
@given(patterns, patterns)
def test_two_patterns_overlap_exactly_when_both_cover_a_path(p: str, q: str) -> None:
    """L13"""
    assert overlaps(p, q) == overlaps(q, p) == bool(covered_paths(p) & covered_paths(q))


@examples(1_200)
@given(patterns, patterns)
def test_a_pattern_covers_another_only_when_it_covers_all_its_paths(p: str, q: str) -> None:
    contained = covered_paths(q) <= covered_paths(p)
    if covers(p, q):
        assert contained
        assert overlaps(p, q)
    elif is_literal(q):
        assert not contained


@examples(300)
@given(patterns, patterns)
def test_overlapping_patterns_have_prefixes_above_each_other(p: str, q: str) -> None:
    if overlaps(p, q):
        above_p, above_q = ancestors(literal_prefix(p)), ancestors(literal_prefix(q))
        assert literal_prefix(p) in above_q or literal_prefix(q) in above_p


@pytest.mark.parametrize(
    ("p", "q", "meet"),
    [
        ("src/a.py", "src/a.py", True),
        ("src/a.py", "src/b.py", False),
        ("src", "src/a/b", True),
        ("src/a", "src/ab", False),
        ("src/*.py", "src/a*", True),
        ("src/*.py", "src/a.md", False),
        ("src/*.py", "src/x.py/below", True),
        ("src/*.py", "src", True),
        ("src/*.py", "lib", False),
        ("**/x.py", "src/**", True),
        ("**", "any/thing", True),
        ("src/a?.py", "src/*b.py", True),
        ("src/a?.py", "src/*bb.py", False),
        ("src/*/t.py", "src/a/*", True),
        ("src/*/t.py", "src/a/u.py", False),
        ("a/**/x.py", "a/b/**", True),
        ("a/**/x.py", "b/**", False),
        ("a/**", "a", True),
        ("a/*", "a", True),
        ("a/*/c", "a/b", True),
        ("*", "**/b", True),
        ("?", "ab", False),
        ("?", "é", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab", "ba*", True),
        ("*.test.*", "*_spec.*", True),
        ("?", ".*", False),  # they share `.` and nothing else, which is no name
        (".?", "?.", False),
        ("??", ".*", True),
        ("...", "*", True),
    ],
)
def test_overlaps(p: str, q: str, meet: bool) -> None:
    assert overlaps(p, q) is meet
    assert overlaps(q, p) is meet


@pytest.mark.parametrize(
    ("p", "q", "all_of_it"),
    [
        ("src", "src/a/b.py", True),
        ("src", "src", True),
        ("src/a", "src", False),
        ("src/**", "src", True),
        ("src", "src/**", True),
        ("**", "src/*.py", True),
        ("src/*", "src", False),
        ("src/*", "src/*.py", True),
        ("src/*.py", "src/*", False),
        ("src/*.py", "src/x.py/below", True),
        ("**/*.py", "src/api/*.py", True),
        ("**/*.py", "src/api/a.md", False),
        ("**/api/*", "src/**/api/x", True),
        ("a?", "a*", False),
        ("a*", "a?", True),
        ("*?", "?*", True),
        ("*", "**", False),  # the root itself lies above every name
        ("*a?*", "*a*a*", False),  # true in fact: this is where the answer is cautious
    ],
)
def test_covers(p: str, q: str, all_of_it: bool) -> None:
    assert covers(p, q) is all_of_it


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("src/a.py", "src/a.py"),
        ("./src//a.py", "src/a.py"),
        ("src\\api\\a.py", "src/api/a.py"),
        ("src/", "src"),
        ("src/x/../a.py", "src/a.py"),
        ("a/*/b/..", "a/*"),
        (".", "**"),
        ("./", "**"),
        ("a/..", "**"),
        ("**", "**"),
        ("a/**/**", "a/**"),
        ("a/**/**/b", "a/**/b"),
        ("a**b/***c", "a*b/*c"),
        ("a/***", "a/**"),
        (".../..a", ".../..a"),
        (" a b ", " a b "),
        ("~/a", "~/a"),
        ("e\u0301.py", "\xe9.py"),
        ("x" * MAX_BYTES, "x" * MAX_BYTES),
        ("./" * 200 + "a", "a"),
        ("?" * MAX_WILDCARDS, "?" * MAX_WILDCARDS),
    ],
)
def test_a_path_has_one_spelling(written: str, canonical: str) -> None:
    assert normalise(written) == canonical
    assert normalise(canonical) == canonical


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("", "empty"),
        (" \u2003", "empty"),
        ("./ ", "empty"),
        ("/etc/passwd", "absolute"),
        ("\\\\host\\share", "absolute"),
        ("C:\\x", "drive"),
        ("./c:/x", "drive"),
        ("..", "leave"),
        ("a/../../b", "leave"),
        ("*/..", "over a wildcard"),
        ("a/**/..", "over a wildcard"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\x85b", "control"),
        ("\ud800", "surrogate"),
        ("a[bc]", "Brackets"),
        ("a.{py,md}", "Brackets"),
        ("x" * (MAX_BYTES + 1), "bytes"),
        ("\xe9" * (MAX_BYTES // 2 + 1), "bytes"),
        ("./" * 100_000 + "a", "bytes"),
        ("?" * (MAX_WILDCARDS + 1), "wildcards"),
        ("a*" * (MAX_WILDCARDS + 1), "wildcards"),
        ("**/a/" * MAX_WILDCARDS + "*", "wildcards"),
        ("a/" * MAX_NAMES + "b", "names"),
    ],
)
def test_what_is_no_path_is_refused_with_its_rule(written: str, rule: str) -> None:
    """L14"""
    with pytest.raises(InvalidPattern) as refusal:
        normalise(written)
    assert rule in refusal.value.rule
    assert str(refusal.value) == refusal.value.rule


@examples(800)
@given(st.text(st.sampled_from("ab.*?/\\: e\u0301\xe9C"), max_size=14))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    try:
        once = normalise(text)
    except InvalidPattern:
        return
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("pattern", "prefix", "literal"),
    [
        ("src/a.py", "src/a.py", True),
        ("src/*.py", "src", False),
        ("src/a*/b", "src", False),
        ("src/a/?/b", "src/a", False),
        ("src/**", "src", False),
        ("*", "", False),
        ("a*", "", False),
        ("**", "", False),
    ],
)
def test_the_prefix_ends_before_the_first_wildcard(pattern: str, prefix: str, literal: bool) -> None:
    assert literal_prefix(pattern) == prefix
    assert is_literal(pattern) is literal


def test_ancestors_run_from_the_root_to_the_path() -> None:
    assert ancestors("") == [""]
    assert ancestors("a") == ["", "a"]
    assert ancestors("a/bc/d") == ["", "a", "a/bc", "a/bc/d"]


def calls_made(work: Callable[[], object]) -> int:
    """Count the calls of functions, those written in C included."""
    count = 0

    def note(_frame: FrameType, event: str, _what: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ("*a" * MAX_WILDCARDS, "*a" * MAX_WILDCARDS + "b"),
        (("*" + "a" * 60) * MAX_WILDCARDS + "b", ("*" + "a" * 59) * MAX_WILDCARDS + "c"),
        ("a" * 900 + "*b", "*" + "a" * 900 + "c"),
        ("**/a/" * MAX_WILDCARDS + "x", "**/a/" * MAX_WILDCARDS + "y"),
        ("**/" + "a/" * (MAX_NAMES - 2) + "x", "a/" * (MAX_NAMES - 2) + "y"),
        (
            "/".join(["a*" + "a" * 50] * MAX_WILDCARDS) + "/x",
            "/".join(["*" + "a" * 51] * MAX_WILDCARDS) + "/y",
        ),
    ],
)
def test_no_pair_of_patterns_takes_more_than_a_few_steps_for_each_character(p: str, q: str) -> None:
    """W3"""
    p, q = normalise(p), normalise(q)
    bound = 8 * (len(p) + len(q))
    assert calls_made(lambda: overlaps(p, q)) < bound
    assert calls_made(lambda: covers(p, q)) < bound
