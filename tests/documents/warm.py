"""The command `callboard`, started in a hundredth of the time: a process that has it loaded and forks.

Its one idea: what takes a command's second is loading Python's modules, and that needs doing once. Each
command still has a process, a working folder, an environment and three open files of its own, as in any
shell; only `serve`, which outlives its caller's attention, is started as everybody starts it. Nothing of a
store is open in the process that forks.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

# What stands on PATH as `callboard`. It hands itself over: arguments, folder, environment, open files.
STAND_IN = """#!{python} -SEs
import json, os, socket, sys
if sys.argv[1:2] == ["serve"]:
    os.environ["PYTHONPATH"] = {path!r}  # a client may start it with little of its own environment
    os.execv({python!r}, [{python!r}, "-m", "callboard", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect({address!r})
    said = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(warm, [len(said).to_bytes(4, "big")], [0, 1, 2])
    warm.sendall(said)
    code = warm.recv(1)
sys.exit(code[0] if code else 70)
"""


def start(folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Put `callboard` into a folder, and start the process behind it; it is there when this returns."""
    address = str(folder / "warm")
    command = folder / "callboard"
    text = STAND_IN.format(python=sys.executable, address=address, path=environment["PYTHONPATH"])
    command.write_text(text, encoding="utf-8")
    command.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), address],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"warm\n", "the commands cannot be loaded"
    return process


def _serve(address: str) -> None:
    command = importlib.import_module("callboard.__main__").main  # loaded once, for all
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the commands here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("warm", flush=True)
        while True:
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(caller, command)
            caller.close()


def _answer(caller: socket.socket, command: Callable[[], None]) -> None:
    """Be the command that is asked for, then end."""
    size, files, _, _ = socket.recv_fds(caller, 4, 3)
    said = b""
    while len(said) < int.from_bytes(size, "big"):
        said += caller.recv(65536)
    arguments, folder, environment = json.loads(said)
    for ours, theirs in enumerate(files):
        os.dup2(theirs, ours)
        os.close(theirs)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["callboard", *arguments]
    code = 1
    try:
        command()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code]))
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
