"""Search words: what a text is found by, and what a plain text asks a search for.

The one idea: both sides are cut in one way. Identifiers and paths count whole and by their parts, scripts
without spaces by their pairs of characters; what is left to the tokenizer of SQLite FTS5 (`porter unicode61
remove_diacritics 2`) are plain words.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

# A word as the tokenizer unicode61 sees it: letters and digits, with the accents that it strips.
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_COMPOUND = re.compile(r"\w+(?:[./\\:]+\w+)*")
_QUERY = re.compile(r'"([^"]*)"|[^\s"]+')
_MAX_QUERY: Final = 4_096
_MAX_TERMS: Final = 64
_MAX_RANKED: Final = 24
_LONGEST_NAME: Final = 100
# Scripts written without spaces: a run of them is one word to the tokenizer, so it is indexed by its pairs.
_UNSPACED = re.compile(
    r"[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    r"\uff66-\uff9d\U00020000-\U000323af]+"
)
_PART_WEIGHT: Final = 0.5
# Words that English sentences are held together by. A note does not answer a question because both have them.
_FUNCTION_WORDS: Final = """
    a about after again all also am an and any are as at be because been before being but by can could did do
    does doing for from get gets had has have having he her here his how i if in into is it its just like make
    may me might must my no nor not of off on once only or other our out over own s same shall she should so
    some such t than that the their them then there these they this those through to too under until up upon
    us very was we were what when where which while who whom whose why will with within without would you your
