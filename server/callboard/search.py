"""Search: one ranking for everything that is stored as text.

The one idea: a hit is scored by what the caller may read, and by nothing else. Each kind of thing brings one
`Source`: its full-text index, its rows, and the condition by which a caller may read them. Rights and filters
stand in the SQL, before any limit, and how rare a word is is counted among what passed them, over all kinds
that are searched together. So one scale holds for a note, a message and a task, and another crew's text
changes neither what is found nor its order.

The rule of the order, the same within a kind and across kinds:

1. What holds every word of the search comes before what holds some.
2. Then by score: BM25 (Robertson and Zaragoza, 2009; k1 = 1.2, b = 0.75, the columns weighted), with a word's
   rarity counted as above; times the favour that the kind gives the row; times its age, by a tenth at most.
3. Then the newer one.

A word that nothing holds is taken for the beginning of longer words, and the last word always may be one;
beginnings count half. A word that occurs nowhere at all is no condition of the first rule, so that one
missing word empties nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import log
from typing import NamedTuple

from callboard import text
from callboard.store import Query, Row, Tx, Value
from callboard.text import Term

NEWEST = 1_000
"""Rows of one kind that are looked at for one word: the newest ones that the caller may read."""

SNIPPET_WORDS = 24
BEGINNING = 0.5
"""What a word counts of which only the beginning was asked for."""

OLD_DAYS = 60.0
AGE_WEIGHT = 0.1
"""Age takes up to this share of a score, half of it at `OLD_DAYS`."""

LOOKED_AT = 3
"""For how many times as many as are wanted the age and the favour are looked up."""


class Match(Row):
    """One row that holds a word. `raw` is the BM25 of FTS5, of that word alone."""

    row: int
    raw: float


class Spread(Row):
    """In how many rows of the index a word occurs, and how many there are: what `raw` was computed with."""

    holding: int
    rows: int


class Found(Row):
    """What is told of a hit."""

    id: str
    title: str
    at: str
    by: str
    favour: float


class Snippet(Row):
    """What stands around the words in a hit's text."""

    text: str


AnyQuery = Query[Match] | Query[Spread] | Query[Found] | Query[Snippet]


@dataclass(frozen=True, eq=False)
class Source(Mapping[str, AnyQuery]):
    """One kind of thing that can be searched, as the statements that search it."""

    kind: str
    matches: Query[Match]
    spread: Query[Spread]
    found: Query[Found]
    snippet: Query[Snippet]

    def __getitem__(self, name: str) -> AnyQuery:
        statements: dict[str, AnyQuery] = {
            "matches": self.matches,
            "spread": self.spread,
            "found": self.found,
            "snippet": self.snippet,
        }
        return statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("matches", "spread", "found", "snippet"))

    def __len__(self) -> int:
        return 4


def source(
    kind: str,
    *,
    index: str,
    weights: Sequence[float],
    rows: str,
    readable: str,
    id: str,  # noqa: A002  # the row's own word
    title: str,
    body: int,
    at: str,
    by: str,
    favour: str = "1.0",
) -> Source:
    """Describe a kind of thing that can be searched.

    `index` is its FTS5 table, `weights` are those of the index's columns and `body` is the number of the
    column that snippets are taken from. `rows` is what stands behind `FROM index AS f CROSS JOIN`, with its
    `ON`; `readable` is the condition with the rights and the filters, whose parameters `run` is given. `id`,
    `title`, `at`, `by` (who wrote it) and `favour` (a factor of the score) are expressions over the rows. All
    of it is SQL of the module that calls, none of it a caller's text.
    """
    ranked = ", ".join(str(weight) for weight in weights)
    joined = f"{index} AS f CROSS JOIN {rows}"
    return Source(
        kind,
        matches=Match.query(f"""
            SELECT f.rowid AS row, bm25({index}, {ranked}) AS raw FROM {joined}
             WHERE f.{index} MATCH :match AND {readable}
             ORDER BY f.rowid DESC LIMIT {NEWEST}
        """),
        spread=Spread.query(f"""
            SELECT (SELECT count(*) FROM {index} AS f WHERE f.{index} MATCH :match) AS holding,
                   (SELECT count(*) FROM {index}_docsize) AS rows
        """),
        found=Found.query(f"""
            SELECT CAST({id} AS TEXT) AS id, coalesce({title}, '') AS title, coalesce({at}, '') AS at,
                   coalesce({by}, '') AS by, {favour} AS favour
              FROM {joined} WHERE f.rowid = :row
        """),
        snippet=Snippet.query(f"""
            SELECT snippet({index}, {body}, '', '', '…', {SNIPPET_WORDS}) AS text
              FROM {index} AS f WHERE f.{index} MATCH :match AND f.rowid = :row
        """),
    )


class Hit(NamedTuple):
    """One thing that was found. `score` compares the hits of one search and means nothing beyond it."""

    kind: str
    id: str
    title: str
    snippet: str
    score: float
    at: str
    by: str
    every: bool
    """Whether it holds every word of the search that occurs at all."""


