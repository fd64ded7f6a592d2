"""What a hook does when it cannot ask: it lets everything pass, says so in one line, and changes nothing."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from callboard import schema
from callboard.guards.reader import Moment
from tests.hooks.conftest import Said, ask, claude, edit
from tests.starting import prepare

MOMENT = Moment("boot-1", 2_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository without a store."""
    folder = tmp_path / "repo"
    (folder / ".git").mkdir(parents=True)
    return folder


@pytest.fixture
def store(folder: Path) -> Path:
    """Its store, in which bob holds everything."""
    path = folder / ".callboard" / "board.db"
    prepare(path)
    return path


async def before_edit(folder: Path, moment: Moment = MOMENT) -> Said:
    said = await ask(
        "claude-code", "pre-tool-use", edit(folder, "a.py"), folder=folder, moment=moment, agent="ann"
    )
    assert (said.code, said.answer) == (0, None)
    return said


async def lets_pass(folder: Path, reason: str, moment: Moment = MOMENT) -> None:
    [line] = (await before_edit(folder, moment)).errors
    assert line.startswith("callboard hook: ")
    assert reason in line
    assert line.endswith("; nothing was checked")


async def test_without_a_store_an_edit_passes_and_none_is_made(folder: Path) -> None:
    await lets_pass(folder, "there is no store at")
    assert [entry.name for entry in folder.iterdir()] == [".git"]


@pytest.mark.parametrize("event", ["session-start", "user-prompt-submit", "post-tool-use", "stop"])
async def test_without_a_store_no_hook_makes_one(folder: Path, event: str) -> None:
    payload = edit(folder, "a.py") if event == "post-tool-use" else claude("SessionStart", folder)
    said = await ask("claude-code", event, payload, folder=folder, moment=MOMENT, agent="ann")
    assert (said.code, said.answer, len(said.errors)) == (0, None, 1)
    assert [entry.name for entry in folder.iterdir()] == [".git"]


async def test_a_sound_store_is_read_in_silence_and_stays_as_it_was(folder: Path, store: Path) -> None:
    before = store.read_bytes()
    assert (await before_edit(folder)).errors == []
    assert store.read_bytes() == before


def zeroed(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))


def no_database(path: Path) -> None:
    path.write_text("This is a note.\n" * 400, encoding="ascii")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.replace(path.with_name("elsewhere.db"))
    path.symlink_to(path.with_name("elsewhere.db"))


def of_another_program(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("application_id", 7)


def newer(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", schema.VERSION + 1)


def older(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", 0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (zeroed, "damaged"),
        (no_database, "not a database"),
        (cut, ""),
        (emptied, "is not a store of callboard"),
        (a_folder, "cannot be read: "),
        (a_link, "cannot be read: "),
        (of_another_program, "is not a store of callboard"),
        (newer, "a newer callboard wrote it"),
        (older, "start a server, which brings it up to date"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_store_that_cannot_be_read_lets_an_edit_pass(
    folder: Path, store: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(store)
    before = store.read_bytes() if store.is_file() else b""
    await lets_pass(folder, reason)
    assert (store.read_bytes() if store.is_file() else b"") == before


async def test_a_store_that_somebody_keeps_locked_lets_an_edit_pass(folder: Path, store: Path) -> None:
    with closing(apsw.Connection(str(store))) as hog:
        hog.pragma("locking_mode", "exclusive")
        hog.execute("BEGIN EXCLUSIVE; UPDATE settings SET version = version + 1; COMMIT")
        await lets_pass(folder, "the write lock is held")


async def test_a_writer_keeps_no_hook_waiting(folder: Path, store: Path) -> None:
    with closing(apsw.Connection(str(store))) as writer:
        writer.execute("BEGIN IMMEDIATE; UPDATE settings SET version = version + 1")
        assert (await before_edit(folder)).errors == []


async def test_leases_of_before_a_reboot_stand_against_nothing(folder: Path, store: Path) -> None:
    await lets_pass(folder, "no server has run", Moment("boot-2", 2_000))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', '{"tool_name": 7}', '{"tool_name": "Edit"}'])
async def test_whatever_a_client_sends_nothing_breaks(folder: Path, store: Path, text: str) -> None:
    said = await ask("claude-code", "pre-tool-use", text, folder=folder, moment=MOMENT, agent="ann")
    assert (said.code, said.answer) == (0, None)
    assert len(said.errors) <= 1


@pytest.mark.parametrize(("client", "event"), [("emacs", "stop"), ("claude-code", "lunch")])
async def test_an_unknown_client_or_event_is_named_and_passes(folder: Path, client: str, event: str) -> None:
    said = await ask(client, event, "{}", folder=folder, moment=MOMENT)
    assert (said.code, said.answer) == (0, None)
    [line] = said.errors
    assert f"no hook {event} for {client}" in line
