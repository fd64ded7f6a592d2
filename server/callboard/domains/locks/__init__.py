"""File locks: who may edit which file right now.

A lock is a lease. It belongs to one agent, covers a file, a directory or a glob, and lapses by itself,
so an agent that crashes never blocks its crew for good. Every grant carries a fence, a number that only
rises: work done under an old fence is recognised as late. Who waits is served in order, and a request
that would close a circle of waiting is refused.
"""

from callboard.domains.locks.claimed import (
    release_for_task,
    request_for_task,
    standing_against,
    take_for_task,
)
from callboard.domains.locks.leases import renew_leases
from callboard.domains.locks.queue import end_all, next_due, reap
from callboard.domains.locks.tickets import Request
from callboard.domains.locks.tools import TOOLS

__all__ = [
    "TOOLS",
    "Request",
    "end_all",
    "next_due",
    "reap",
    "release_for_task",
    "renew_leases",
    "request_for_task",
    "standing_against",
    "take_for_task",
]
