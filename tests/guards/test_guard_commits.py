"""Commits of what another agent holds, as git itself carries them out."""

import os
from pathlib import Path

from callboard.guards import installing
from tests.guards.conftest import Crew, Repo, passed, refused


async def test_nobody_commits_what_another_agent_holds(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "src/a.py")
    repo.write("src/a.py")
    told = refused(repo.as_("ann").commit())
    assert "bob holds src/a.py (exclusive, fence 1, " in told
    assert "--no-verify" not in told
    passed(repo.as_("bob").commit())
    assert repo.commits() == 2


async def test_what_is_free_or_ones_own_is_committed_in_silence(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "docs")
    await crew.locks("ann", "src/*.py")
    repo.write("src/a.py")
    repo.write("free.txt")
    passed(repo.as_("ann").commit())


async def test_every_held_file_is_named_once(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "src")
    for number in range(30):
        repo.write(f"src/{number:02}.py")
    told = refused(repo.as_("ann").commit())
    assert 'bob holds src/00.py by its lock on "src"' in told
    assert "and 10 more" in told


async def test_both_ends_of_a_rename_count(repo: Repo, crew: Crew) -> None:
    repo.write("old.py")
    repo.as_("ann").commit("--no-verify")
    repo.git("mv", "old.py", "new.py")
    await crew.locks("bob", "old.py")
    assert "bob holds old.py" in refused(repo.as_("ann").commit())
    await crew.call("release_file_lock", "bob", file_path="old.py")
    await crew.locks("bob", "new.py")
    assert "bob holds new.py" in refused(repo.as_("ann").commit())
    await crew.call("release_file_lock", "bob", file_path="new.py")
    passed(repo.as_("ann").commit())


async def test_deleting_a_file_is_a_change_of_it(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "README")
    repo.git("rm", "--quiet", "README")
    assert "bob holds README" in refused(repo.as_("ann").commit())


async def test_only_what_the_commit_takes_in_counts(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "held.py")
    repo.write("held.py")
    repo.write("free.py")
    passed(repo.as_("ann").commit("--only", "free.py"))
    refused(repo.as_("ann").commit("--all"))


async def test_names_that_git_would_quote_are_the_files_they_are(repo: Repo, crew: Crew) -> None:
    name = 'fü "x" [id].py'
    await crew.locks("bob", 'fü "x" ?id?.py')
    repo.write(name)
    assert "bob holds fü" in refused(repo.as_("ann").commit())


async def test_no_name_is_too_strange_to_be_covered_by_the_lock_on_its_folder(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "src")
    for number, name in enumerate((b"[a].py", b"\xff.py", b"a\nb.py", b"\t{x}")):
        (repo.folder / "src").mkdir(exist_ok=True)
        (repo.folder / "src" / os.fsdecode(name)).write_text(str(number), encoding="utf-8")
        repo.git("add", "--all")
        refused(repo.as_("ann").commit())
        passed(repo.as_("bob").commit())


async def test_a_person_is_refused_too_and_told_how_to_insist(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "a.py")
    repo.write("a.py")
    told = refused(repo.commit())
    assert "git commit --no-verify, or CALLBOARD_GUARD=off" in told
    assert "set CALLBOARD_AGENT" in told


async def test_insisting_works_both_ways(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "a.py", "b.py")
    repo.write("a.py")
    passed(repo.commit("--no-verify"))
    repo.write("b.py")
    passed(repo.commit(CALLBOARD_GUARD="off"))


async def test_worktrees_share_guard_and_locks(repo: Repo, crew: Crew, tmp_path: Path) -> None:
    repo.git("worktree", "add", "--quiet", str(tmp_path / "side"), "-b", "side")
    side = Repo(tmp_path / "side", "ann")
    await crew.locks("bob", "src/a.py")
    side.write("src/a.py")
    assert "bob holds src/a.py" in refused(side.commit())
    passed(side.as_("bob").commit())


async def test_a_commit_from_a_folder_below_names_files_from_the_root(repo: Repo, crew: Crew) -> None:
    await crew.locks("bob", "src/a.py")
    repo.write("src/a.py")
    refused(Repo(repo.folder / "src", "ann").commit())


# Stale fences


async def test_whoever_lost_its_lease_to_another_commits_only_after_taking_it_again(
    repo: Repo, crew: Crew
) -> None:
    await crew.call("register_agent", "lea", role="lead")
    await crew.call("register_agent", "eve", role="developer", lead_id="lea")
    await crew.locks("eve", "src")
    repo.write("src/a.py")
    await crew.call("force_release_file_lock", "lea", file_path="src", reason="stuck")
    passed(repo.as_("eve").commit())  # nobody took it: nothing can have been overwritten
    repo.write("src/b.py")
    await crew.locks("bob", "src/b.py")
    await crew.call("release_file_lock", "bob", file_path="src/b.py")
    told = refused(repo.as_("eve").commit())
    assert "src/b.py: eve lost its lock (fence 1) at 20" in told
    assert "and bob was granted it since (fence 3)" in told
    await crew.locks("eve", "src/b.py")
    passed(repo.as_("eve").commit())


async def test_a_lease_that_was_given_back_leaves_no_stale_fence(repo: Repo, crew: Crew) -> None:
    await crew.locks("ann", "a.py")
    repo.write("a.py")
    await crew.call("release_file_lock", "ann", file_path="a.py")
    await crew.locks("bob", "a.py")
    await crew.call("release_file_lock", "bob", file_path="a.py")
    passed(repo.as_("ann").commit())


# Failing open


def test_without_a_store_a_commit_passes_with_a_line_that_says_so(repo: Repo) -> None:
    installing.install(repo.folder)
    repo.write("a.py")
    done = repo.commit()
    assert done.returncode == 0
    assert "there is no store at" in done.stderr
    assert not (repo.folder / ".callboard").exists()


def test_with_a_damaged_store_a_commit_passes(repo: Repo) -> None:
    installing.install(repo.folder)
    (repo.folder / ".callboard").mkdir()
    (repo.folder / ".callboard" / "board.db").write_bytes(b"nothing\n" * 1024)
    repo.write("a.py")
    done = repo.commit()
    assert done.returncode == 0
    assert "not a database; nothing was checked" in done.stderr


def test_where_callboard_is_gone_a_commit_passes(repo: Repo) -> None:
    installing.install(repo.folder)
    repo.write("a.py")
    assert repo.commit(PYTHONPATH="").returncode == 0
    assert repo.commits() == 2
