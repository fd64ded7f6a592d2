"""Sessions: the runs of a lead on a project.

A session belongs to its crew for good, and a crew has one live session at a time. An ended session is
resumed by a claim that one caller wins; the claim is a lease, so that a winner that dies leaves the session
stopped and not half resumed. That it started is told once; each resume is a fact of its own in the activity.
"""

from typing import Annotated, Literal

from pydantic import Field

from callboard.domains.projects import project
from callboard.errors import AlreadyClaimed, Conflict, InvalidTransition, NotFound, StaleClaim
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import AfterId, ClaimEpoch, Limit, RoleId, SessionRowId, Work
from callboard.store import Row, Tx
from callboard.tool import Result, fitted, tool

CLAIM_MS = 60_000
"""How long whoever resumes a session has until it must be active again."""

Status = Literal["active", "completed", "crashed", "resuming", "stopped"]
Ending = Literal["completed", "crashed", "stopped"]


class Session(Row):
    id: int
    project_id: str
    lead_id: str
    session_id: str | None
    role: str | None
    task: str | None
    status: Status
    started_at: str
    ended_at: str | None
    resumed_at: str | None
    claimed_by: str | None
    claim_boot_ms: int | None
    claim_epoch: int


COLUMNS = ", ".join(Session.columns())
LIVE = "status IN ('active', 'resuming')"

SESSION = Session.query(f"SELECT {COLUMNS} FROM project_sessions WHERE id = :id")
LIVE_OF = Session.query(f"""
    SELECT {COLUMNS} FROM project_sessions WHERE project_id = :project_id AND lead_id = :lead_id AND {LIVE}
""")
LAST_OF = Session.query(f"""
    SELECT {COLUMNS} FROM project_sessions
     WHERE project_id = :project_id AND lead_id = :lead_id ORDER BY id DESC LIMIT 1
""")
LIVE_IN = Session.query(f"""
    SELECT {COLUMNS} FROM project_sessions WHERE project_id = :project_id AND {LIVE} ORDER BY id LIMIT :limit
""")
SESSIONS = Session.query(f"""
    SELECT {COLUMNS} FROM project_sessions
     WHERE project_id = :project_id AND id > :after AND (:status IS NULL OR status = :status)
     ORDER BY id LIMIT :limit
""")
# The lead's own program may have told its session since: with it the person at that program goes on.
PROGRAM = """coalesce((SELECT a.session_id FROM _crews AS c JOIN agent_roster AS a ON a.agent_id = c.led_by
                      WHERE c.lead_id = project_sessions.lead_id), session_id)"""
