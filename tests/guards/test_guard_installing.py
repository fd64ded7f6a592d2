"""The guard beside other hooks: they run as before, and come back as they were."""

import os
from pathlib import Path

import pytest

from callboard.guards import installing
from tests.guards.conftest import Crew, Repo, passed, refused


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every entry of a folder with its mode and its content, or where it leads."""
    return {
        str(entry.relative_to(folder)): (
            entry.lstat().st_mode,
            str(entry.readlink()) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else "",
        )
        for entry in sorted(folder.rglob("*"))
    }


def hook(folder: Path, name: str, text: str, mode: int = 0o755) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


SHELL = '#!/bin/sh -e\necho "own hook: $(basename "$0") from $(dirname "$0") with [$*]" >>"$PWD/said"\n'


def test_what_was_there_comes_back_byte_for_byte(repo: Repo) -> None:
    hooks = repo.folder / ".git" / "hooks"
    hook(hooks, "pre-commit", SHELL, 0o775)
    hook(hooks, "commit-msg", SHELL)
    (hooks / "pre-push").symlink_to("commit-msg")
    before = snapshot(hooks)
    installing.install(repo.folder)
    assert installing.is_installed(repo.folder)
    installing.install(repo.folder)
    assert snapshot(hooks) != before
    installing.uninstall(repo.folder)
    assert snapshot(hooks) == before
    assert installing.uninstall(repo.folder) == []


def test_where_there_was_no_hook_there_is_none_afterwards(repo: Repo) -> None:
    hooks = repo.folder / ".git" / "hooks"
    before = snapshot(hooks)
    installing.install(repo.folder)
    installing.uninstall(repo.folder)
    assert snapshot(hooks) == before


async def test_the_hook_that_was_there_runs_after_the_guard_under_its_own_name(
    repo: Repo, crew: Crew
) -> None:
    installing.uninstall(repo.folder)
    hook(repo.folder / ".git" / "hooks", "pre-commit", SHELL)
    installing.install(repo.folder)
    await crew.locks("bob", "held")
    repo.write("held")
    refused(repo.as_("ann").commit())
    assert not (repo.folder / "said").exists()
    passed(repo.as_("bob").commit())
    said = (repo.folder / "said").read_text(encoding="utf-8")
    assert said.startswith("own hook: pre-commit from ") and said.rstrip().endswith("/hooks with []")


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexit 7\n",
        "#!/usr/bin/env bash\nset -e\nfalse\n",
        "exit 7\n",
        "#!/usr/bin/env python3\nraise SystemExit(7)\n",
    ],
    ids=["sh", "bash", "no interpreter", "python"],
)
def test_the_hook_that_was_there_may_refuse_too(repo: Repo, text: str) -> None:
    hook(repo.folder / ".git" / "hooks", "pre-commit", text)
    installing.install(repo.folder)
    repo.write("a.py")
    assert repo.commit().returncode == 1
    assert repo.commits() == 1


def test_a_hook_that_git_did_not_run_is_not_run_now(repo: Repo) -> None:
    hook(repo.folder / ".git" / "hooks", "pre-commit", "#!/bin/sh\nexit 7\n", 0o644)
    installing.install(repo.folder)
    repo.write("a.py")
    assert repo.commit().returncode == 0


def test_both_hear_what_git_tells_a_push(repo: Repo, tmp_path: Path) -> None:
    hook(repo.folder / ".git" / "hooks", "pre-push", '#!/bin/sh\necho "$@" >"$PWD/said"\ncat >>"$PWD/said"\n')
    installing.install(repo.folder)
    repo.git("init", "--quiet", "--bare", str(tmp_path / "remote.git"))
    repo.git("push", "--quiet", str(tmp_path / "remote.git"), "main")
    head = repo.git("rev-parse", "HEAD").strip()
    remote = tmp_path / "remote.git"
    said = f"{remote} {remote}\nrefs/heads/main {head} refs/heads/main {'0' * 40}\n"
    assert (repo.folder / "said").read_text(encoding="utf-8") == said


# Other homes of hooks


HUSKY = '#!/usr/bin/env sh\n. "$(dirname "$0")/h"'
HUSKY_H = """#!/usr/bin/env sh
n=$(basename "$0")
s=$(dirname "$(dirname "$0")")/$n
[ ! -f "$s" ] && exit 0
sh -e "$s" "$@"
c=$?
[ $c != 0 ] && echo "husky - $n script failed (code $c)"
exit $c
"""


async def test_beside_husky_both_run_and_it_comes_back_as_it_was(repo: Repo, crew: Crew) -> None:
    installing.uninstall(repo.folder)
    folder = repo.folder / ".husky" / "_"
    hook(folder, "h", HUSKY_H, 0o644)
    for name in ("pre-commit", "pre-push", "commit-msg"):
        hook(folder, name, HUSKY)
    hook(folder, ".gitignore", "*", 0o644)
    hook(repo.folder / ".husky", "pre-commit", 'echo "npm test" >>said\n', 0o644)
    repo.git("config", "core.hooksPath", ".husky/_")
    repo.write("held")
    before = snapshot(repo.folder / ".husky")
    installing.install(repo.folder)
    await crew.locks("bob", "held")
    refused(repo.as_("ann").commit())
    assert not (repo.folder / "said").exists()
    passed(repo.as_("bob").commit())
    assert (repo.folder / "said").read_text(encoding="utf-8") == "npm test\n"
    installing.uninstall(repo.folder)
    assert snapshot(repo.folder / ".husky") == before
    assert snapshot(repo.folder / ".git" / "hooks").keys().isdisjoint({"pre-commit", "pre-push"})


def test_husky_that_writes_its_hooks_anew_is_guarded_again_and_loses_nothing(repo: Repo) -> None:
    hooks = repo.folder / ".git" / "hooks"
    own = hook(hooks, "pre-commit", SHELL)
    installing.install(repo.folder)
    hook(hooks, "pre-commit", SHELL)
    assert not installing.is_installed(repo.folder)
    installing.install(repo.folder)
    assert installing.is_installed(repo.folder)
    hook(hooks, "pre-commit", SHELL)
    installing.uninstall(repo.folder)
    assert own.read_text(encoding="utf-8") == SHELL
    assert not list(hooks.glob(f"*{installing.KEPT}"))


def test_a_hook_is_never_lost_between_two_that_differ(repo: Repo) -> None:
    hooks = repo.folder / ".git" / "hooks"
    hook(hooks, "pre-commit", SHELL)
    installing.install(repo.folder)
    hook(hooks, "pre-commit", "#!/bin/sh\nexit 0\n")
    before = snapshot(hooks)
    for change in (installing.install, installing.uninstall):
        with pytest.raises(installing.NotPlaced, match="exist, and differ"):
            change(repo.folder)
        assert snapshot(hooks) == before


def test_a_hooks_folder_of_more_than_this_repository_is_left_alone(repo: Repo, tmp_path: Path) -> None:
    shared = tmp_path / "everybodys"
    hook(shared, "pre-commit", SHELL)
    repo.git("config", "core.hooksPath", str(shared))
    before = snapshot(shared)
    with pytest.raises(installing.NotPlaced, match="callboard guard check pre-commit"):
        installing.install(repo.folder)
    assert snapshot(shared) == before


def test_without_a_repository_there_is_nothing_to_guard(tmp_path: Path) -> None:
    with pytest.raises(installing.NotPlaced, match="no git repository"):
        installing.install(tmp_path)


def test_a_file_of_the_repository_never_stands_in_for_a_module_of_the_guard(repo: Repo) -> None:
    installing.install(repo.folder)
    repo.write("json.py", "raise SystemExit('taken over')\n")
    repo.write("callboard/__init__.py", "raise SystemExit('taken over')\n")
    done = repo.commit()
    assert done.returncode == 0
    assert "taken over" not in done.stderr


def test_the_commands_put_it_in_and_take_it_out(repo: Repo) -> None:
    def callboard(*words: str) -> str:
        import sys

        done = repo.run(sys.executable, "-m", "callboard", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert callboard("guard", "install").count("The guard stands in") == 2
    assert os.access(repo.folder / ".git" / "hooks" / "pre-commit", os.X_OK)
    assert callboard("guard", "uninstall").count("is gone.") == 2
    assert callboard("guard", "uninstall") == "There was no guard.\n"
