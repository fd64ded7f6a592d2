"""Text that comes from agents: checked, cleaned, masked, compared and made searchable.

The one idea: such text is a stranger's data. It is stored as it came, and each function here makes from it
the one form that a reader needs: a model or a terminal, a log, a table of names, a search index. All but
`duration_seconds`, which refuses what is no duration, have an answer for every text, in time proportional
to its length: what could backtrack in a pattern is possessive (`*+`) or bounded.
"""

import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nsmallest
from typing import Final, NamedTuple

from callboard.text.searching import Term, fts_query, index_words, search_terms, texts_in

__all__ = [
    "Term",
    "duration_seconds",
    "fault",
    "fold_name",
    "fts_query",
    "index_words",
    "is_suspect_json",
    "mask_tokens",
    "may_hold_secret",
    "nearest",
    "neutralise",
    "redact",
    "search_terms",
    "texts_in",
]

# --- What a reader may see ---

# Control sequences of ECMA-48, begun with ESC or with one character of C1: a string (OSC, DCS, …) up to its
# terminator, a CSI with its parameters, any other escape. A string without a terminator loses its introducer
# only, lest one escape hide the rest of the text.
_STRING: Final = r"[^\x00-\x1f\x7f-\x9f]*+(?:\x07|\x9c|\x1b\\)"
_PARAMETERS: Final = r"[0-?]*+[ -/]*+[@-~]?"
_ANSI = re.compile(
    rf"[\x1b\x90\x98\x9b\x9d-\x9f](?:(?<=\x1b)(?:[\]PX^_]{_STRING}|\[{_PARAMETERS}|[ -/]*+[0-~]?)"
    rf"|(?<=\x9b){_PARAMETERS}|(?<=[\x90\x98\x9d-\x9f]){_STRING})"
)
_TAGS: Final = r"\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
_BIDI: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Soft hyphen, grapheme joiner, blank Hangul and Khmer letters, zero-width space, word joiner, BOM, others.
_ZERO_WIDTH: Final = r"\xad\u034f\u115f\u1160\u17b4\u17b5\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
_JOINERS: Final = r"\u180e\u200c\u200d"
_SELECTORS: Final = r"\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_SEPARATORS: Final = r"\u2028\u2029"
# The last two code points of each plane, a block set aside in Arabic, and surrogates, which encode nothing.
_NONCHARACTERS: Final = r"\ud800-\udfff\ufdd0-\ufdef" + "".join(
    rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17)
)
# Annotation, shorthand and musical format controls are as invisible as the old control characters.
_CONTROL: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"

_PICTURES: Final = (
    r"\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_HAN: Final = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_MONGOLIAN: Final = r"\u1800-\u180a\u1810-\u18af"
# Scripts whose letters change shape with their neighbours: Arabic and its kin, and the heirs of Brahmi.
_SHAPED: Final = (
    r"\u0600-\u061b\u061d-\u07ff\u0840-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\ufb50-\ufdcf\ufdf0-\ufdff"
    rf"\ufe70-\ufefc\U00011000-\U000118ff\U0001e900-\U0001e95f{_MONGOLIAN}"
)
_VIRAMAS: Final = (
    r"\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u1039\u103a\u17d2"
)

# The first class is coarse above the basic plane, which makes it fast; only its hits are looked at closely.
_SUSPECT = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}{_ZERO_WIDTH}{_JOINERS}{_SEPARATORS}\u180b-\u180d\u180f\ufe00-\ufe0f"
    rf"\ud800-\udfff\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0010ffff]"
    rf"(?<=[{_TAGS}{_BIDI}{_ZERO_WIDTH}{_JOINERS}{_SELECTORS}{_SEPARATORS}{_NONCHARACTERS}{_CONTROL}])"
)
# How JSON writes the control characters among them. A newline and a tab are none.
_ESCAPED = re.compile(r"\\[bfru]")
_SEPARATOR = re.compile(f"[{_SEPARATORS}]")
# One selector behind a character with such variants is spelling (UTS #51, UTS #37); all others are noise.
_STRAY_SELECTOR: Final = (
    rf"[{_SELECTORS}](?:[{_SELECTORS}]+|(?<![#*0-9{_PICTURES}][\ufe0e\ufe0f])"
    rf"(?<![{_HAN}\u1000-\u109f\u2190-\u2bff\u3001\u3002\uff01-\uff1f][\ufe00-\ufe02])"
    rf"(?<![{_HAN}][\U000e0100-\U000e01ef])(?<![{_MONGOLIAN}][\u180b-\u180d\u180f]))"
)
# A joiner is spelling between two pictures, and between or behind letters that it gives their shape.
_STRAY_JOINER: Final = (
    rf"[{_JOINERS}](?!(?<=[{_PICTURES}\ufe0f]\u200d)[{_PICTURES}]|(?<=[{_SHAPED}][{_JOINERS}])[{_SHAPED}]"
    rf"|(?<=[{_VIRAMAS}][\u200c\u200d])|(?<=[{_SHAPED}]\u200d))"
)
# In this order: a mark is judged by neighbours that stay, so what is left now would also be left next time.
# Hardly any text has them, and their classes are large: they are compiled for the first that does.
_TAKEN: Final = (
    ("tags", f"[{_TAGS}]+"),
    ("bidi", f"[{_BIDI}]+"),
    ("noncharacters", f"[{_NONCHARACTERS}]+"),
    ("control", f"[{_CONTROL}]+"),
    ("zero_width", f"[{_ZERO_WIDTH}]+"),
    ("variation_selectors", _STRAY_SELECTOR),
    ("zero_width", _STRAY_JOINER),
)