# The unique index on live sessions decides: no row comes back to whoever is second.
START = Session.query(f"""
    INSERT INTO project_sessions (project_id, lead_id, session_id, role, task, status, started_at)
    VALUES (:project_id, :lead_id, (SELECT session_id FROM agent_roster WHERE agent_id = :agent_id), :role,
            :task, 'active', :at)
    ON CONFLICT (project_id, lead_id) WHERE {LIVE} DO NOTHING
    RETURNING {COLUMNS}
""")
END = Session.query(f"""
    UPDATE project_sessions
       SET status = :status, ended_at = :at, claim_boot_ms = NULL, session_id = {PROGRAM}
     WHERE id = :id AND (status = 'active' OR (status = 'resuming' AND claimed_by = :agent_id))
    RETURNING {COLUMNS}
""")
CLAIM = Session.query(f"""
    UPDATE project_sessions
       SET status = 'resuming', claimed_by = :agent_id, claim_boot_ms = :until, claim_epoch = :epoch
     WHERE id = :id AND status IN ('completed', 'crashed', 'stopped')
       AND NOT EXISTS (SELECT 1 FROM project_sessions AS other
                        WHERE other.project_id = project_sessions.project_id
                          AND other.lead_id = project_sessions.lead_id
                          AND other.status IN ('active', 'resuming'))
    RETURNING {COLUMNS}
""")
GO_ON = Session.query(f"""
    UPDATE project_sessions
       SET status = 'active', ended_at = NULL, resumed_at = :at, claim_boot_ms = NULL, session_id = {PROGRAM}
     WHERE id = :id AND status = 'resuming' AND claimed_by = :agent_id AND claim_epoch = :epoch
       AND claim_boot_ms > :now
    RETURNING {COLUMNS}
""")
LAPSE = Session.query(f"""
    UPDATE project_sessions
       SET status = 'stopped', ended_at = coalesce(ended_at, :at), claim_boot_ms = NULL
     WHERE {LIVE} AND status = 'resuming' AND claim_boot_ms <= :now
    RETURNING {COLUMNS}
""")
# An agent's end is that of the session of the crew that it leads, and of a leaderless crew's session when
# nobody is left in that.
CRASH = Session.query(f"""
    UPDATE project_sessions
       SET status = 'crashed', ended_at = :at, claim_boot_ms = NULL, session_id = {PROGRAM}
     WHERE {LIVE}
       AND lead_id IN (SELECT c.lead_id
                         FROM agent_roster AS a JOIN _crews AS c ON c.lead_id = a.lead_id
                        WHERE a.agent_id = :agent_id
                          AND (c.led_by = a.agent_id
                               OR (c.led_by IS NULL
                                   AND NOT EXISTS (SELECT 1 FROM agent_roster AS left_over
                                                    WHERE left_over.lead_id = c.lead_id
                                                      AND left_over.agent_id <> a.agent_id
                                                      AND left_over.status <> 'terminated'))))
    RETURNING {COLUMNS}
""")


class Due(Row):
    due: int | None


NEXT_DUE = Due.query(f"""
    SELECT min(claim_boot_ms) AS due FROM project_sessions WHERE {LIVE} AND status = 'resuming'
""")


class SessionView(Result):
    session_row_id: int
    project_id: str
    lead_id: str
    session_id: str | None = Field(default=None, description="Of the lead's own program")
    role: str | None = None
    task: str | None = None
    status: Status
    started_at: str
    ended_at: str | None = None
    resumed_at: str | None = Field(default=None, description="When it was resumed last")
    claimed_by: str | None = Field(default=None, description="Who resumes it")


class SessionClaim(SessionView):
    claim_epoch: int | None = Field(default=None, description="Pass it to make the session active")
    seconds_left: int | None = Field(default=None, description="Until it is stopped again")


class SessionEnd(SessionView):
    next: str = Field(description="What to do now")


class SessionPage(Result):
    sessions: list[SessionView]
    next_after_id: int | None = None


@tool(writes=True, who="lead")
def start_project_session(tx: Tx, caller: Caller, task: Work, role: RoleId | None = None) -> SessionView:
    """Open your crew's session, its run on one piece of work.

    conflict names the live one: go on in it, or end_project_session.
    """
    lapse(tx)
    here = project.get(tx, caller.project_id)
    if here.status != "active":
        raise InvalidTransition(
            f"The project {here.id} is {here.status}.",
            hint="update_project with status=active opens it again.",
            status=here.status,
            action="start_session",
        )
    session = tx.one(
        START,
        project_id=here.id,
        lead_id=caller.lead_id,
        agent_id=caller.agent_id,
        role=role or caller.role or "lead",
        task=task,
        at=tx.at,
    )
    if session is None:
        live = tx.one(LIVE_OF, project_id=here.id, lead_id=caller.lead_id)
        raise Conflict(
            "Your crew has a live session.",
            hint="Go on in it, or end it with end_project_session.",
            kind="session",
            session_row_id=live.id if live else None,
            status=live.status if live else None,
        )
    _tell(tx, session, "session_started", f"started session {session.id}: {task}")
    return view(session)


