"""Text from agents: what a reader gets to see, which names are one name, what is masked, what is found."""

import json
import random
import string
from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.text import (
    duration_seconds,
    fault,
    fold_name,
    fts_query,
    index_words,
    is_suspect_json,
    nearest,
    neutralise,
    redact,
    texts_in,
)


def examples(count: int) -> settings:
    """The same examples in every run."""
    return settings(max_examples=count, derandomize=True, database=None, deadline=None)


# --- What a reader may see ---

PLAIN = [
    "",
    "plain text, with a tab\tand a\nnewline",
    "Gr\xf6\xdfe, \u65e5\u672c\u8a9e, \u0420\u0443\u0441\u0441\u043a\u0438\u0439, \u05e9\u05dc\u05d5\u05dd",
    "e\u0301 and \xe9",
    "\U0001f680 \u2192 \u2713 \u20ac",
    "\u2764\ufe0f and \u2764\ufe0e, 1\ufe0f\u20e3, \xa9\ufe0f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
    "\U0001f3f3\ufe0f\u200d\U0001f308",  # a flag, a selector and a rainbow
    "\U0001f469\U0001f3fd\u200d\U0001f680",  # an astronaut with a skin tone
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, parted inside a word
    "\u0647\u200d.",  # Persian, an abbreviation kept in its joining form
    "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",  # Hindi conjuncts, half and open
    "\u0915\u094d\u200c",
    "\u845b\U000e0100",  # a Han character in one of its forms
    "\u2229\ufe00",  # a mathematical sign with serifs
    "\u182d\u180b",  # a Mongolian letter in one of its forms
]

UNSAFE = [
    ("a\r\nb", "a\nb", {}),
    ("a\x00\x08\x7f\x9cb\rc", "abc", {"control": 5}),
    ("\x1b[31mred\x1b[0m", "red", {"ansi": 2}),
    ("\x9b31mred", "red", {"ansi": 1}),
    ("\x1b[38;5;196mred\x1b[K", "red", {"ansi": 2}),
    ("\x1b]0;title\x07text", "text", {"ansi": 1}),
    ("\x1b]8;;https://x.example\x1b\\link\x1b]8;;\x1b\\", "link", {"ansi": 2}),
    ("\x1bP1$r0m\x1b\\\x1b_apc\x1b\\\x90dcs\x9ctext", "text", {"ansi": 3}),
    ("\x1b]52;c;never ends", "52;c;never ends", {"ansi": 1}),
    ("\x9dnever ends", "never ends", {"control": 1}),
    ("\x1bc\x1b(Btext\x1b", "text", {"ansi": 3}),
    ("a\x1b\x1b[1mb", "ab", {"ansi": 2}),
    ("hi" + "".join(chr(0xE0000 + ord(c)) for c in "obey me"), "hi", {"tags": 7}),
    ("\U000e0001\U000e007f", "", {"tags": 2}),
    ("a\u202eb\u2066c\u2069\u200f\u061c", "abc", {"bidi": 5}),
    ("pass\u200bword\u2060\ufeff\xad", "password", {"zero_width": 4}),
    ("a\u200db\u200cc", "abc", {"zero_width": 2}),
    ("\U0001f468\u200dx", "\U0001f468x", {"zero_width": 1}),
    ("\U0001f468\u200d\u200d\U0001f469", "\U0001f468\U0001f469", {"zero_width": 2}),
    ("\u0645\u200c\u200c\u06cc", "\u0645\u06cc", {"zero_width": 2}),
    ("\u3164\u115f", "", {"zero_width": 2}),
    ("a\ufe0f", "a", {"variation_selectors": 1}),
    ("a\U000e0100", "a", {"variation_selectors": 1}),
    ("\U0001f600\ufe01\ufe02\U000e0110", "\U0001f600", {"variation_selectors": 3}),
    ("\u2764\ufe0f\ufe0f", "\u2764", {"variation_selectors": 2}),
    ("a\u2028b\u2029c", "a\nb\nc", {"separators": 2}),
    ("a\ufffe\uffff\ufdd0\U0001ffff\U0010ffffb", "ab", {"noncharacters": 5}),
    ("a\ud800b", "ab", {"noncharacters": 1}),
    ("\x1b[1m\u202e\U000e0041\u200b", "", {"ansi": 1, "tags": 1, "bidi": 1, "zero_width": 1}),
]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_is_returned_as_it_is(text: str) -> None:
    assert neutralise(text) == (text, {})


