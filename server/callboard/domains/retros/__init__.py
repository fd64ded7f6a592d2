"""Retros: what a session looked like in figures and words."""

from callboard.domains.retros.tools import latest, list_session_retros, record_session_retro

TOOLS = (record_session_retro, list_session_retros)

__all__ = ["TOOLS", "latest"]