"""
_IS_FUNCTION_WORD = frozenset(_FUNCTION_WORDS.split()).__contains__


class Term(NamedTuple):
    """One thing that a search asks for, as expressions of FTS5."""

    exact: str
    open: str | None
    """The same as the beginning of longer words; None where it is not to be one."""
    weight: float
    asked: bool
    """Whether what holds every word of the search must hold this one."""
    last: bool
    """Whether it is the word that may still be in the writing."""


def search_terms(text: str) -> list[Term]:
    """Return what a plain text asks a ranked search for, in its order; no text is an error.

    An identifier or a path counts whole and, half as much, by each of its parts. A quoted phrase stays one.
    Function words (the, how, into) are left out as long as there are others. A run of Chinese, Japanese or
    Korean is looked for by its pairs of characters, as `index_words` keeps it. Only the first 4,096
    characters and 24 terms are used; the list is empty when the text holds no word.
    """
    terms: dict[str, Term] = {}
    spare: list[str] = []
    for found in _QUERY.finditer(text[:_MAX_QUERY]):
        words = [word.lower() for word in _WORD.findall(found[0])]
        if found[1] is not None or not words:
            _note(terms, " ".join(words), open_too=False)
            continue
        if len(words) == 1 and _IS_FUNCTION_WORD(words[0]):
            spare += words
            continue
        parts = [part.lower() for part in _parts(_WORD.findall(found[0]), closing=False)]
        if len(parts) == 1:
            _note(terms, parts[0])
        elif _UNSPACED.search(found[0]):
            _note(terms, " ".join(parts))
        else:
            # As the index splits it too, `readFile` is found as `read_file`; and `readfile` as it is written.
            _note(terms, " ".join(parts), asked=False)
            _note(terms, " ".join(words), asked=False)
            for part in parts:
                _note(terms, part, weight=_PART_WEIGHT)
    for word in () if terms else spare:
        _note(terms, word)
    ranked = list(terms.values())[:_MAX_RANKED]
    if ranked and _ends_open(text):
        ranked[-1] = ranked[-1]._replace(last=ranked[-1].open is not None)
    return ranked


def _note(
    terms: dict[str, Term], words: str, *, weight: float = 1.0, asked: bool = True, open_too: bool = True
) -> None:
    """Add a term that is not there yet."""
    if not words:
        return
    # One letter begins too many words to be worth a search, unless it is of a script where it may be a word.
    openable = open_too and (len(words) > 1 or not words.isascii())
    expression = f'"{words}"'
    terms.setdefault(words, Term(expression, f"{expression} *" if openable else None, weight, asked, False))


def _ends_open(text: str) -> bool:
    """Whether the last word of a search may be unfinished: nothing stands behind it."""
    return len(text) <= _MAX_QUERY and text[-1:].isalnum()


def fts_query(text: str) -> str | None:
    """Return a MATCH expression of SQLite FTS5 that looks for any of the words in a plain text.

    Identifiers and paths are looked for whole, as a phrase, and by their parts; a quoted phrase stays one;
    the last word, unless quoted, may be the beginning of a longer one. What FTS5 takes for operators and
    wildcards are words here or nothing, so no text is an error. None when the text holds no word. Only the
    first 4,096 characters and 64 terms are used. Meant for tables with
    `tokenize = "porter unicode61 remove_diacritics 2"`.
    """
    terms: list[str] = []
    ending: list[str] = []
    for found in _QUERY.finditer(text[:_MAX_QUERY]):
        words = _WORD.findall(found[0])
        if not words:
            continue
        whole = " ".join(words)
        if found[1] is not None:
            terms.append(whole)
            ending = []
        else:
            parts = _parts(words, closing=False)
            terms += [whole, *words, *parts]
            ending = [whole, words[-1], parts[-1]]
    if not terms:
        return None
    # One letter begins too many words to be worth a search, unless it is of a script where it may be a word.
    open_terms = {term.lower() for term in ending if len(term) > 1 or not term.isascii()}
    unique = list(dict.fromkeys(term.lower() for term in terms))[:_MAX_TERMS]
    return " OR ".join(f'"{term}" *' if term in open_terms else f'"{term}"' for term in unique)


def index_words(text: str, *, beside: str = "") -> str:
    """Return the parts of the identifiers and paths in a text, to be indexed beside it; "" without any.

    `parseConfig` gives `parse Config`, and `src/readFile.py` gives `src read File py`; what the tokenizer
    cuts into the same words by itself, as `read_file`, is not said again. Each identifier is taken once, with
    its parts in their order, so that a phrase finds them. Humps are those of ASCII letters. A run of Chinese,
    Japanese or Korean gives its pairs of characters and the last one, so that any stretch of it is a phrase
    and any character begins a word.

    `beside` is text that the index does not have as it is: there, all of more than one part are said.
    """
    return " ".join(dict.fromkeys([*_split(text, seen=True), *_split(beside, seen=False)]))


def _split(text: str, *, seen: bool) -> Iterator[str]:
    """The parts of each identifier in a text, but for those of which the tokenizer sees the same parts."""
    for name in dict.fromkeys(_COMPOUND.findall(text)):
        if _is_plain(name) and (seen or name.isalnum()):
            continue
        words = _WORD.findall(name)
        parts = _parts(words, closing=True)
        if len(parts) > (len(words) if seen else 1):
            yield " ".join(parts)


def _is_plain(name: str) -> bool:
    """Whether a name surely has no humps: most have none, and need not be cut to find that out."""
    return name.isascii() and name[1:] == name[1:].lower()


def texts_in(facts: object) -> Iterator[str]:
    """The texts among facts, however deep they lie, to be indexed: no keys, which are the same everywhere,
    and no times, which nobody asks for in words."""
    if isinstance(facts, str):
        if not _TIME.fullmatch(facts):
            yield facts
    elif isinstance(facts, Mapping):
        for value in facts.values():
            yield from texts_in(value)
    elif isinstance(facts, list | tuple):
        for value in facts:
            yield from texts_in(value)


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def _parts(words: list[str], *, closing: bool) -> list[str]:
    """Split words at their humps; what is too long for a name is a key or a hash, and stays whole.

    With `closing`, the last character of a run without spaces is a part as well.
    """
    parts: list[str] = []
    for word in words:
        if not word.isascii() and _UNSPACED.search(word):
            parts += _pairs(word, closing=closing)
        elif word.islower() or len(word) > _LONGEST_NAME:
            parts.append(word)
        else:
            parts += _HUMP.split(word)
    return parts


def _pairs(word: str, *, closing: bool) -> list[str]:
    """A word with runs of a script without spaces: their pairs of characters, and what is between them."""
    pairs: list[str] = []
    done = 0
    for run in _UNSPACED.finditer(word):
        pairs += [word[done : run.start()]] if run.start() > done else []
        pairs += [word[at : at + 2] for at in range(run.start(), run.end() - 1)]
        if closing or len(run[0]) == 1:
            pairs.append(run[0][-1])
        done = run.end()
    return pairs + ([word[done:]] if word[done:] else [])