def run(tx: Tx, sources: Sequence[Source], query: str, limit: int, /, **rights: Value) -> list[Hit]:
    """The best hits of a plain text among what the caller may read, best first.

    `rights` are the parameters of the sources' conditions. Any text may be searched for; one without a word
    finds nothing.
    """
    terms = text.search_terms(query)
    counted = [_Term(term) for term in terms]
    for term in counted:
        for place, one in enumerate(sources):
            term.gather(tx, place, one, rights)
        if not term.hits and term.term.open:
            term.beginning = True
            for place, one in enumerate(sources):
                term.gather(tx, place, one, rights)
    asked = [term for term in counted if term.hits]
    if not asked:
        return []
    scores = _scores(asked)
    every = _holding_every(tx, sources, asked, rights)
    order = sorted(scores, key=lambda hit: (hit in every, scores[hit], hit[1]), reverse=True)
    best: list[tuple[bool, float, str, Place, Found]] = []
    for place, row in order[: LOOKED_AT * limit]:
        found = tx.one(sources[place].found, row=row)
        if found is not None:
            score = scores[place, row] * found.favour * _youth(tx.wall, found.at)
            best.append(((place, row) in every, score, found.at, (place, row), found))
    best.sort(key=lambda one: one[:4], reverse=True)
    return [
        Hit(
            kind=sources[place].kind,
            id=found.id,
            title=found.title,
            snippet=_snippet(tx, sources[place], row, asked),
            score=score,
            at=at,
            by=found.by,
            every=whole,
        )
        for whole, score, at, (place, row), found in best[:limit]
    ]


Place = tuple[int, int]
"""A hit while it is being scored: the number of its source, and its row there."""


@dataclass(slots=True)
class _Term:
    """One term of a search, with what holds it and how often: its part of BM25 without the rarity."""

    term: Term
    beginning: bool = False
    hits: dict[Place, float] = field(default_factory=dict)

    @property
    def widest(self) -> str:
        """The expression that finds all its hits."""
        if self.term.open is not None and (self.beginning or self.term.last):
            return self.term.open
        return self.term.exact

    def gather(self, tx: Tx, place: int, source: Source, rights: Mapping[str, Value]) -> None:
        """Look for the term in one source."""
        if not self.beginning:
            self._add(tx, place, source, self.term.exact, 1.0, rights)
        if self.term.open is not None and (self.beginning or self.term.last):
            self._add(tx, place, source, self.term.open, BEGINNING, rights)

    def _add(
        self,
        tx: Tx,
        place: int,
        source: Source,
        match: str,
        weight: float,
        rights: Mapping[str, Value],
    ) -> None:
        matches = tx.all(source.matches, match=match, **rights)
        if not matches:
            return
        rarity = _rarity_of_fts5(tx.one(source.spread, match=match))
        for found in matches:
            hit = (place, found.row)
            self.hits[hit] = max(self.hits.get(hit, 0.0), weight * -found.raw / rarity)


def _rarity_of_fts5(spread: Spread | None) -> float:
    """The factor of FTS5's own bm25() that counts every row of its index, of whatever crew."""
    assert spread is not None  # a SELECT without FROM is one row
    rarity = log((spread.rows - spread.holding + 0.5) / (spread.holding + 0.5))
    return rarity if rarity > 0 else 1e-6


def _scores(terms: Sequence[_Term]) -> dict[Place, float]:
    """The score of every row that holds a term."""
    readable = len({hit for term in terms for hit in term.hits})
    scores: dict[Place, float] = {}
    for term in terms:
        rarity = log(1 + (readable + 0.5) / len(term.hits))
        for hit, share in term.hits.items():
            scores[hit] = scores.get(hit, 0.0) + term.term.weight * rarity * share
    return scores


def _holding_every(
    tx: Tx, sources: Sequence[Source], terms: Sequence[_Term], rights: Mapping[str, Value]
) -> set[Place]:
    """The rows that hold every word that occurs at all."""
    asked = [term for term in terms if term.term.asked]
    if len(asked) == 1:
        return set(asked[0].hits)
    match = " AND ".join(term.widest for term in asked)
    return {
        (place, found.row)
        for place, one in enumerate(sources)
        for found in (tx.all(one.matches, match=match, **rights) if asked else ())
    }


def _snippet(tx: Tx, source: Source, row: int, terms: Sequence[_Term]) -> str:
    """What stands around the words; around beginnings of words only where no word itself is in the text."""
    exact = " OR ".join(term.term.exact for term in terms)
    found = tx.one(source.snippet, match=exact, row=row)
    if found is None:
        either = " OR ".join(term.term.open or term.term.exact for term in terms)
        found = tx.one(source.snippet, match=either, row=row)
    return "" if found is None else found.text


def _youth(now: datetime, at: str) -> float:
    """The factor of a row's age: 1 for a new one, 0.9 for one of old."""
    try:
        days = max(0.0, (now - datetime.fromisoformat(at)).total_seconds() / 86_400)
    except ValueError:
        return 1 - AGE_WEIGHT
    return 1 - AGE_WEIGHT * days / (days + OLD_DAYS)