def neutralise(text: str) -> tuple[str, dict[str, int]]:
    """Return the text without what a reader cannot see or a terminal would obey, and what was taken.

    It is counted by kind: `ansi` in sequences; in characters `tags`, `bidi`, `zero_width`, `control`,
    `variation_selectors`, `noncharacters`, and `separators` (U+2028, U+2029), which become newlines. The
    counts are empty when nothing was taken. CRLF becomes a newline and is not counted. Joiners and variation
    selectors stay where they are part of the spelling of an emoji or of a shaped script; a run of selectors
    never is. Neutralising again changes nothing more.
    """
    if _SUSPECT.search(text) is None:
        return text, {}
    counts: dict[str, int] = {}
    text, counts["ansi"] = _ANSI.subn("", text)
    text, counts["separators"] = _SEPARATOR.subn("\n", text)
    text = text.replace("\r\n", "\n")
    for kind, pattern in _TAKEN:
        length = len(text)
        text = re.sub(pattern, "", text)
        counts[kind] = counts.get(kind, 0) + length - len(text)
    return text, {kind: count for kind, count in counts.items() if count}


def is_suspect_json(told: str) -> bool:
    """Say whether `neutralise` could find anything in a text of this JSON, whose escapes hide what they stand
    for. JSON that was written without escaping what need not be."""
    return _SUSPECT.search(told) is not None or _ESCAPED.search(told) is not None


def fault(text: str) -> str | None:
    """Say in a sentence why the text cannot be stored, None when it can."""
    if "\x00" in text:
        return "Text may not hold the NUL character; send it without."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "Text must be valid Unicode; this one holds half of a surrogate pair."
    return None


# --- Names ---

_LOOK_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l"})
_NAME_SEPARATORS = re.compile(r"[._-]+")
_NEAR: Final = 0.6
_COMPARED: Final = 64
_EXAMINED: Final = 50


def fold_name(name: str) -> str:
    """Return what a reader takes a name for; names with one fold may not stand beside each other.

    Case and compatibility forms are dropped (NFKC), and what looks alike in common typefaces becomes one: `0`
    and `o`; `1`, `l` and `i`, whose capital is an l to the eye; `rn` and `m`; `vv` and `w`; any run of `.`,
    `_` and `-`, which at the end is nothing. No two digits fold together, so numbered agents stay apart. `5`
    and `s` stay apart as well, and so do letters of other scripts: names are ASCII.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    folded = _NAME_SEPARATORS.sub("-", folded.translate(_LOOK_ALIKE)).rstrip("-")
    return folded.replace("rn", "m").replace("vv", "w")


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` candidates that the name may stand for, nearest first, then by alphabet.

    Nearness is the ratio of Ratcliff and Obershelp (difflib) over the first 64 characters, without regard to
    case. It is taken for the 50 candidates that share the most letters with the name, as it is slow.
    """
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(name.casefold()[:_COMPARED])
    bounds: list[tuple[float, str]] = []
    for candidate in set(candidates):
        matcher.set_seq1(candidate.casefold()[:_COMPARED])
        # Both are upper bounds of the ratio, the first of them almost free.
        if matcher.real_quick_ratio() >= _NEAR and (bound := matcher.quick_ratio()) >= _NEAR:
            bounds.append((-bound, candidate))
    ranked: list[tuple[float, str]] = []
    for _, candidate in nsmallest(_EXAMINED, bounds):
        matcher.set_seq1(candidate.casefold()[:_COMPARED])
        if (ratio := matcher.ratio()) >= _NEAR:
            ranked.append((-ratio, candidate))
    return [candidate for _, candidate in nsmallest(limit, ranked)]


