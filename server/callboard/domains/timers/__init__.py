"""Timers: reminders that come through the inbox when their time has come.

A timer is a row with a due time on the boot clock. It fires at least once and never early; no process
need be there at that moment, and however many are, one of them delivers it.
"""

from callboard.domains.timers.firing import cancel_for, fire_due, next_due
from callboard.domains.timers.tools import cancel_timer, list_timers, set_timer

TOOLS = (set_timer, cancel_timer, list_timers)

__all__ = ["TOOLS", "cancel_for", "fire_due", "next_due"]
