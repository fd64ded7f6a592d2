"""Memory: what one agent keeps for itself, readable by its crew."""

from typing import Any

TOOLS: tuple[Any, ...] = ()
