"""A crew in the middle of its day, for the tests of the views over everything."""

from dataclasses import dataclass

from callboard.identity import Principal
from tests.conftest import Agent, Board


@dataclass(frozen=True)
class Scene:
    board: Board
    human: Principal
    lea: Agent
    """Leads the crew."""
    ann: Agent
    """In the middle of a task that was given back to her once."""
    ben: Agent
    """Works beside her."""
    cara: Agent
    """Reviews."""
    noa: Agent
    """Has just come."""


async def played(board: Board) -> Scene:
    """Let a crew work for a while on access tokens that expire."""
    human = await board.human()
    await board.call(
        "put_knowledge",
        token=human,
        category="core",
        key="releases",
        content="Never push to main. A release is cut by a person from a tagged commit.",
    )
    await board.call(
        "put_knowledge",
        token=human,
        category="core",
        key="customer data",
        content="Test data is made up. No customer's data leaves the production database, "
        "not into a fixture, a log or a message.",
    )
    lea = await board.agent("lea", role="lead")
    await lea.start_project_session(task="Sessions live in Redis.")
    await lea.end_project_session()
    await lea.record_session_retro(
        data={
            "lessons": {
                "migrations alone": "Land a migration before the code that needs it; two agents waited "
                "for one branch that held both.",
            },
            "went well": "Reviews came within the hour, because files were small.",
        }
    )
    await lea.start_project_session(
        task="Access tokens expire after an hour and are renewed without a login."
    )
    ann, ben = await board.agent("ann"), await board.agent("ben")
    cara = await board.agent("cara", role="code-reviewer")
    await lea.add_dag_tasks(tasks=TASKS)
    await lea.add_dag_tasks(
        tasks=[
            {"id": f"endpoint-{name}", "role": "developer", "title": title, "files": [f"src/api/{name}.py"]}
            for name, title in ENDPOINTS.items()
        ]
    )
    await ben.add_collective_memory(
        category="gotcha",
        key="frozen clock in tests",
        value="tests/conftest.py freezes time at import; a module that reads the clock when it is imported "
        "sees the frozen time for good. Read it in the function.",
    )
    await ann.put_knowledge(
        category="procedural",
        key="run the token tests",
        content="make test-auth runs the tests of src/auth alone, in 8 s; it needs the redis of compose.",
    )
    await ann.put_knowledge(
        category="semantic",
        key="token claims",
        content="Tokens carry sub, exp and jti. exp is whole seconds since 1970, as RFC 7519 has it.",
    )
    for key, content in NOTES.items():
        await ben.put_knowledge(category="semantic", key=key, content=content)
    await _schema_is_done(board, ben)
    for title, rationale in DECISIONS.items():
        await lea.record_decision(title=title, rationale=rationale, category="architecture")
    await ann.record_decision(
        title="Log users out of all devices when their password changes",
        rationale="The product text promises it, the present code does not do it.",
        needs_confirmation=True,
        options=["all devices", "only this device"],
    )
    await _ann_is_in_the_middle(board, lea, ann, cara)
    await ben.claim_dag_task(task_id="rate-limit", lock_files=True)
    await lea.send_message(to="ann", content="The mobile team asks for the shape of the error body.")
    board.clock.turn(20)
    for agent in (lea, ann, ben, cara):
        await agent.heartbeat()
    noa = await board.agent("noa", model="m-1")
    return Scene(board, human, lea, ann, ben, cara, noa)


async def _schema_is_done(board: Board, ben: Agent) -> None:
    claim = await ben.claim_dag_task(task_id="schema")
    board.clock.turn(300)
    await ben.complete_dag_task(
        task_id="schema",
        claim_epoch=claim["claim_epoch"],
        summary="refresh_tokens has family_id and used_at; migration 0042, reversible. "
        "Families are deleted with their user.",
    )


async def _ann_is_in_the_middle(board: Board, lea: Agent, ann: Agent, cara: Agent) -> None:
    await ann.claim_dag_task(task_id="refresh", lock_files=True)
    await ann.submit_dag_task(task_id="refresh", summary="First version", reviewer_id="cara")
    await cara.review_dag_task(
        task_id="refresh",
        verdict="reject",
        comment="Two requests with the same token race: both get a new one. Let one statement decide.",
    )
    await ann.set_agent_plan(
        entries=[
            {"content": "Write the rotation", "status": "completed"},
            {"content": "Make the use of a token one UPDATE … RETURNING", "status": "in_progress"},
            {"content": "Test two clients with one token", "task_id": "refresh"},
        ]
    )
    await ann.set_agent_memory(key="branch", value="auth/refresh-rotation, rebased on main this morning")
    await ann.set_agent_memory(
        key="where I am",
        value="rotate() in src/auth/refresh.py is half rewritten; test_race is red on purpose",
    )
    await ann.acquire_file_lock(file_path="docs/auth.md", reason="error body")


