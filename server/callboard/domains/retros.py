"""Retros: what a session looked like in figures and words."""

from typing import Any

TOOLS: tuple[Any, ...] = ()