@pytest.mark.parametrize(("text", "clean", "taken"), UNSAFE)
def test_what_cannot_be_seen_is_taken_and_counted(text: str, clean: str, taken: dict[str, int]) -> None:
    """N1, N2"""
    assert neutralise(text) == (clean, taken)


hostile = st.text(
    st.sampled_from(
        "a0\n\r\t\x00\x07\x1b[];m\\P\x9b\x9c\x9d\xad\u200b\u200c\u200d\u202e\u2028\ufe00\ufe0f\U000e0041\U000e0100"
        "\U0001f600\u2764\u0645\u06cc\u0915\u094d\u845b\u182d\u180b\u180e\ufffe"
    ),
    max_size=12,
)


@examples(1_500)
@given(hostile)
def test_neutral_text_stays_as_it_is_and_holds_no_control(text: str) -> None:
    clean, taken = neutralise(text)
    assert neutralise(clean) == (clean, {})
    assert bool(taken) == (clean != text.replace("\r\n", "\n"))
    assert not set(clean) & set("\r\x00\x07\x1b\x9b\x9c\x9d\xad\u200b\u202e\u2028\ufffe\U000e0041")


def test_what_is_taken_in_company_is_taken_alone() -> None:
    everything = "a".join(map(chr, [*range(0x20000), *range(0xE0000, 0xE1000), 0x10FFFE, 0x10FFFF]))
    taken = set(everything) - set(neutralise(everything)[0])
    assert len(taken) > 4_000
    assert [mark for mark in taken if mark in neutralise(f"a{mark}b")[0]] == []


@pytest.mark.parametrize(
    ("text", "word"), [("a\x00b", "NUL"), ("a\udc80b", "surrogate"), ("\x00\ud800", "NUL")]
)
def test_text_that_no_store_can_hold_has_a_fault(text: str, word: str) -> None:
    sentence = fault(text)
    assert sentence is not None and word in sentence


@pytest.mark.parametrize("text", ["", "plain", "\x1b[31m\U0001f600\uffff"])
def test_any_other_text_is_without_fault(text: str) -> None:
    assert fault(text) is None


# --- Names ---


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Builder", "builder"),
        ("builder-1", "builder_l"),
        ("builder-1", "builder.I"),
        ("bot0", "botO"),
        ("modern", "modem"),
        ("vvorker", "worker"),
        ("a-b", "a--b"),
        ("\uff41gent", "agent"),
    ],
)
def test_names_that_look_alike_are_one_name(one: str, other: str) -> None:
    """ID6"""
    assert fold_name(one) == fold_name(other)


def test_numbered_agents_stay_apart() -> None:
    assert len({fold_name(f"builder-{number}") for number in range(200)}) == 200


@pytest.mark.parametrize(
    ("one", "other"), [("agent5", "agents"), ("worker1", "worker-1"), ("lead", "leader")]
)
def test_names_that_can_be_told_apart_stay_apart(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


@examples(300)
@given(st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64))
def test_folding_twice_changes_nothing_more(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)


def test_the_nearest_names_come_first() -> None:
    tools = ["create_task", "create_tasks", "claim_task", "send_message", "CREATE_TASK_DAG"]
    assert nearest("create_tsak", tools) == ["create_task", "create_tasks", "CREATE_TASK_DAG"]
    assert nearest("create_tsak", tools, limit=1) == ["create_task"]
    assert nearest("zzz", tools) == []
    assert nearest("", tools) == []


