"""Whole corpora of hostile text, made by rule from a seed, through all tools that write and all that read.

Each text that an agent can write gets the next of a corpus, on as many boards as it takes; what comes back is
neutral, under its writer's name, and has changed nothing but words. `CALLBOARD_SEED` makes a corpus again.
"""

import itertools
import json
import os
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from callboard import audit
from callboard.board import Config
from callboard.params import Text
from callboard.text import neutralise, redact
from tests.conftest import Board, Boards
from tests.filling import READS, Filled, fill, read
from tests.reliability import corpora
from tests.test_audit import anchors_of, writable
from tests.test_neutral_output import QUOTED, check_neutral, check_quoted, strings

FULL = os.environ.get("CALLBOARD_PROOF") == "full"
SEED = int(os.environ.get("CALLBOARD_SEED") or random.randrange(1_000_000))


LONGEST = 65
"""Characters of a text of a corpus that fit behind its writer's name wherever an agent can write."""


class Corpus:
    """Texts that are given out one by one, and come again when all were."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.given = 0
        self.here: list[str] = []
        """Those that the newest board was given."""

    def __call__(self, text: Text, who: str) -> str:
        self.here.append(self.texts[self.given % len(self.texts)][:LONGEST])
        self.given += 1
        return f"seams thread written-by-{who} {self.here[-1]}"

    async def boards(self, boards: Boards, folder: Path) -> AsyncIterator[Filled]:
        """Filled boards until each text stands on one."""
        for number in itertools.count():
            if self.given >= len(self.texts):
                return
            self.here = []
            async with boards(at(folder, f"board{number}"), durability="normal") as board:
                yield await fill(board, self)


def at(folder: Path, name: str) -> Config:
    (folder / name).mkdir()
    return Config(folder=folder / name, transport="http")


async def shape(board: Board) -> dict[str, int]:
    """How many rows each table has. Full-text search keeps its own as it likes."""
    return {table: len(rows) for table, rows in (await board.contents()).items() if "_fts_" not in table}


async def usual(boards: Boards, folder: Path) -> tuple[dict[str, int], set[int]]:
    """The shape of a board on which everybody wrote ordinary words, and which of these it still has: some are
    written over later."""
    corpus = Corpus([f"word{number}x" for number in range(1_000)])
    async with boards(at(folder, "usual"), durability="normal") as board:
        await fill(board, corpus)
        stored = text_of(await board.contents())
        return await shape(board), {place for place, word in enumerate(corpus.here) if word in stored}


def text_of(contents: dict[str, list[tuple[Any, ...]]]) -> str:
    return "\n".join(str(value) for rows in contents.values() for row in rows for value in row)


async def test_a_thousand_hidden_texts_leave_every_reading_tool_neutral(
    boards: Boards, tmp_path: Path
) -> None:
    """N1, N2"""
    corpus = Corpus(corpora.hidden(1_000, SEED))
    shown = told = 0
    async for filled in corpus.boards(boards, tmp_path):
        for tool in READS:
            for page in await read(filled, tool):
                check_neutral(page, f"seed {SEED}: {tool}")
                shown += sum("written-by-" in text for text in strings(page))
                told += "sanitized" in page
    print(f"seed {SEED}: {corpus.given} hidden texts written, {shown} shown, {told} pages say what was taken")
    assert shown >= len(corpus.texts) and told > 50


async def test_five_hundred_statements_in_the_texts_of_every_writing_tool_are_text(
    boards: Boards, tmp_path: Path
) -> None:
    """ID7: no row more or less than with ordinary words, the same schema, and each text as it was written."""
    corpus = Corpus(corpora.sql(500, SEED))
    ordinary, kept = await usual(boards, tmp_path)
    assert len(kept) > 80
    schemas = set()
    back = 0
    async for filled in corpus.boards(boards, tmp_path):
        assert filled.unwritten() == set()
        schemas.add(str(await filled.board.rows("SELECT type, name, sql FROM sqlite_schema ORDER BY name")))
        assert await shape(filled.board) == ordinary, f"seed {SEED}"
        stored = text_of(await filled.board.contents())
        answers = [text for tool in READS for page in await read(filled, tool) for text in strings(page)]
        shown = "\n".join(answers)
        for place, text in enumerate(corpus.here):
            written = json.dumps(text, ensure_ascii=False)[1:-1]
            assert place not in kept or text in stored or written in stored, (
                f"seed {SEED}: {text!r} is not stored as it was sent"
            )
            back += neutralise(text)[0] in shown
    assert len(schemas) == 1
    print(f"seed {SEED}: {corpus.given} texts of SQL, each stored as text, {back} shown")
    assert back > 0.5 * corpus.given


async def test_two_hundred_texts_that_give_orders_are_quoted_and_obeyed_by_nobody(
    boards: Boards, tmp_path: Path
) -> None:
    """N3, N4: each stands in its fence, under its writer; no row is more, less or another's for it."""
    corpus = Corpus(corpora.orders(200, SEED))
    ordinary, _ = await usual(boards, tmp_path)
    quoted = 0
    async for filled in corpus.boards(boards, tmp_path):
        assert await shape(filled.board) == ordinary, f"seed {SEED}"
        assert await filled.board.rows("SELECT count(*) FROM decisions WHERE auto_approved = 1") == [(0,)]
        for tool in sorted(QUOTED):
            for page in await read(filled, tool):
                fence = re.compile(rf"<{page.get('mark')}>\n(.*)\n</{page.get('mark')}>", re.DOTALL)
                check_quoted(page, page, fence, tool)
                quoted += sum("written-by-" in text for text in strings(page))
    print(f"seed {SEED}: {corpus.given} texts with orders, {quoted} quoted")
    assert quoted > 50