TASKS = [
    {
        "id": "schema",
        "role": "developer",
        "title": "Tables for refresh tokens",
        "files": ["migrations/0042_refresh_tokens.sql"],
    },
    {
        "id": "refresh",
        "role": "developer",
        "title": "Rotate refresh tokens",
        "description": "POST /token/refresh takes a refresh token and returns a new pair. A token is used "
        "once; a second use revokes its family and answers 401 with error=reused. Keep p99 under 20 ms. "
        "Tests for expiry, reuse and two clients at once.",
        "files": ["src/auth/refresh.py", "tests/auth/test_refresh.py"],
        "depends_on": ["schema"],
        "priority": 5,
    },
    {
        "id": "rate-limit",
        "role": "developer",
        "title": "Limit failed refreshes per address",
        "files": ["src/auth/limits.py"],
    },
    {
        "id": "client",
        "role": "developer",
        "title": "Renew tokens in the web client",
        "description": "On 401 with error=expired call /token/refresh once and repeat the request.",
        "files": ["web/src/session.ts"],
    },
    {"id": "docs", "role": "tech-writer", "title": "Describe the token endpoints", "files": ["docs/auth.md"]},
    {
        "id": "e2e",
        "role": "qa-tester",
        "title": "Sign in, wait an hour, still signed in",
        "depends_on": ["refresh", "client"],
    },
]

NOTES = {
    "error bodies": "Every 4xx of the API has a JSON body with error (a word of a closed list), message and "
    "request_id. The list is in docs/errors.md.",
    "clock skew": "Two servers may differ by 2 s. Whoever compares a time from a token with the own clock "
    "allows for 5 s.",
    "redis keys": "Keys begin with the service and the kind, auth:family:<id>, and all of them have a time "
    "to live. Nothing lists keys in production.",
    "rate limits": "The gateway counts per address and per account, in windows of a minute. 429 carries "
    "Retry-After in seconds.",
    "test database": "Each test worker has a schema of its own, made from the migrations; a test that "
    "commits cleans up after itself.",
    "feature flags": "Flags are read once for each request from config/flags.toml; a flag that is two months "
    "old is removed.",
    "logging": "Log lines are JSON. The token itself is never logged, only its jti. A test in "
    "tests/test_logging.py looks for it.",
    "web sessions": "web/src/session.ts keeps the access token in memory and the refresh token in a cookie "
    "that scripts cannot read.",
    "latency": "The budget of a sign-in is 200 ms at p99, of which the password hash takes 120. Nothing else "
    "may block the worker.",
    "ids": "Ids are UUIDv7, made by the application. The database never makes one, so that a retry inserts "
    "the same row.",
    "background jobs": "Jobs run at least once. A job that sends mail writes a row with the key of its cause "
    "first.",
    "reviews": "A change of src/auth needs two readers, one of them from the security rota.",
}

DECISIONS = {
    "Access tokens live for an hour": "Long enough for a shopping tour, short enough that a lost one "
    "is no disaster.",
    "Tokens are signed with Ed25519": "Small signatures, and the library that we ship has it "
    "without a C compiler.",
    "No token in a URL": "URLs are logged by every proxy on the way and kept in the history of browsers.",
    "The old cookie is honoured until the end of the quarter": "The mobile client is updated slowly.",
    "Families are revoked in the database": "A list in Redis is lost when it restarts, and then a "
    "revoked one is good.",
    "Refresh tokens are single use": "A stolen one is noticed when it is used a second time, and the whole "
    "family is revoked.",
}

ENDPOINTS = {
    "orders": "Accept the new tokens in the orders endpoints",
    "basket": "Accept the new tokens in the basket endpoints",
    "profile": "Accept the new tokens in the profile endpoints, and drop the password from their cache",
    "search": "Accept the new tokens in the search endpoints",
    "payments": "Accept the new tokens in the payment endpoints, behind the flag new-tokens",
    "returns": "Accept the new tokens in the returns endpoints",
    "invoices": "Accept the new tokens in the invoice endpoints",
    "admin": "Accept the new tokens in the admin endpoints, with the shorter lifetime",
}
