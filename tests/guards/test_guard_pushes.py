"""Pushes of commits that went past the guard."""

from pathlib import Path

import pytest

from callboard.guards.committing import Commit
from callboard.guards.git import Change
from callboard.guards.reader import Moment, opened
from tests.conftest import Board
from tests.guards.conftest import Crew, Repo, passed, refused


@pytest.fixture
def remote(repo: Repo, tmp_path: Path) -> Path:
    """A remote that has the first commit."""
    path = tmp_path / "remote.git"
    repo.git("init", "--quiet", "--bare", str(path))
    repo.git("remote", "add", "origin", str(path))
    repo.git("push", "--quiet", "origin", "main")
    return path


LATER = {"GIT_COMMITTER_DATE": "2099-01-01T00:00:00Z"}
"""A commit that was surely made after a lease was granted."""

EARLIER = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}


async def test_a_commit_that_went_past_the_guard_is_not_pushed(repo: Repo, crew: Crew, remote: Path) -> None:
    await crew.locks("bob", "a.py")
    repo.write("a.py")
    passed(repo.commit("--no-verify", **LATER))
    told = refused(repo.as_("ann").run("git", "push", "--quiet", "origin", "main"))
    assert "callboard refuses this push" in told
    assert "bob holds a.py" in told
    passed(repo.as_("bob").run("git", "push", "--quiet", "origin", "main"))


async def test_what_was_committed_before_the_lease_is_pushed(repo: Repo, crew: Crew, remote: Path) -> None:
    repo.write("a.py")
    passed(repo.commit(**EARLIER))
    await crew.locks("bob", "a.py")
    passed(repo.as_("ann").run("git", "push", "--quiet", "origin", "main"))


async def test_what_the_remote_has_already_is_not_asked_about(repo: Repo, crew: Crew, remote: Path) -> None:
    await crew.locks("bob", "a.py")
    repo.write("a.py")
    repo.commit("--no-verify", **LATER)
    repo.git("push", "--quiet", "--no-verify", "origin", "main")
    repo.write("b.py")
    repo.commit(**LATER)
    passed(repo.as_("ann").run("git", "push", "--quiet", "origin", "main"))
    passed(repo.as_("ann").run("git", "push", "--quiet", "origin", "main:other"))


async def test_a_new_branch_and_a_deleted_one_are_told_apart(repo: Repo, crew: Crew, remote: Path) -> None:
    await crew.locks("bob", "a.py")
    repo.git("switch", "--quiet", "--create", "topic")
    repo.write("a.py")
    repo.commit("--no-verify", **LATER)
    refused(repo.as_("ann").run("git", "push", "--quiet", "origin", "topic"))
    repo.git("push", "--quiet", "--no-verify", "origin", "topic")
    passed(repo.as_("ann").run("git", "push", "--quiet", "origin", "--delete", "topic"))


async def test_insisting_works_for_a_push_too(repo: Repo, crew: Crew, remote: Path) -> None:
    await crew.locks("bob", "a.py")
    repo.write("a.py")
    repo.commit("--no-verify", **LATER)
    told = refused(repo.run("git", "push", "--quiet", "origin", "main"))
    assert "git push --no-verify" in told
    passed(repo.run("git", "push", "--quiet", "origin", "main", CALLBOARD_GUARD="off"))


async def test_a_file_that_looks_like_a_commit_of_the_listing_is_a_file(
    repo: Repo, crew: Crew, remote: Path
) -> None:
    await crew.locks("bob", "held")
    repo.write("held")
    repo.write("first\nsecond")
    repo.commit("--no-verify", **LATER)
    repo.write("later")
    repo.commit(**LATER)
    assert "bob holds held" in refused(repo.as_("ann").run("git", "push", "--quiet", "origin", "main"))


async def test_each_lease_is_held_against_what_was_committed_since_its_own_beginning(board: Board) -> None:
    for name in ("ann", "bob", "eve"):
        await board.agent(name)
    await board.call("acquire_file_lock", agent_id="bob", file_path="old.py", ttl_seconds=600)
    board.clock.turn(100)
    await board.call("acquire_file_lock", agent_id="eve", file_path="new.py", ttl_seconds=600)
    moment = Moment(board.clock.boot_id, board.clock.boot_ms())
    with opened(board.opened.store.info.path, moment) as reader:
        commit = Commit(reader, board.opened.repository, frozenset({"ann"}))

        def standing(after: int) -> list[str]:
            return commit.before_push(
                lambda since: [Change(path, since + after) for path in ("old.py", "new.py")]
            )

        assert standing(0) == []
        assert standing(50) == ["bob holds old.py (exclusive, fence 1, 500 s left)"]
        assert standing(150)[1:] == ["eve holds new.py (exclusive, fence 2, 600 s left)"]
