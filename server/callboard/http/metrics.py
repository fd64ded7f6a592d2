"""/metrics: the board in figures, in the text format of Prometheus and OpenMetrics.

Its one idea: everything is read when it is asked for. The tally of the process holds what has passed, the
store what is there now; nothing is kept twice. Labels are names of this program only (tools, codes,
statuses): no text that an agent has written can be read here.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from callboard import __version__
from callboard.about import About
from callboard.board import Board
from callboard.store import Row, Tx
from callboard.tally import Histogram


class Level(Row):
    kind: str
    status: str
    amount: int


LEVELS = Level.query("""
    SELECT 'agents' AS kind, status, count(*) AS amount FROM agent_roster GROUP BY status
    UNION ALL
    SELECT 'tasks', dag_status, count(*) FROM dag_tasks WHERE archived_at IS NULL GROUP BY dag_status
    UNION ALL
    SELECT 'messages', status, count(*) FROM message_queue WHERE status = 'queued' GROUP BY status
    UNION ALL
    SELECT 'leases', mode, count(*) FROM _leases WHERE expires_boot_ms > :now GROUP BY mode
    UNION ALL
    SELECT 'lock_waiters', mode, count(*) FROM _lock_waiters
     WHERE max(call_until_boot_ms, queue_until_boot_ms) > :now GROUP BY mode
""")

SHOWN = {
    "agents": "Agents on the roster, by status.",
    "tasks": "Tasks that are not archived, by status; a claimed one is in progress.",
    "messages": "Messages that wait for their readers.",
    "leases": "Leases on paths that are in force, by mode.",
    "lock_waiters": "Places in the queues for leases, by mode.",
}
"""What the store is asked for, and what each is, for the reader of the figures."""


def _levels(tx: Tx) -> list[Level]:
    return tx.all(LEVELS, now=tx.now)


class _Reading(Collector):
    """The figures of one moment, as metric families."""

    def __init__(self, board: Board, about: About, levels: list[Level]) -> None:
        self._board = board
        self._about = about
        self._levels = levels

    def collect(self) -> Iterator[Metric]:
        yield from self._passed()
        yield from self._there()

    def _passed(self) -> Iterator[Metric]:
        tally = self._board.store.tally
        calls = CounterMetricFamily(
            "callboard_calls", "Calls that have ended, by outcome.", labels=["tool", "outcome"]
        )
        for (tool, outcome), count in tuple(tally.calls.items()):
            calls.add_metric([tool, outcome], count)
        yield calls
        yield _histogram(
            "callboard_call_seconds",
            "Time to the answer, chosen waiting included.",
            "tool",
            tally.seconds.items(),
        )
        yield _histogram(
            "callboard_wait_seconds", "How long calls slept, by topic.", "topic", tally.waits.items()
        )
        commits = HistogramMetricFamily("callboard_commit_operations", "Operations in one commit.")
        commits.add_metric([], _buckets(tally.groups), tally.groups.sum)
        yield commits

    def _there(self) -> Iterator[Metric]:
        store, about = self._board.store, self._about
        queued = GaugeMetricFamily(
            "callboard_store_queue", "Operations that wait for a thread of the store.", labels=["thread"]
        )
        for thread, depth in store.queued().items():
            queued.add_metric([thread], depth)
        yield queued
        for kind, says in SHOWN.items():
            family = GaugeMetricFamily(f"callboard_{kind}", says, labels=["status"])
            for level in self._levels:
                if level.kind == kind:
                    family.add_metric([level.status], level.amount)
            yield family
        yield GaugeMetricFamily("callboard_wal_bytes", "Size of the store's log.", value=about.wal_bytes)
        if about.quick_check_age_seconds is not None:
            yield GaugeMetricFamily(
                "callboard_quick_check_age_seconds",
                "How long ago the store was looked through for damage.",
                value=about.quick_check_age_seconds,
            )
        yield GaugeMetricFamily(
            "callboard_store_damaged", "1 once damage was found.", value=about.damage is not None
        )
        facts = {"version": __version__, "sqlite": about.sqlite, "durability": about.durability}
        yield InfoMetricFamily("callboard", "What serves here.", value=facts)


def _histogram(
    name: str, says: str, label: str, found: Iterable[tuple[str, Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, says, labels=[label])
    for value, histogram in tuple(found):
        family.add_metric([value], _buckets(histogram), histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """The counts up to each bound, as the format wants them."""
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def route(board: Board, *, auth: bool) -> Route:
    """The route of /metrics over a board. With `auth` callers must bear a token, and are counted like any
    others; which agent it stands for does not matter.

    A store that cannot be read is answered as an error of ours: the scrape has failed, as it should.
    """

    async def answer(request: Request) -> Response:
        levels = await board.store.read(_levels)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Reading(board, board.store.about(), levels))
        ProcessCollector(registry=registry)
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await answer(Request(scope, receive)))(scope, receive, send)

    guarded: ASGIApp = RequireAuthMiddleware(app, []) if auth else app
    return Route("/metrics", _Endpoint(guarded), methods=["GET"])


class _Endpoint:
    """An application as the endpoint of a route, which takes a bare function for a handler of requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
