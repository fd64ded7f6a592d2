"""The server reaches for nothing: no process, no connection outward, no file outside its folders (W2, M34).

An audit hook of Python sees every attempt, also of a library. SQLite's own files are not Python's; where they
are is the store's folder alone.
"""

import os
import subprocess
import sys
from pathlib import Path

from callboard.catalog import CATALOG

ROOT = Path(__file__).resolve().parents[2]


def watched(folder: Path, *program: str) -> list[str]:
    """What a program under the hook says."""
    path = os.pathsep.join([str(ROOT / "server"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *program, str(folder)],
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.splitlines()


def test_no_tool_starts_a_process_opens_a_connection_or_writes_elsewhere(tmp_path: Path) -> None:
    """S3, W2"""
    said = watched(tmp_path, "-m", "tests.reliability.reaching")
    assert said == [f"done {len(CATALOG)}"], said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["board.db", "repo"]


def test_the_hook_sees_what_it_is_for(tmp_path: Path) -> None:
    program = """
import os, socket, subprocess, sys
from pathlib import Path
from tests.reliability.reaching import watch
found = []
watch(Path(sys.argv[1]).resolve(), found)
subprocess.run([sys.executable, "-c", ""])
with socket.socket() as outward:
    outward.settimeout(0.01)
    outward.connect_ex(("127.0.0.1", 9))
open(os.devnull, "w").close()
open("here", "w").close()
open("board.db-wal", "w").close()
print(*[line.partition(" (")[0] for line in found], sep="\\n")
"""
    assert set(watched(tmp_path, "-c", program)) >= {
        "subprocess.Popen",
        "socket.connect",
        "open",
        "open of the store",
    }
