"""A person at a terminal: runs a command on a pseudo-terminal, and types an answer at each question.

`typist.py ANSWERS COMMAND`, the answers as JSON, the command for `sh`. A question is a line that has not
ended and ends in a colon or a bracket. What the terminal showed goes to standard output.
"""

import json
import os
import pty
import sys
from contextlib import suppress


def run(answers: list[str], command: str) -> int:
    """Run the command, print what the terminal showed, and return the exit code."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvp("sh", ["sh", "-c", command])
    waiting = [answer.encode() + b"\n" for answer in answers]
    shown = b""
    # A terminal whose other end is closed reads as an input error.
    with suppress(OSError):
        while chunk := os.read(terminal, 4096):
            shown += chunk
            if waiting and shown.endswith((b": ", b"] ")):
                os.write(terminal, waiting.pop(0))
    sys.stdout.write(shown.decode().replace("\r\n", "\n"))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1]), sys.argv[2]))
