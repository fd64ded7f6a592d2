"""Decisions: what was decided or asked, and what people said to it."""

from typing import Any

TOOLS: tuple[Any, ...] = ()