# --- Secrets ---


class _Secret(NamedTuple):
    """One kind of secret. What the pattern's group matches, when it has one, stays readable."""

    kind: str
    triggers: tuple[str, ...]
    """Lower-case texts, one of which stands in every match; without any of them the pattern is not tried."""
    text: str
    """The pattern. It is compiled where it is first tried, which in most processes is never."""

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.text)

    def mask(self, found: re.Match[str]) -> str:
        """Return what stands in the secret's place."""
        return f"{found[found.lastindex] if found.lastindex else ''}[redacted:{self.kind}]"


_SECRETS: Final = (
    _Secret(
        "private_key",
        ("private key",),
        (
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,60}-----"
            # Cut off before its end: the lines of the key itself, also where newlines are written as \n.
            r"|(?:(?:\s|\\[nr])*+[A-Za-z0-9+/=]{20,}+)++)"
        ),
    ),
    _Secret("callboard", ("cb1.",), r"\bcb1\.[\w-]{1,100}\.[\w-]{1,100}\.[\w-]{8,}+"),
    _Secret(
        "aws",
        ("akia", "asia", "abia", "acca", "secret_access_key", "secretaccesskey"),
        (
            r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
            r"|((?i:secret_?access_?key)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[\w/+=]{40}(?![\w/+=])"
        ),
    ),
    _Secret(
        "google",
        ("aiza", "ya29.", "gocspx-"),
        r"\b(?:AIza[\w-]{35}(?![\w-])|ya29\.[\w-]{20,}+|GOCSPX-[\w-]{20,}+)",
    ),
    _Secret(
        "azure",
        ("accountkey=", "sharedaccesskey=", "sig=", "q~"),
        (
            r"((?i:AccountKey|SharedAccessKey)=|[?&]sig=)[A-Za-z0-9%+/]{40,}+={0,2}"
            r"|(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~-])"
        ),
    ),
    _Secret(
        "github",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?<![A-Za-z0-9])(?:gh[opusr]_[A-Za-z0-9]{36,}+|github_pat_\w{22,}+)",
    ),
    _Secret(
        "gitlab",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glsoat-"),
        r"\bgl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{20,}+",
    ),
    _Secret(
        "slack",
        ("xox", "xapp-", "hooks.slack.com"),
        (
            r"(?<![\w-])(?:xox[a-z]|xapp)-(?=[A-Za-z_-]*+\d)[\w-]{10,}+"
            r"|(hooks\.slack\.com/(?:services|workflows)/)[\w/-]{20,}+"
        ),
    ),
    _Secret(
        "registry",
        ("npm_", "pypi-", "dckr_pat_", "hf_"),
        r"\b(?:npm_[A-Za-z0-9]{36}\b|pypi-[\w-]{50,}+|dckr_pat_[\w-]{20,}+|hf_[A-Za-z0-9]{30,}+)",
    ),
    _Secret(
        "api_key",
        ("sk-", "sk_", "rk_"),
        (
            # Sixteen letters and digits in a row, and a digit somewhere, tell a key from a hyphenated name.
            r"(?<![\w-])sk-(?=(?:[A-Za-z0-9]{0,15}[_-]){0,9}[A-Za-z0-9]{16})(?=[\w-]{0,60}\d)[\w-]{20,}+"
            r"|\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}+"
        ),
    ),
    _Secret("jwt", ("eyj",), r"(?<![\w-])eyJ[\w-]{8,}+(?:\.[\w-]*+){2,4}+"),
    _Secret(
        "password",
        ("://",),
        r"(://[^\s/:@]{0,200}:)(?!\[redacted:|[$%{<*])[^\s/\"'<>]{1,200}(?=@)",
    ),
    _Secret(
        "authorization",
        ("authorization", "bearer"),
        (
            r"(?i)(\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3})[\w.~+/=-]{8,}+"
            r"|(\bbearer\s{1,3})(?=[A-Za-z_.~+/=-]*+\d)[\w.~+/=-]{16,}+"
        ),
    ),
)