def test_equally_near_names_come_by_alphabet_whatever_their_order() -> None:
    names = ["task-b", "task-a", "task-d", "task-c", "task-a"]
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert nearest("task-x", names) == ["task-a", "task-b", "task-c"]


# --- Secrets. Each is put together here, so that no scanner takes this file for a leak. ---

HEX = "0123456789abcdef" * 4
MIXED = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7" * 8


def pem(kind: str) -> str:
    dashes = "-" * 5
    body = "\n".join(MIXED[at : at + 64] for at in range(0, 192, 64))
    return f"{dashes}BEGIN {kind}{dashes}\n{body}\n{dashes}END {kind}{dashes}"


SECRETS = [
    ("aws", "AKI" + "A" + "ABCDEFGH23456789"),
    ("aws", "ASI" + "A" + "ABCDEFGH23456789"),
    ("google", "AI" + "za" + MIXED[:35]),
    ("google", "ya" + "29." + MIXED[:60]),
    ("google", "GOC" + "SPX-" + MIXED[:28]),
    ("azure", "abc8" + "Q~" + MIXED[:34]),
    ("github", "gh" + "p_" + MIXED[:36]),
    ("github", "gh" + "s_" + MIXED[:36]),
    ("github", "github" + "_pat_" + MIXED[:22] + "_" + MIXED[:59]),
    ("gitlab", "gl" + "pat-" + MIXED[:20]),
    ("slack", "xox" + "b-123456789012-" + MIXED[:24]),
    ("registry", "npm" + "_" + MIXED[:36]),
    ("registry", "py" + "pi-" + MIXED[:80]),
    ("api_key", "s" + "k-" + MIXED[:48]),
    ("api_key", "s" + "k-ant-api03-" + MIXED[:90]),
    ("api_key", "s" + "k-or-v1-" + HEX),
    ("api_key", "s" + "k_live_" + MIXED[:24]),
    ("jwt", "ey" + "J" + MIXED[:20] + ".ey" + "J" + MIXED[:40] + "." + MIXED[:43]),
    ("private_key", pem("PRIVATE KEY")),
    ("private_key", pem("RSA PRIVATE KEY")),
    ("private_key", pem("PGP PRIVATE KEY BLOCK")),
    ("private_key", pem("OPENSSH PRIVATE KEY").replace("\n", "\\n")),
    ("callboard", "cb" + "1.main-3f2a.k7." + MIXED[:43]),
]

# What stays of a text, and the secret that does not.
VALUES = [
    ("postgres://app:{}@db.internal:5432/app", "hunter2"),
    ("redis://:{}@cache:6379/0", "p%40ss"),
    ("https://me:{}@host/repo.git", "w0rd"),
    ("AccountName=x;AccountKey={};EndpointSuffix=core", MIXED[:86] + "=="),
    ("https://x.blob.core/y?sv=1&sig={}&se=2", MIXED[:46] + "%3D"),
    ("aws_secret_access_key = {}", MIXED[:40]),
    ("Authorization: Bearer {}", MIXED[:40]),
    ('"authorization": "Basic {}"', MIXED[:24] + "=="),
    ("curl -H 'X: bearer {}'", MIXED[:32]),
    ("hooks.slack.com/services/{}", "T0/B0/" + MIXED[:24]),
    ("password={}", "hunter2hunter2"),
    ("DB_PASSWORD={}", "s3cr3tValue!"),
    ('password = "{}"', "correct-horse-battery"),
    ("{{'client_secret': '{}'}}", "abcdefgh1"),
    ('"api_key":"{}",', HEX[:32]),
    ("x-api-key: {}", HEX[:32]),
    ("?token={}&page=2", HEX[:32]),
    ("mysql --password {} -u root", "hunter2hunter2"),
    ("\u0130 TOKEN => {}", HEX[:20]),
]