@tool(writes=True, who="lead")
def end_project_session(
    tx: Tx,
    caller: Caller,
    status: Annotated[Ending, Field(description="How it ends")] = "completed",
    session_row_id: SessionRowId | None = None,
) -> SessionEnd:
    """End your crew's live session, then record_session_retro.

    invalid_transition tells how it ended before.
    """
    lapse(tx)
    found = _theirs(tx, caller, session_row_id)
    session = tx.one(END, id=found.id, status=status, agent_id=caller.agent_id, at=tx.at)
    if session is None:
        raise _cannot(found, "end")
    _tell(tx, session, "session_ended", f"ended session {session.id} as {status}")
    return SessionEnd(
        **view(session).model_dump(), next=f"record_session_retro with session_row_id {session.id}."
    )


@tool(writes=True, who="lead")
def resume_project_session(
    tx: Tx, caller: Caller, session_row_id: SessionRowId, claim_epoch: ClaimEpoch | None = None
) -> SessionClaim:
    """Resume an ended session: claim it for 60 s, then call again with claim_epoch.

    already_claimed: another resumes it. stale_claim: yours ran out, it is stopped.
    """
    lapse(tx)
    found = _theirs(tx, caller, session_row_id)
    if claim_epoch is not None:
        return _go_on(tx, caller, found, claim_epoch)
    until = tx.now + CLAIM_MS
    session = tx.one(CLAIM, id=found.id, agent_id=caller.agent_id, until=until, epoch=tx.next_fence())
    if session is None:
        raise _not_claimed(tx, found)
    _tell(tx, session, "session_claimed", f"resumes session {session.id}")
    return SessionClaim(
        **view(session).model_dump(), claim_epoch=session.claim_epoch, seconds_left=CLAIM_MS // 1000
    )


def _go_on(tx: Tx, caller: Caller, found: Session, epoch: int) -> SessionClaim:
    """Make a session active by the claim on it. Raises StaleClaim, InvalidTransition."""
    session = tx.one(GO_ON, id=found.id, agent_id=caller.agent_id, epoch=epoch, at=tx.at, now=tx.now)
    if session is None:
        raise StaleClaim(
            f"This is not your claim on session {found.id}, or it has run out.",
            hint="Claim it again without claim_epoch." if found.status in ENDED else None,
            session_row_id=found.id,
            status=found.status,
            claimed_by=found.claimed_by if found.status == "resuming" else None,
        )
    _tell(tx, session, "session_resumed", f"resumed session {session.id}")
    return SessionClaim(**view(session).model_dump())


ENDED = ("completed", "crashed", "stopped")


def _not_claimed(tx: Tx, found: Session) -> AlreadyClaimed | InvalidTransition | Conflict:
    """Why a session could not be claimed."""
    if found.status == "resuming":
        return AlreadyClaimed(
            f"{found.claimed_by} resumes session {found.id}.",
            retry_after_ms=max(0, (found.claim_boot_ms or 0) - tx.now),
            session_row_id=found.id,
            holder=found.claimed_by,
        )
    live = tx.one(LIVE_OF, project_id=found.project_id, lead_id=found.lead_id)
    if found.status == "active" or live is None:
        return _cannot(found, "resume")
    return Conflict(
        f"The crew's session {live.id} is live.",
        hint="End it with end_project_session first.",
        kind="session",
        session_row_id=live.id,
        status=live.status,
    )


def _cannot(session: Session, action: str) -> InvalidTransition:
    """The refusal of an action, with what became of the session."""
    return InvalidTransition(
        f"Session {session.id} is {session.status}; {action} is not possible.",
        hint={
            "active": "End it first.",
            "resuming": f"{session.claimed_by} resumes it.",
        }.get(session.status, "resume_project_session goes on with it; or start a new one."),
        session_row_id=session.id,
        status=session.status,
        ended_at=session.ended_at,
        action=action,
    )