async def test_two_hundred_secrets_are_masked_and_five_hundred_texts_without_one_stay(board: Board) -> None:
    """P1: alone, in a sentence, and in the ledger of the store."""
    ann = await board.agent("ann")
    hidden = corpora.secrets(200, SEED)
    for secret in hidden:
        for text in (secret, f"see {secret} now", f'"{secret}",', f"x={secret}"):
            clean, count = redact(text)
            assert count == 1 and secret.splitlines()[-1] not in clean, f"seed {SEED}: {text!r} is {clean!r}"
        await ann.log_activity(action_type="note", summary=f"found {secret.splitlines()[0]} here")
    for text in corpora.harmless(500, SEED):
        assert redact(text) == (text, 0), f"seed {SEED}"
    told = str(await board.rows("SELECT summary, details FROM activity_log"))
    left = [secret for secret in hidden if "PRIVATE" not in secret and secret in told]
    assert left == [], f"seed {SEED}"


# The ledger

ENTRIES = 100


async def test_a_change_of_any_byte_of_the_ledger_is_found_with_its_place(
    board: Board, tmp_path: Path
) -> None:
    """H4: and so are insertions, deletions, exchanges, cut tails and older copies at each of 100 entries.
    At the full size every byte of all of them is changed."""
    ann = await board.agent("ann")
    while (last := (await board.rows("SELECT max(id) FROM activity_log"))[0][0]) < ENTRIES:
        await ann.log_activity(action_type="note", summary=f"step {last}", details={"of": "é"})
    path = writable(board, tmp_path / "ledger.db")
    anchors = anchors_of(path, 30, ENTRIES)
    every = range(1, ENTRIES + 1)
    tampered = set(every if FULL else [1, ENTRIES, *random.Random(SEED).sample(every, 20)])
    tried = 0
    with closing(apsw.Connection(str(path))) as db:

        def found(statement: str, *values: Any) -> int | None:
            """Where the audit says that the ledger is wrong after a change, which is taken back."""
            nonlocal tried
            tried += 1
            db.execute("SAVEPOINT tampering")
            for each in statement.split(";"):
                db.execute(each, values if "?" in each else ())
            verdict = audit.verify(db, anchors)
            db.execute("ROLLBACK TO tampering; RELEASE tampering")
            return verdict.first_bad

        db.execute("PRAGMA ignore_check_constraints = ON")
        assert audit.verify(db, anchors).sound
        for column in (*audit.HASHED[1:], "prev_hash", "entry_hash"):
            rows = db.execute(
                f"SELECT id, typeof({column}), CAST({column} AS BLOB) FROM activity_log"
                f" WHERE {column} NOTNULL"
            ).fetchall()
            for seq, kind, value in rows:
                if seq not in tampered:
                    continue
                assert isinstance(value, bytes)
                for place in range(len(value)):
                    other = bytearray(value)
                    other[place] ^= 1 if place % 2 else 0x80
                    change = f"UPDATE activity_log SET {column} = CAST(? AS {kind}) WHERE id = {seq}"
                    assert found(change, bytes(other)) == seq, (column, seq, place)
        for seq in range(1, ENTRIES):
            assert found(f"DELETE FROM activity_log WHERE id = {seq}") == seq
            swap = "UPDATE activity_log SET id = {1} WHERE id = {0}"
            exchange = ";".join(swap.format(*pair) for pair in ((seq, 0), (seq + 1, seq), (0, seq + 1)))
            assert found(exchange) == seq
            push = f"UPDATE activity_log SET id = -id WHERE id >= {seq}"
            back = "UPDATE activity_log SET id = 1 - id WHERE id < 0"
            columns = "agent_id, agent_role, action_type, summary, timestamp, prev_hash, entry_hash"
            copied = f"INSERT INTO activity_log (id, {columns}) SELECT {seq}, {columns}"
            assert found(f"{push};{back};{copied} FROM activity_log WHERE id = {seq + 1}") in (seq, seq + 1)
            cut = f"DELETE FROM activity_log WHERE id > {seq}"
            older = f"{cut};UPDATE sqlite_sequence SET seq = {seq} WHERE name = 'activity_log'"
            assert found(cut) == found(older) == seq + 1
        assert audit.verify(db, anchors).sound
    print(f"{tried} changes of {ENTRIES} entries, each found with its place")
