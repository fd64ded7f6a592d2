"""Knowledge: what a project has learned, found again.

Notes are what is known, in four categories; collective memory is what was learned on the way. Both are
written by any agent, kept with their earlier values, and found by one search.
"""

from callboard.domains.knowledge.finding import SOURCES, Known, best_for, core_of, readable
from callboard.domains.knowledge.lessons import (
    add_collective_memory,
    forget_collective_memory,
    recall_collective_memory,
)
from callboard.domains.knowledge.notes import delete_knowledge, get_knowledge, put_knowledge
from callboard.domains.knowledge.searching import search_knowledge

TOOLS = (
    put_knowledge,
    get_knowledge,
    delete_knowledge,
    search_knowledge,
    add_collective_memory,
    recall_collective_memory,
    forget_collective_memory,
)

__all__ = ["SOURCES", "TOOLS", "Known", "best_for", "core_of", "readable"]
