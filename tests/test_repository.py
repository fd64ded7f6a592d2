"""The repository the server stands in, tried on real ones that git makes, and the names of paths in it."""

import os
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard.globs import InvalidPattern
from callboard.repository import Repository


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder`, with none of the settings of the machine or the person."""
    identity = {
        f"GIT_{who}_{what}": "crew@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    neutral = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    subprocess.run(command, cwd=folder, env=neutral | identity, check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A canonical folder whose own name holds none of the characters under test."""
    return Path(os.path.realpath(tmp_path))


@pytest.fixture
def main(folder: Path) -> Path:
    """The main worktree of a repository with one commit."""
    root = folder / "Orchestra"
    root.mkdir()
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "first")
    return root


@pytest.fixture
def board(main: Path) -> Repository:
    """That repository, where case counts, with a few files and links in it."""
    (main / "src" / "deep").mkdir(parents=True)
    (main / "src" / "a.py").touch()
    return Repository.find(main)._replace(folds_case=False)


# Finding the repository


def test_any_folder_of_a_repository_leads_to_its_root(main: Path) -> None:
    (main / "src" / "deep").mkdir(parents=True)
    found = Repository.find(main / "src" / "deep")
    assert (found.root, found.worktree, found.name) == (main, main, "Orchestra")
    assert found == Repository.find(main) == Repository.find(main / ".git" / "refs")


def test_a_linked_worktree_has_the_root_and_the_project_of_the_main_one(main: Path, folder: Path) -> None:
    git(main, "worktree", "add", "--quiet", str(folder / "side"))
    found = Repository.find(folder / "side")
    assert (found.root, found.worktree) == (main, folder / "side")
    assert found.project_id == Repository.find(main).project_id


def test_the_worktrees_of_a_repository_are_found_from_each_of_them(main: Path, folder: Path) -> None:
    for name in ("side", "relative", "gone"):
        git(main, "worktree", "add", "--quiet", str(folder / name))
    (main / ".git" / "worktrees" / "relative" / "gitdir").write_text("../../../../relative/.git\n")
    (folder / "gone").rename(folder / "moved")
    expected = {main, folder / "side", folder / "relative"}
    assert set(Repository.find(main).worktrees()) == expected
    assert set(Repository.find(folder / "side").worktrees()) == expected
    assert Repository.find(main).worktrees()[0] == main


def test_a_worktree_inside_the_main_one_is_the_worktree(main: Path) -> None:
    git(main, "worktree", "add", "--quiet", str(main / ".trees" / "side"))
    found = Repository.find(main / ".trees" / "side")
    assert (found.root, found.worktree) == (main, main / ".trees" / "side")


def test_a_worktree_with_relative_links_leads_to_the_main_one(main: Path, folder: Path) -> None:
    git(main, "worktree", "add", "--quiet", str(folder / "side"))
    (folder / "side" / ".git").write_text("gitdir: ../Orchestra/.git/worktrees/side\n")
    assert Repository.find(folder / "side").root == main


def test_a_submodule_is_its_own_repository(main: Path, folder: Path) -> None:
    git(folder, "clone", "--quiet", "--bare", str(main), "library.git")
    git(main, "submodule", "--quiet", "add", str(folder / "library.git"), "library")
    found = Repository.find(main / "library")
    assert found.root == found.worktree == main / "library"
    assert found.project_id != Repository.find(main).project_id


def test_a_worktree_of_a_bare_repository_is_its_own_root(main: Path, folder: Path) -> None:
    git(folder, "clone", "--quiet", "--bare", str(main), "bare.git")
    git(folder / "bare.git", "worktree", "add", "--quiet", str(folder / "side"))
    found = Repository.find(folder / "side")
    assert found.root == found.worktree == folder / "side"


def test_worktrees_around_a_hidden_bare_repository_share_the_folder_that_leads_to_it(
    main: Path, folder: Path
) -> None:
    hall = folder / "hall"
    git(folder, "clone", "--quiet", "--bare", str(main), "hall/.bare")
    (hall / ".git").write_text("gitdir: ./.bare\n")
    for name in ("left", "right"):
        git(hall, "worktree", "add", "--quiet", name)
    assert [Repository.find(hall / name).root for name in ("left", "right", ".")] == [hall] * 3


def test_a_git_directory_kept_elsewhere_belongs_to_the_folder_that_names_it(main: Path, folder: Path) -> None:
    git(folder, "clone", "--quiet", "--separate-git-dir", str(folder / "apart"), str(main), "clone")
    assert Repository.find(folder / "clone").root == folder / "clone"


def test_without_a_repository_the_folder_itself_is_the_root(folder: Path) -> None:
    found = Repository.find(folder)
    assert found.root == found.worktree == folder


def test_a_repository_found_through_a_link_has_its_canonical_root(main: Path, folder: Path) -> None:
    (folder / "stage").symlink_to(main)
    assert Repository.find(folder / "stage") == Repository.find(main)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "not a git file", id="empty"),
        pytest.param(b"elsewhere: ../main\n", "not a git file", id="no label"),
        pytest.param(b"gitdir: \n", "not a git file", id="no target"),
        pytest.param(b"gitdir: gone/.git/worktrees/side\n", "which is not there", id="target gone"),
        pytest.param(b"gitdir: a\0b\n", "not a text file", id="NUL"),
        pytest.param(b"gitdir: \xff\n", "which is not there", id="not UTF-8"),
    ],
)
def test_a_broken_git_file_is_refused_by_name(folder: Path, content: bytes, complaint: str) -> None:
    (folder / ".git").write_bytes(content)
    (folder / "src").mkdir()
    with pytest.raises(ValueError, match=rf"\.git .*{complaint}"):
        Repository.find(folder / "src")


def test_a_git_entry_that_is_neither_file_nor_folder_is_refused(folder: Path) -> None:
    os.mkfifo(folder / ".git")
    with pytest.raises(ValueError, match="neither a folder nor a file"):
        Repository.find(folder)


def test_a_git_entry_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / ".git").symlink_to(".git")
    with pytest.raises(ValueError, match="cannot be read"):
        Repository.find(folder)


def test_a_worktree_whose_main_repository_is_gone_is_refused(main: Path, folder: Path) -> None:
    git(main, "worktree", "add", "--quiet", str(folder / "side"))
    (main / ".git" / "worktrees" / "side" / "commondir").write_text("../../gone\n")
    with pytest.raises(ValueError, match="commondir leads to"):
        Repository.find(folder / "side")


def test_a_start_that_is_no_folder_is_refused(main: Path) -> None:
    (main / "file").touch()
    for start in (main / "file", main / "missing"):
        with pytest.raises(ValueError, match="is not a folder"):
            Repository.find(start)


@pytest.mark.parametrize(
    ("folder_name", "slug"),
    [
        ("Orchestra", "orchestra"),
        ("Été à la_mer", "ete-a-la-mer"),
        ("--odd..name--", "odd-name"),
        ("舞台", "project"),
        ("x" * 39 + "-tail", "x" * 39),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_project_id_is_the_slug_of_the_folder_and_a_digest_of_its_place(
    folder: Path, folder_name: str, slug: str
) -> None:
    ids = []
    for place in ("here", "there"):
        (folder / place / folder_name).mkdir(parents=True)
        ids.append(Repository.find(folder / place / folder_name).project_id)
    assert {identifier.rpartition("-")[0] for identifier in ids} == {slug}
    digests = {identifier.rpartition("-")[2] for identifier in ids}
    assert len(digests) == 2
    assert all(len(digest) == 6 and int(digest, 16) >= 0 for digest in digests)


def test_a_folder_name_that_is_not_text_is_shown_as_text(folder: Path) -> None:
    odd = folder / os.fsdecode(b"caf\xe9\n")
    odd.mkdir()
    found = Repository.find(odd)
    assert found.name == "caf\ufffd\ufffd"
    assert found.project_id.startswith("caf-")


def test_case_folding_is_what_the_file_system_does(main: Path) -> None:
    (main / "probe").touch()
    assert Repository.find(main).folds_case is (main / "PROBE").exists()


def test_folders_that_differ_in_case_are_one_project_exactly_where_they_are_one_folder(folder: Path) -> None:
    for name in ("hall", "HALL"):
        (folder / name).mkdir(exist_ok=True)
    lower, upper = Repository.find(folder / "hall"), Repository.find(folder / "HALL")
    assert (lower.project_id == upper.project_id) is lower.folds_case


def test_the_root_of_the_file_system_has_a_name_too() -> None:
    found = Repository.find(Path("/"))
    assert found.name == "project"
    assert found.project_id.startswith("project-")


def test_a_long_folder_name_is_shown_in_part(folder: Path) -> None:
    (folder / ("x" * 200)).mkdir()
    assert Repository.find(folder / ("x" * 200)).name == "x" * 100


def test_two_entries_that_differ_in_case_are_no_folding(main: Path) -> None:
    twin = main / ".GIT"
    if twin.exists():
        pytest.skip("this file system folds case")
    twin.mkdir()
    assert Repository.find(main).folds_case is False


# Naming a path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("src/a.py", "src/a.py"),
        ("./src/a.py", "src/a.py"),
        ("src//a.py", "src/a.py"),
        ("src\\a.py", "src/a.py"),
        (".\\src\\.\\a.py", "src/a.py"),
        ("src/deep/../a.py", "src/a.py"),
        ("missing/../src/a.py", "src/a.py"),
        ("src/deep/", "src/deep"),
        ("src/missing/new.py", "src/missing/new.py"),
        ("src/*.py", "src/*.py"),
        ("src/**/deep/", "src/**/deep"),
        ("~/notes", "~/notes"),
        (".", "**"),
        ("src/..", "**"),
    ],
)
def test_every_spelling_of_a_path_gives_its_one_name(board: Repository, text: str, name: str) -> None:
    """L14"""
    assert board.spell(text) == name


def test_composed_and_decomposed_characters_are_one_name(board: Repository) -> None:
    spellings = {unicodedata.normalize(form, "docs/été.md") for form in ("NFC", "NFD")}
    assert len(spellings) == 2
    assert {board.spell(text) for text in spellings} == {unicodedata.normalize("NFC", "docs/été.md")}


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        ("", "**"),
        ("/", "**"),
        ("/src/a.py", "src/a.py"),
        ("//src/./a.py", "src/a.py"),
        ("/src/deep/../a.py", "src/a.py"),
        ("/../Orchestra/src/a.py", "src/a.py"),
        ("/src/**/*.py", "src/**/*.py"),
        ("\\src\\a.py", "src/a.py"),
    ],
)
def test_an_absolute_path_inside_the_root_loses_it(board: Repository, tail: str, name: str) -> None:
    assert board.spell(f"{board.root}{tail}") == name


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "/",
        "//",
        "/../..",
        "{root}x/a.py",
        "{root}/../other/a.py",
        "{root}/..",
        "{parent}/missing/link/a.py",
        "{parent}/*/src",
        "/\0",
        "/\ud800",
    ],
)
def test_an_absolute_path_outside_is_refused(board: Repository, text: str) -> None:
    with pytest.raises(InvalidPattern, match="outside"):
        board.spell(text.format(root=board.root, parent=board.root.parent))


@pytest.mark.parametrize(
    "text",
    ["", " ", "..", "../Orchestra/src", "src/../../x", "a\0b", "C:\\x", "src/[ab].py", "*/../a", "x" * 1025],
)
def test_what_is_no_pattern_is_refused(board: Repository, text: str) -> None:
    with pytest.raises(InvalidPattern):
        board.spell(text)


@pytest.mark.parametrize("tail", ["a\0b", "\ud800", "src/[ab].py", "*/../a", "x" * 1025])
def test_what_is_no_pattern_below_the_root_is_refused_too(board: Repository, tail: str) -> None:
    with pytest.raises(InvalidPattern) as refusal:
        board.spell(f"{board.root}/{tail}")
    assert "outside" not in refusal.value.rule


def test_an_absolute_path_longer_than_the_system_takes_is_refused(board: Repository) -> None:
    with pytest.raises(InvalidPattern, match="longer than 4096"):
        board.spell(f"{board.root}{'/src/..' * 600}/src/a.py")


def test_a_repository_at_the_root_of_the_file_system_names_everything(board: Repository) -> None:
    whole = board._replace(root=Path("/"), worktree=Path("/"))
    (board.root / "lib").symlink_to("src")
    name = f"{board.root}/src/a.py"[1:]
    assert {whole.spell(text) for text in (name, f"/{name}", f"{board.root}/lib/a.py")} == {name}


def test_an_absolute_path_through_a_link_to_the_root_is_inside(board: Repository, folder: Path) -> None:
    (folder / "stage").symlink_to(board.root)
    (folder / "wing").symlink_to(board.root / "src")
    assert board.spell(f"{folder}/stage/src/a.py") == "src/a.py"
    assert board.spell(f"{folder}/stage") == "**"
    assert board.spell(f"{folder}/wing/new/*.py") == "src/new/*.py"


def test_a_root_whose_own_name_looks_like_a_pattern_is_still_stripped(folder: Path) -> None:
    root = folder / "[what]*"
    root.mkdir()
    board = Repository.find(root)
    assert board.spell(f"{root}/src/../a.py") == board.spell("a.py") == "a.py"


def test_links_that_stay_inside_are_resolved(board: Repository) -> None:
    (board.root / "lib").symlink_to("src/deep")
    (board.root / "src" / "alias.py").symlink_to(board.root / "src" / "a.py")
    (board.root / "next").symlink_to("lib/unborn")
    (board.root / "here").symlink_to(".")
    assert board.spell("lib/new.py") == "src/deep/new.py"
    assert board.spell("lib") == "src/deep"
    assert board.spell("lib/**/*.py") == "src/deep/**/*.py"
    assert board.spell("src/alias.py") == "src/a.py"
    assert board.spell(f"{board.root}/lib/new.py") == "src/deep/new.py"
    assert board.spell("next/file") == "src/deep/unborn/file"
    assert board.spell("here/src/here/a.py") == "src/here/a.py"
    assert board.spell("here") == "**"


def test_a_link_behind_a_wildcard_keeps_its_name(board: Repository) -> None:
    (board.root / "src" / "lib").symlink_to("deep")
    assert board.spell("*/lib/x") == "*/lib/x"


def test_a_link_that_leads_outside_keeps_its_own_name(board: Repository, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (board.root / "out").symlink_to(folder / "elsewhere")
    (board.root / "lib").symlink_to("src")
    (board.root / "src" / "out").symlink_to(folder / "elsewhere")
    assert board.spell("out/x/y") == "out/x/y"
    assert board.spell("lib/out/x") == "src/out/x"
    assert board.spell(f"{board.root}/out/x") == "out/x"


def test_a_link_that_leads_out_and_back_in_is_resolved(board: Repository, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "home").symlink_to(board.root / "src")
    (board.root / "out").symlink_to(folder / "elsewhere")
    assert board.spell("out/home/a.py") == "src/a.py"
    assert board.spell("out/other/a.py") == "out/other/a.py"


def test_links_in_a_circle_keep_their_text(board: Repository) -> None:
    (board.root / "self").symlink_to("self")
    (board.root / "ping").symlink_to("pong")
    (board.root / "pong").symlink_to("ping")
    assert board.spell("self/a") == "self/a"
    assert board.spell("ping/a") == "ping/a"
    (board.root / "tick").symlink_to("tock/x")
    (board.root / "tock").symlink_to("tick/y")
    assert board.spell("tick/a") == "tick/a"


def test_a_link_to_a_folder_that_no_pattern_can_name_keeps_its_own_name(board: Repository) -> None:
    (board.root / "[odd]").mkdir()
    (board.root / "even").symlink_to("[odd]")
    assert board.spell("even/a.py") == "even/a.py"


def test_names_too_long_for_the_file_system_keep_their_text(board: Repository) -> None:
    segment = "x" * 300
    assert board.spell(f"{segment}/a/../b") == f"{segment}/b"


def test_a_file_in_a_linked_worktree_has_the_name_it_has_in_the_main_one(
    board: Repository, folder: Path
) -> None:
    """L14"""
    git(board.root, "worktree", "add", "--quiet", str(folder / "side"))
    (folder / "side" / "src").mkdir()
    (folder / "side" / "lib").symlink_to("src")
    side = Repository.find(folder / "side")
    for text in (
        "src/a.py",
        "lib/a.py",
        f"{folder}/side/src/a.py",
        f"{folder}/side/lib/a.py",
        f"{board.root}/src/a.py",
    ):
        assert side.spell(text) == board.spell("src/a.py") == "src/a.py"


def test_a_worktree_inside_the_main_one_is_stripped_as_a_whole(board: Repository) -> None:
    git(board.root, "worktree", "add", "--quiet", str(board.root / ".trees" / "side"))
    side = Repository.find(board.root / ".trees" / "side")
    assert side.spell(f"{side.worktree}/src/a.py") == "src/a.py"
    assert side.spell(f"{side.root}/src/a.py") == "src/a.py"


def test_names_fold_case_exactly_where_the_file_system_does(board: Repository) -> None:
    folding = board._replace(folds_case=True)
    assert folding.spell("Src/README.md") == folding.spell("src/readme.MD") == "src/readme.md"
    assert folding.spell("ÉTÉ/*.PY") == "été/*.py"
    assert folding.spell(f"{str(board.root).upper()}/Src/A.py") == "src/a.py"
    assert board.spell("Src/README.md") == "Src/README.md"
    with pytest.raises(InvalidPattern, match="outside"):
        board.spell(f"{str(board.root).upper()}/Src/A.py")


@settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    text=st.lists(
        st.sampled_from(
            ["src", "deep", "lib", "out", "loop", "..", ".", "", "*", "**", "é", "ǰ", "İ", "ß", "new.py"]
        )
        | st.text(max_size=4),
        max_size=6,
    ).map("/".join),
    absolute=st.booleans(),
    folds_case=st.booleans(),
)
def test_a_name_is_a_name_of_itself(board: Repository, text: str, absolute: bool, folds_case: bool) -> None:
    for name, target in {"lib": "src/deep", "out": "/", "loop": "loop"}.items():
        if not (board.root / name).is_symlink():
            (board.root / name).symlink_to(target)
    repository = board._replace(folds_case=folds_case)
    try:
        name = repository.spell(f"{board.root}/{text}" if absolute else text)
    except InvalidPattern:
        return
    assert repository.spell(name) == name
    assert repository.spell(f"{board.root}/{name}") == name
