"""`callboard projects` and `callboard settings`: what people decide, and only as people."""

import json
from pathlib import Path

import pytest

from tests import terminal
from tests.commands import Run, runner


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder of its own, as a script does, without a terminal."""
    return runner(tmp_path, monkeypatch)


@pytest.fixture
def project_id(run: Run) -> str:
    """The project of the folder, which the first command in it brings into being."""
    [project] = json.loads(run("projects", "list", "--json").stdout)
    found: str = project["project_id"]
    return found


def test_every_setting_is_listed_with_what_it_takes_and_one_is_read(run: Run) -> None:
    listed = run("settings", "list").stdout
    assert "alerts.decision_minutes = 10" in listed
    assert "a whole number from 1 to 10080" in listed
    assert run("settings", "get", "hooks.auto_lock").stdout == "false\n"
    keys = [setting["key"] for setting in json.loads(run("settings", "list", "--json").stdout)]
    assert "oversight.level" in keys
    assert "Did you mean hooks.auto_lock" in run("settings", "get", "hooks.autolock", code=2).stderr


def test_a_person_at_a_terminal_sets_a_setting_by_typing_its_key(run: Run) -> None:
    said = terminal.run("oversight.level\n", "settings", "set", "oversight.level", "supervised")
    assert (said.code, "oversight.level is supervised; it was balanced." in said.said) == (0, True)
    shown = json.loads(run("settings", "get", "oversight.level", "--json").stdout)
    assert (shown["value"], shown["version"]) == ("supervised", 1)
    assert "(default balanced)" in run("settings", "list").stdout
    again = terminal.run("oversight.level\n", "settings", "set", "oversight.level", "supervised")
    assert "as before" in again.said


@pytest.mark.parametrize("typed", ["\n", "yes\n", "oversight\n"])
def test_who_types_something_else_changes_nothing(run: Run, typed: str) -> None:
    said = terminal.run(typed, "settings", "set", "oversight.level", "supervised")
    assert (said.code, "nothing was changed" in said.said) == (1, True)
    assert run("settings", "get", "oversight.level").stdout == "balanced\n"


def test_a_value_that_a_setting_does_not_take_is_refused_with_what_it_takes(run: Run) -> None:
    said = terminal.run("oversight.level\n", "settings", "set", "oversight.level", "lax")
    assert (said.code, "must be one of supervised, balanced, autonomous" in said.said) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        ("settings", "set", "hooks.auto_lock", "true"),
        ("projects", "set", "ID", "--oversight", "autonomous"),
        ("projects", "archive", "ID"),
        ("projects", "delete", "ID"),
    ],
)
def test_nothing_is_changed_through_a_pipe_without_a_persons_token(
    run: Run, project_id: str, command: tuple[str, ...]
) -> None:
    before = run("projects", "list").stdout + run("settings", "list").stdout
    words = [project_id if word == "ID" else word for word in command]
    assert "needs a person" in run(*words, code=1).stderr
    assert run("projects", "list").stdout + run("settings", "list").stdout == before


def test_an_agents_token_does_not_make_a_person(run: Run, project_id: str, tmp_path: Path) -> None:
    run("call", "register_agent", "role=lead", "--agent", "boss")
    token = tmp_path / "token"
    token.write_text(run("token", "create", "--agent", "boss", "--scope", "lead").stdout, encoding="ascii")
    by_token = ("--token-file", str(token))
    for command in (
        ("settings", "set", "hooks.auto_lock", "true"),
        ("projects", "set", project_id, "--oversight", "autonomous"),
    ):
        assert run(*command, *by_token, code=2).stderr
    run("projects", "archive", project_id, *by_token)  # which a lead may
    refused = run("projects", "delete", project_id, *by_token, "--json", code=2)
    assert json.loads(refused.stderr)["error"]["code"] == "human_required"


def test_a_person_sets_who_oversees_a_project_and_which_models_it_takes(run: Run, project_id: str) -> None:
    said = terminal.run(
        f"{project_id}\n", "projects", "set", project_id,
        "--oversight", "autonomous", "--models", '{"developer": ["small"]}',
    )  # fmt: skip
    assert said.code == 0, said.said
    shown = json.loads(run("projects", "show", project_id).stdout)
    assert (shown["oversight_level"], shown["model_config"]) == ("autonomous", {"developer": ["small"]})
    assert "name what to change" in run("projects", "set", project_id, code=1).stderr


def test_a_project_is_archived_brought_back_and_deleted_only_when_archived(
    run: Run, project_id: str, tmp_path: Path
) -> None:
    run("call", "register_agent", "role=developer", "--agent", "ann")
    run("call", "put_knowledge", "category=semantic", "key=k", "content=v", "--agent", "ann")
    run("call", "terminate_agent", "--agent", "ann")
    refused = terminal.run(f"{project_id}\n", "projects", "delete", project_id)
    assert (refused.code, "only an archived project" in refused.said) == (2, True)
    for step in (("archive", project_id), ("set", project_id, "--status", "active"), ("archive", project_id)):
        assert terminal.run(f"{project_id}\n", "projects", *step).code == 0
    deleted = terminal.run(f"{project_id}\n", "projects", "delete", project_id)
    assert (deleted.code, f"{project_id} is deleted" in deleted.said) == (0, True)
    # The next command in the folder makes a project of it again, with nothing in it.
    [project] = json.loads(run("projects", "list", "--json").stdout)
    assert (project["project_id"], project["status"]) == (project_id, "active")
    assert "There is no" in run("call", "get_knowledge", "category=semantic", "key=k", code=2).stderr