HARMLESS = [
    "",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "sha256:" + HEX,
    "id 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "see src/auth/token.py and /run/secrets/db1, line 12345678",
    "https://example.com:8080/path@v2 and ssh://git@host/repo",
    "postgres://app:$DB_PASSWORD@db/app and redis://:{password}@cache",
    "password: str = Field(min_length=8)",
    "password = get_password_v2(user1)",
    'token = os.environ["TOKEN_2"]',
    "secret = settings.db1.secret",
    "password=user1_password",
    "password_file=/run/secrets/db_pass1",
    "secret: ./config/secret1.yaml",
    "token=${GITHUB_TOKEN_2}",
    "input_tokens: 123456789, output_tokens=987654321",
    "the password is required",
    'label = "Password:", hint="at least 8"',
    "sk-learn-pipelines-with-many-steps, sk-step-2-of-many-in-a-row and task-1234567890-abcdefghijklmnop",
    "disk-abcdefghijklmnopqrst1",
    "a bearer of good news, bearer authentication",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "a file that begins with -----BEGIN PRIVATE KEY----- is refused",
    "xoxo-love, eyJust a name, AKIAlong and cb1.x",
    "key=value, primary_key=12345678, sort key: created_at",
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
def test_a_secret_is_masked_wherever_it_stands(kind: str, secret: str) -> None:
    """P1"""
    for before, after in (("", ""), ("see ", " now"), ("'", "',"), ("\n", "\n"), ("(", ")")):
        assert redact(before + secret + after) == (f"{before}[redacted:{kind}]{after}", 1)


@pytest.mark.parametrize(("frame", "value"), VALUES)
def test_a_value_is_masked_and_its_name_stays(frame: str, value: str) -> None:
    clean, count = redact(frame.format(value))
    before, _, after = frame.format("\0").partition("\0")
    assert count == 1
    assert clean.startswith(before + "[redacted:") and clean.endswith("]" + after)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    """P1"""
    assert redact(text) == (text, 0)


def test_a_private_key_that_was_cut_off_is_masked() -> None:
    clean, count = redact("log: " + pem("PRIVATE KEY")[:150])
    assert (clean, count) == ("log: [redacted:private_key]", 1)


def test_all_secrets_of_a_text_are_masked_and_none_twice() -> None:
    text = " and ".join(
        [secret for _, secret in SECRETS] + [frame.format(value) for frame, value in VALUES] + HARMLESS
    )
    clean, count = redact(text)
    assert count == len(SECRETS) + len(VALUES)
    assert redact(clean) == (clean, 0)


# --- Durations ---


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7_200), ("1d", 86_400), (" 0 ", 0)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-5", "1.5h", "5 m", "5M", "1h30m", "\u0663m", "9" * 5_000, "soon"]
)
def test_what_is_no_duration_is_refused_in_our_words(text: str) -> None:
    with pytest.raises(ValueError, match="A duration is a number of seconds"):
        duration_seconds(text)


# --- Search, against the real index ---

DOCUMENTS = {
    1: "The parser reads config files",
    2: "call parseConfig before HTTPServer starts",
    3: "src/auth/login_form.py is locked by builder-2",
    4: "caf\xe9 na\xefve \u691c\u7d22\u30a8\u30f3\u30b8\u30f3",
    5: "the quick brown fox and the lazy dog",
    6: "the fox was quick and brown",
}


@pytest.fixture(scope="module")
def index() -> Iterator[apsw.Connection]:
    with apsw.Connection(":memory:") as db:
        db.execute(
            "CREATE VIRTUAL TABLE found USING fts5"
            "(text, words, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        for number, text in DOCUMENTS.items():
            db.execute(
                "INSERT INTO found (rowid, text, words) VALUES (?, ?, ?)", (number, text, index_words(text))
            )
        yield db


def search(index: apsw.Connection, text: str) -> list[int]:
    query = fts_query(text)
    if query is None:
        return []
    rows = index.execute("SELECT rowid FROM found WHERE found MATCH ? ORDER BY rank, rowid", (query,))
    return [number for (number,) in rows]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("parsers", [1]),
        ("parse", [1, 2]),
        ("parseConfig", [1, 2]),
        ("parse_config", [1, 2]),
        ("httpserver", [2]),
        ("server", [2]),
        ("src/auth/login_form.py", [3]),
        ("login", [3]),
        ("loginForm", [3]),
        ("builder-2", [3]),
        ("cafe", [4]),
        ("cafe\u0301", [4]),
        ("nai\u0308ve x", [4]),
        ("\u691c\u7d22", [4]),
        ("qui", [5, 6]),
        ("qui zebra", []),
        ("lazy zebra", [5]),
        ('"quick brown fox"', [5]),
        ('"quick brown', [5, 6]),
        ("zebra", []),
        ("l", []),
        ("  ", []),
        ('""', []),
        ("-*^:(){}", []),
    ],
)
def test_a_search_finds(index: apsw.Connection, text: str, numbers: list[int]) -> None:
    assert sorted(search(index, text)) == numbers