# Searched in lower-case text, as a search without regard to case costs several times as much.
_KEY_WORDS: Final = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credentials|credential"
    r"|(?:api|access|account|auth|client|encryption|private|secret|signing)[_-]?key)"
)
_ASSIGNMENT = re.compile(
    rf"(?:{_KEY_WORDS}[\"']?\s{{0,3}}(?:=>|:=|[:=])\s{{0,3}}|--{_KEY_WORDS}\s{{1,3}})"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`,;&(){}\[\]<>]{8,}+)"
)
_ASSIGNMENT_TRIGGERS: Final = ("passw", "passphrase", "pwd", "secret", "token", "credential", "key")
# What stands where a secret will be: a variable, a template, a path, an attribute, another name for it.
_REFERENCE = re.compile(
    r"[$%*]|[.~]{0,2}/|(?:[a-z_]\w*\.)+[a-z_]\w*$|(?=\w*_)\w*(?:password|passwd|secret|token|key)\d*$"
)
_LONG: Final = 12


_TRIGGERS: Final = tuple({*_ASSIGNMENT_TRIGGERS, *(one for secret in _SECRETS for one in secret.triggers)})


def may_hold_secret(text: str) -> bool:
    """Say whether `redact` has anything to look at closely: in most texts there is nothing. What is said of
    several texts joined, or of their JSON, holds for each of them."""
    return any(map(_lower(text).__contains__, _TRIGGERS))


def mask_tokens(text: str) -> str:
    """Return the text with callboard's own tokens masked: who reads one could act as somebody else."""
    [own] = (secret for secret in _SECRETS if secret.kind == "callboard")
    return own.pattern.sub(own.mask, text) if "cb1." in text else text


def redact(text: str) -> tuple[str, int]:
    """Return the text with secrets masked as `[redacted:<kind>]`, and how many were masked.

    Known are private keys, keys and tokens by their published prefixes, JSON web tokens, passwords in
    addresses, authorization headers, callboard's own tokens, and literal values of names such as `password`.
    A hash, a UUID or a path by itself is no secret, and neither is the name of a variable that holds one.
    """
    lowered = _lower(text)
    masked = 0
    for secret in _SECRETS:
        if any(trigger in lowered for trigger in secret.triggers):
            text, count = secret.pattern.subn(secret.mask, text)
            masked += count
    if any(trigger in lowered for trigger in _ASSIGNMENT_TRIGGERS):
        text, count = _mask_assigned(text)
        masked += count
    return text, masked


def _mask_assigned(text: str) -> tuple[str, int]:
    lowered = _lower(text)
    pieces: list[str] = []
    done = 0
    for found in _ASSIGNMENT.finditer(lowered):
        if _is_written_out(found):
            pieces += text[done : found.start("value")], "[redacted:secret]"
            done = found.end()
    pieces.append(text[done:])
    return "".join(pieces), len(pieces) // 2


def _is_written_out(assignment: re.Match[str]) -> bool:
    """Say whether the value is a secret itself, and not a reference to it or a word about it."""
    quote, value = assignment["quote"], assignment["value"]
    behind = assignment.string[assignment.end() : assignment.end() + 1]
    if behind in ("(", "[") or _REFERENCE.match(value) or not any(map(str.isalpha, value)):
        return False
    closed = quote != "" and quote == behind
    return any(map(str.isdigit, value)) or (closed and len(value) >= _LONG)


def _lower(text: str) -> str:
    """Lower the case and keep every position: U+0130 alone would become two characters."""
    return text.replace("\u0130", "I").lower()


# --- Durations ---

_DURATION = re.compile(r"([0-9]{1,12})([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration_seconds(text: str) -> int:
    """Return a duration in seconds: digits are seconds, or a number with `s`, `m`, `h` or `d` behind it.

    Raises ValueError, in a sentence for the caller, for anything else.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError('A duration is a number of seconds, or a text such as "90s", "5m", "2h" or "1d".')
    return int(found[1]) * _SECONDS[found[2]]
