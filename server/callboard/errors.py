"""Refusals: what an agent hears instead of a result.

A refusal is data. Its class name is its code, its docstring the default message, and its keyword
arguments are the facts that name the next step. Raising one rolls the operation back; an operation
that must keep something although it refuses (a place in a queue, a late result) returns it instead.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

# The closed set of codes, each with whether the same call may succeed later although its caller
# changes nothing.
CODES: Mapping[str, bool] = {
    "unauthenticated": False,
    "unknown_caller": False,
    "unknown_agent": False,
    "unknown_recipient": False,
    "unknown_task": False,
    "not_found": False,
    "agent_terminated": False,
    "agent_conflict": False,
    "identity_mismatch": False,
    "forbidden": False,
    "human_required": False,
    "not_owner": False,
    "lock_held": True,
    "wait_timeout": True,
    "cancelled": True,
    "deadlock": False,
    "lease_expired": False,
    "stale_fence": False,
    "invalid_path": False,
    "stale_receipt": False,
    "stale_claim": False,
    "not_ready": True,
    "already_claimed": True,
    "invalid_transition": False,
    "cycle": False,
    "task_exists": False,
    "group_archived": False,
    "budget_exceeded": False,
    "conflict": False,
    "request_key_reused": False,
    "digest_mismatch": False,
    "invalid_arguments": False,
    "too_large": False,
    "quota_exceeded": True,
    "rate_limited": True,
    "store_busy": True,
    "store_full": True,
    "store_unavailable": True,
    "store_corrupt": False,
    "schema_too_new": False,
    "internal_error": False,
}


class Refused(Exception):
    """The operation was refused and changed nothing."""

    code: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.retryable = CODES[cls.code]

    def __init__(
        self,
        message: str | None = None,
        /,
        *,
        hint: str | None = None,
        retry_after_ms: int | None = None,
        **details: object,
    ) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.hint = hint
        self.retry_after_ms = retry_after_ms
        self.details = {key: value for key, value in details.items() if value is not None}
        super().__init__(self.message)

    def as_data(self) -> dict[str, object]:
        """The refusal as the flat object that agents and scripts read."""
        data: dict[str, object] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.retry_after_ms is not None:
            data["retry_after_ms"] = self.retry_after_ms
        if self.hint is not None:
            data["hint"] = self.hint
        return data | self.details


class Unauthenticated(Refused):
    """The token is missing, expired, revoked or of another store."""


class UnknownCaller(Refused):
    """The call does not say which agent is calling."""


class UnknownAgent(Refused):
    """No agent of that id is on the roster."""


class UnknownTask(Refused):
    """There is no task of that id in your crew."""


class NotFound(Refused):
    """There is no such thing."""


class AgentTerminated(Refused):
    """That agent has left for good."""


class AgentConflict(Refused):
    """That agent id is taken."""


class IdentityMismatch(Refused):
    """Two sources name two different callers."""


class Forbidden(Refused):
    """The caller may not do this."""


class HumanRequired(Refused):
    """Only a human may do this."""


class NotOwner(Refused):
    """It belongs to another agent."""


class WaitTimeout(Refused):
    """The wait ended before its turn came."""


class Cancelled(Refused):
    """The call was cancelled."""


class AlreadyClaimed(Refused):
    """Another agent has claimed it."""


class StaleClaim(Refused):
    """Your claim is over."""


class InvalidPath(Refused):
    """The path cannot be used."""


class InvalidTransition(Refused):
    """That step is not possible from the present status."""


class Conflict(Refused):
    """It has changed since it was read."""


class RequestKeyReused(Refused):
    """This request_key was used before with other arguments."""


class InvalidArguments(Refused):
    """Some arguments cannot be used."""


class TooLarge(Refused):
    """An argument is too large; nothing was cut or stored."""


class QuotaExceeded(Refused):
    """A limit on how many of these may exist has been reached."""


class StoreBusy(Refused):
    """Another process kept the store locked; nothing was changed."""


class StoreFull(Refused):
    """The store has no room left; nothing was changed."""


class StoreUnavailable(Refused):
    """The store cannot be used at the moment."""


class StoreCorrupt(Refused):
    """The store is damaged; nothing more is written to it."""


class SchemaTooNew(Refused):
    """The store was written by a newer callboard."""


class InternalError(Refused):
    """The operation failed unexpectedly and changed nothing."""