def test_the_whole_identifier_ranks_before_its_parts(index: apsw.Connection) -> None:
    assert search(index, "parseConfig") == [2, 1]


@pytest.mark.parametrize(
    "text",
    [
        '"',
        '"" ""',
        "AND OR NOT NEAR",
        "NEAR(a b, 2)",
        "text : fox",
        "{text words}: fox",
        "^fox",
        "fox*",
        "- fox",
        "a + b",
        "'; DROP TABLE found; --",
        "100% _",
        "a\x00b",
        "\ud800",
        "\U0001f600",
        "word " * 50_000,
        "x" * 1_000_000,
        '"' * 9_999,
        " ".join(f"w{number}" for number in range(5_000)),
    ],
)
def test_no_text_is_an_error(index: apsw.Connection, text: str) -> None:
    search(index, text)


def test_whatever_would_be_taken_out_of_a_text_is_suspected_in_its_json() -> None:
    for character in map(chr, (*range(0xD800), *range(0xE000, 0x10FFFF + 1))):
        if neutralise(f"a{character}b")[0] != f"a{character}b":
            told = json.dumps([f"a{character}b"], ensure_ascii=False)
            assert is_suspect_json(told), f"U+{ord(character):04X}"
    assert not is_suspect_json(json.dumps(["plain\n\ttext of \u00e9l\u00e8ves"], ensure_ascii=False))


def test_a_search_looks_for_a_bounded_number_of_terms() -> None:
    query = fts_query(" ".join(f"word{number}" for number in range(5_000)))
    assert query is not None and query.count(" OR ") == 63


@examples(600)
@given(st.text(max_size=30) | st.text(st.sampled_from('a"*-^:(){}+., \x00\u0301\xe9\u691c'), max_size=20))
def test_no_drawn_text_is_an_error(index: apsw.Connection, text: str) -> None:
    search(index, text)
    index_words(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("plain words, and a sentence. Another one", ""),
        ("parseConfig", "parse Config"),
        ("HTTPServer2Go", "HTTP Server2 Go"),
        ("read_file __init__", ""),
        ("src/api/getUser.py", "src api get User py"),
        ("src/api/get_user.py", ""),
        ("src/api/README.md Makefile", ""),
        ("a\\b std::move", ""),
        ("getUser getUser get_user", "get User"),
        ("\u691c\u7d22 a_\u691c\u7d22", "\u691c\u7d22 \u7d22 a \u691c\u7d22 \u7d22"),
        ("v2 sha256", ""),
        ("aB" * 51, ""),
    ],
)
def test_identifiers_are_split_for_the_index_where_the_tokenizer_does_not(text: str, words: str) -> None:
    assert index_words(text) == words


def test_every_identifier_that_the_index_does_not_have_is_split_for_it() -> None:
    names = "read_file a\\b getUser __init__ plain v2"
    assert index_words(names, beside=names) == "get User read file a b"


def test_the_texts_among_facts_are_found_without_their_keys_and_times() -> None:
    facts = {"file_path": "src/a.py", "ends": "2026-01-31T12:00:00.000Z", "fence": 4, "held": [{"by": "ann"}]}
    assert list(texts_in(facts)) == ["src/a.py", "ann"]
