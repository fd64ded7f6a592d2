"""The unit and the container file: what they name exists; what they start is a server that asks who calls."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.serving import PATIENCE, SERVER, Place

ROOT = SERVER.parent
UNIT = ROOT / "packaging" / "callboard.service"
CONTAINER = ROOT / "packaging" / "Containerfile"
ADDRESS = "https://board.example.org"


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]  # names in a unit have capitals
    found.read_string(UNIT.read_text(encoding="utf-8"))
    return found


def instructions(name: str) -> list[str]:
    """What stands behind an instruction of the container file, wherever it is given."""
    text = CONTAINER.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def of_the_unit() -> list[str]:
    return shlex.split(unit()["Service"]["ExecStart"])[1:]


def of_the_container() -> list[str]:
    [entry] = instructions("ENTRYPOINT")
    return [*json.loads(entry)[1:], ADDRESS]


@contextmanager
def started(place: Place, arguments: list[str]) -> Iterator[int]:
    """A server with these arguments but for the port, which is a free one and is yielded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "callboard", *(re.sub(r":8765$", ":0", argument) for argument in arguments)],
        cwd=place.folder,
        env=place.environment(CALLBOARD_DB=str(place.db)),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r":(\d+)/mcp", said)
            assert found, said
            yield int(found[1])
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def status(port: int, path: str, host: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("arguments", [of_the_unit(), of_the_container()], ids=["unit", "container"])
def test_what_is_started_answers_clients_of_the_public_address_that_bear_a_token(
    tmp_path: Path, arguments: list[str]
) -> None:
    place = Place(tmp_path)
    with started(place, arguments) as port:
        host = ADDRESS.removeprefix("https://")
        assert [status(port, path, host) for path in ("/health", "/mcp", "/metrics")] == [200, 401, 401]
    assert place.db.exists()


def test_a_container_in_health_is_found_to_be(tmp_path: Path) -> None:
    [check] = instructions("HEALTHCHECK")
    command, *rest = json.loads(check.removeprefix("CMD "))
    assert command == "python"
    with started(Place(tmp_path), of_the_container()) as port:
        told = [argument.replace(":8765/", f":{port}/") for argument in rest]
        assert told != rest
        subprocess.run([sys.executable, *told], check=True, timeout=PATIENCE)
    gone = subprocess.run([sys.executable, *told], stderr=subprocess.DEVNULL, timeout=PATIENCE)
    assert gone.returncode == 1


def test_both_keep_the_store_in_a_folder_that_only_the_servers_account_opens() -> None:
    service = unit()["Service"]
    folder = Path("/var/lib") / service["StateDirectory"]
    told = dict(pair.split("=", 1) for pair in instructions("ENV"))
    assert service["Environment"] == f"CALLBOARD_DB={told['CALLBOARD_DB']}"
    assert Path(told["CALLBOARD_DB"]).parent == folder
    assert instructions("VOLUME") == instructions("WORKDIR") == [service["WorkingDirectory"]] == [str(folder)]
    [user] = instructions("USER")
    owner, group = user.split(":")
    assert f"install --directory --owner={owner} --group={group} --mode=0700 {folder}" in instructions("RUN")
    assert (service["StateDirectoryMode"], service["UMask"]) == ("0700", "0077")
    assert service["User"] != "root" and int(owner) > 0


def test_what_the_container_is_built_from_is_all_that_a_build_needs(tmp_path: Path) -> None:
    for line in instructions("COPY"):
        *sources, target = line.split()
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            into = tmp_path / "root" / target.lstrip("/")
            into.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / source, into)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), "."],
        cwd=tmp_path / "root" / "src",
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert list(tmp_path.glob("callboard-*.whl"))
    assert (tmp_path / "root" / "src" / "constraints.txt").exists()


def test_the_page_on_operations_shows_the_unit_as_it_is() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"```ini\n{UNIT.read_text(encoding='utf-8')}```" in page