def _theirs(tx: Tx, caller: Caller, session_row_id: int | None) -> Session:
    """A session that the caller may steer, by default the latest of its crew: a human any of the project.

    Raises NotFound, also for another crew's.
    """
    if session_row_id is None:
        latest = {"project_id": caller.project_id, "lead_id": caller.lead_id}
        session = tx.one(LIVE_OF, **latest) or tx.one(LAST_OF, **latest)
    else:
        session = tx.one(SESSION, id=session_row_id)
    whose = (session.project_id, session.lead_id) if session else None
    own = whose == (caller.project_id, caller.lead_id)
    if session is None or not (own or caller.kind == "human"):
        raise NotFound(
            "Your crew has no session."
            if session_row_id is None
            else f"There is no session {session_row_id}.",
            hint="See list_project_sessions, or start_project_session.",
            kind="session",
            given=None if session_row_id is None else str(session_row_id),
        )
    return session


@tool(who="lead")
def list_project_sessions(
    tx: Tx,
    caller: Caller,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    limit: Limit = 50,
    after_id: AfterId = 0,
) -> SessionPage:
    """List the project's sessions by their start, with how each ended.

    Use it to find one to resume.
    """
    rows = tx.all(
        SESSIONS,
        project_id=caller.project_id,
        status=status,
        after=after_id,
        limit=limit + 1,
    )
    shown, more = fitted([view(row) for row in rows], limit)
    return SessionPage(sessions=shown, next_after_id=shown[-1].session_row_id if more else None)


def live_in(tx: Tx, project_id: str, limit: int) -> list[SessionView]:
    """The live sessions of a project by their start."""
    return [view(row) for row in tx.all(LIVE_IN, project_id=project_id, limit=limit)]


def find_session(tx: Tx, session_row_id: int) -> Session | None:
    """A session by its id."""
    return tx.one(SESSION, id=session_row_id)


def session_of(tx: Tx, project_id: str, lead_id: str) -> Session | None:
    """The live session of a crew, else its last one; None where it never had one."""
    crew = {"project_id": project_id, "lead_id": lead_id}
    return tx.one(LIVE_OF, **crew) or tx.one(LAST_OF, **crew)


def end_sessions_of(tx: Tx, agent_id: str) -> list[int]:
    """An agent is gone for good and nobody leads its crew on: the crew's live session ends as crashed. To be
    called while the crew still is its own. The ids of the sessions."""
    ended = tx.all(CRASH, agent_id=agent_id, at=tx.at)
    for session in ended:
        _tell(tx, session, "session_ended", f"session {session.id} crashed: {agent_id} is gone")
    return [session.id for session in ended]


def next_due(tx: Tx) -> int | None:
    """When the next claim on a session runs out, on the boot clock."""
    found = tx.one(NEXT_DUE)
    return found.due if found else None


def lapse(tx: Tx) -> None:
    """Stop the sessions whose claim has run out."""
    for session in tx.all(LAPSE, now=tx.now, at=tx.at):
        _tell(
            tx,
            session,
            "session_ended",
            f"session {session.id} is stopped: {session.claimed_by} claimed it and did not go on",
        )


def _tell(tx: Tx, session: Session, kind: str, said: str) -> None:
    tx.tell(
        Event(
            "projects",
            kind,
            said,
            subject=str(session.id),
            details={"session_row_id": session.id, "status": session.status, "lead_id": session.lead_id},
            project_id=session.project_id,
            lead_id=session.lead_id,
        )
    )


def view(session: Session) -> SessionView:
    """A session as it is shown."""
    return SessionView(
        session_row_id=session.id,
        project_id=session.project_id,
        lead_id=session.lead_id,
        session_id=session.session_id,
        role=session.role,
        task=session.task,
        status=session.status,
        started_at=session.started_at,
        ended_at=session.ended_at,
        resumed_at=session.resumed_at,
        claimed_by=session.claimed_by if session.status == "resuming" else None,
    )
