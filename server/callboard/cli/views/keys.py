"""Keys, one at a time: a terminal without its line editing, and what its escape sequences stand for."""

import codecs
import os
import re
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import anyio

SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[Z": "back tab",
    "\x1b": "escape",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}
"""What terminals send for the keys that are no letters (ECMA-48, as xterm and the Linux console send it)."""

KEY = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[@-~])|.", re.DOTALL)

ESCAPE_SECONDS = 0.05
"""After how long an escape that nothing follows is the key of that name, and no sequence's beginning."""

LFLAG, CHARACTERS = 3, 6
"""Where the local modes and the control characters stand in what tcgetattr answers."""


@contextmanager
def unbuffered(terminal: int) -> Iterator[None]:
    """Each key is read when it is pressed, and not echoed; ctrl-c still interrupts, ctrl-z does not suspend.
    The terminal is as it was when the block ends, however that is."""
    before = termios.tcgetattr(terminal)
    now = termios.tcgetattr(terminal)
    now[LFLAG] &= ~(termios.ECHO | termios.ICANON)
    now[CHARACTERS][termios.VSUSP] = os.fpathconf(terminal, "PC_VDISABLE").to_bytes()
    termios.tcsetattr(terminal, termios.TCSAFLUSH, now)
    try:
        yield
    finally:
        # A terminal that is gone has nothing to be restored.
        with suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


async def keys(terminal: int) -> AsyncIterator[str]:
    """The keys as they are pressed, by name or as the letter they give, until the terminal is gone."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    while text := await _read(terminal, decoder):
        if text.endswith("\x1b"):
            with anyio.move_on_after(ESCAPE_SECONDS):
                text += await _read(terminal, decoder)
        for key in KEY.findall(text):
            sent = key.replace("\x1bO", "\x1b[")  # the keypad's application mode
            if sent in SEQUENCES or sent.isprintable():
                yield SEQUENCES.get(sent, sent)


async def _read(terminal: int, decoder: codecs.IncrementalDecoder) -> str:
    """The next that is pressed; nothing once the terminal is gone."""
    while True:
        await anyio.wait_readable(terminal)
        try:
            read = os.read(terminal, 4096)
        except OSError:
            return ""
        if not read:
            return ""
        if text := decoder.decode(read):
            return text
