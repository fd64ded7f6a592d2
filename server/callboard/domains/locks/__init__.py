"""File locks: who may edit which file right now.

A lock is a lease. It belongs to one agent, covers a file, a directory or a glob, and lapses by itself,
so an agent that crashes never blocks its crew for good. Every grant carries a fence, a number that only
rises: work done under an old fence is recognised as late. Who waits is served in order, and a request
that would close a circle of waiting is refused.
"""

from callboard.domains.locks.leases import renew_leases
from callboard.domains.locks.queue import end_all, next_due, reap
from callboard.domains.locks.tools import TOOLS

__all__ = ["TOOLS", "end_all", "next_due", "reap", "renew_leases"]
