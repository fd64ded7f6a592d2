"""Knowledge: what a project has learned."""

from typing import Any

TOOLS: tuple[Any, ...] = ()
