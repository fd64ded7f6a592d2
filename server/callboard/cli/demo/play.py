"""The demo played: each line of the story in turn, and an end at the first that does not come out as told."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from rich.console import Console

from callboard.cli.demo.stage import Answered, NoServer, Seat, make_repository, seats, throwaway
from callboard.cli.demo.story import CAST, Answer, Call, Line, Outcome, Scene, holds
from callboard.cli.demo.telling import Teller, written

BOUND_SECONDS: Final = 60
"""The demo ends after this long, whatever happens."""

PATIENCE_SECONDS: Final = 10
"""How long a call with `until` is repeated."""

LOOK_AGAIN_SECONDS: Final = 0.05


class NotAsTold(Exception):
    """A call did not come out as the story tells."""

    def __init__(self, outcome: Outcome, answered: Answered) -> None:
        super().__init__()
        self.outcome = outcome
        self.answered = answered
