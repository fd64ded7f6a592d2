"""What a call costs from outside: over a pipe, over HTTP, while one waits; and what a server costs that does
nothing yet, or nothing any more.

A lock call here takes a path that is free, each time another one, as an agent does before an edit. What was
taken is given back between the turns, off the clock.
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.rows import ROUNDS, Row, at_once, in_turn, within
from benchmarks.wire import (
    BARE,
    BARE_HTTP,
    OURS,
    Script,
    Web,
    Wire,
    awaited,
    drive,
    environment,
    piped,
    serving,
)

CLIENTS = 16

SAME_MS, ACROSS_MS = 2.0, 10.0
"""Within which a waiter is woken, in the median: through one process, and through two."""

IDLE, IDLE_WAITED_ON = 0.001, 0.03
"""What of a core a server takes that nobody calls, and one on which clients wait."""

WAITERS = 20

_numbers = itertools.count()


def free_path() -> str:
    """A path that nobody holds and nobody has held."""
    number = next(_numbers)
    return f"src/part{number // 100}/module{number}.py"


def _take(wire: Wire, agent: str) -> None:
    wire.call("acquire_file_lock", agent_id=agent, file_path=free_path())


async def stdio(folder: Path, quick: bool) -> list[Row]:
    """One call after the other over a pipe."""
    times, rounds = (100, ROUNDS) if quick else (300, 3 * ROUNDS)
    with piped(folder) as ours, piped(folder, BARE) as bare:
        beside = "a bare server's echo", at_once(lambda: bare.call("echo", text="src/a.py"), times)
        read = partial(ours.call, "check_file_lock", agent_id="bench", file_path="src/a.py")
        give_back = partial(ours.call, "release_file_locks", agent_id="bench")
        return [
            await in_turn(
                "stdio: acquire_file_lock",
                ("a free path, durable", at_once(partial(_take, ours, "bench"), times, give_back)),
                beside,
                at_most=1.0,
                rounds=rounds,
            ),
            await in_turn("stdio: check_file_lock", ("a read", at_once(read, times)), beside, rounds=rounds),
        ]


async def http(folder: Path, quick: bool) -> list[Row]:
    """One client's calls one after the other, and those of sixteen at once."""
    times, rounds = (30, ROUNDS) if quick else (100, 3 * ROUNDS)
    with ExitStack() as stack:
        url, _ = stack.enter_context(serving(folder))
        bare_url, _ = stack.enter_context(serving(folder, BARE_HTTP))
        wires = [stack.enter_context(Web(url)) for _ in range(CLIENTS)]
        bare = [stack.enter_context(Web(bare_url)) for _ in range(CLIENTS)]
        names = [f"client-{number}" for number in range(CLIENTS)]
        for wire, name in zip(wires, names, strict=True):
            wire.call("register_agent", agent_id=name, role="developer")

        def taking(name: str) -> Script:
            for _ in range(times):
                yield "acquire_file_lock", {"agent_id": name, "file_path": free_path()}

        def echoing() -> Script:
            for _ in range(times):
                yield "echo", {"text": "src/a.py"}

        def give_back() -> None:
            for wire, name in zip(wires, names, strict=True):
                wire.call("release_file_locks", agent_id=name)

        async def ours_of(clients: int) -> float:
            begun = time.perf_counter()
            drive((wire, taking(name)) for wire, name in zip(wires[:clients], names[:clients], strict=True))
            took = 1000 * (time.perf_counter() - begun) / (clients * times)
            give_back()
            return took

        async def bare_of(clients: int) -> float:
            begun = time.perf_counter()
            drive((wire, echoing()) for wire in bare[:clients])
            return 1000 * (time.perf_counter() - begun) / (clients * times)

        return [
            await in_turn(
                f"HTTP, {'1 client' if clients == 1 else f'{clients} clients'}: acquire_file_lock",
                ("a free path, durable", partial(ours_of, clients)),
                ("a bare server's echo", partial(bare_of, clients)),
                at_most=1.3,
                rounds=rounds if clients == 1 else ROUNDS,
            )
            for clients in (1, CLIENTS)
        ]


def _woken(sender: Wire, receiver: Wire, count: int) -> tuple[float, float]:
    """How soon a message reached an agent that waited for it, in the median, in milliseconds: from the
    moment before the sender's request is written to when the waiter's answer has been read; and from when the
    sender's answer has been read, 0 where the waiter had its own before that."""
    late: list[float] = []
    later: list[float] = []
    done: list[int] = []
    for number in range(count):
        waiting = receiver.begin("receive_messages", agent_id="waiter", wait_seconds=50, ack_ids=done)
        time.sleep(0.01)  # until the receiver waits: what it gets at once is no waking
        begun = time.perf_counter()
        sending = sender.begin("send_message", agent_id="caller", to="waiter", content=f"{number}")
        (sent, _), (came, answer) = awaited((sender, sending), (receiver, waiting))
        late.append(1000 * (came - begun))
        later.append(1000 * max(0.0, came - sent))
        done = [message["message_id"] for message in answer["messages"]]
    receiver.call("receive_messages", agent_id="waiter", ack_ids=done)
    return median(late), median(later)


async def waking(folder: Path, quick: bool) -> list[Row]:
    """From one agent's call that sends to the answer that brings the message to one who waits."""
    count = 20 if quick else 60
    with ExitStack() as stack:
        first, second = stack.enter_context(piped(folder)), stack.enter_context(piped(folder))
        one, _ = stack.enter_context(serving(folder))
        other, _ = stack.enter_context(serving(folder))
        webs = [stack.enter_context(Web(url)) for url in (one, one, other)]
        for name in ("caller", "waiter"):
            first.call("register_agent", agent_id=name, role="developer")
        ways: dict[str, tuple[Wire, Wire, float]] = {
            "through one stdio process": (first, first, SAME_MS),
            "through one HTTP process": (webs[0], webs[1], SAME_MS),
            "from one stdio process to another": (first, second, ACROSS_MS),
            "from one HTTP process to another": (webs[0], webs[2], ACROSS_MS),
        }
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, (sender, receiver, _) in ways.items():
                found = _woken(sender, receiver, count)
                if turn:  # the first is to warm
                    took[name].append(found)
    return [
        within(
            f"a waiter is woken {name}",
            f"p50 from the send to the waiter's answer; "
            f"from the sender's own answer {median(after for _, after in took[name]):.2f} ms",
            [whole for whole, _ in took[name]],
            limit,
            "ms",
        )
        for name, (_, _, limit) in ways.items()
    ]


def _memory(process: int) -> tuple[float, float]:
    """What a process has in memory, and its share of what it shares with others, in MiB."""
    kib = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kib[name] = int(value)
    return kib["Rss:"] / 1024, kib["Pss:"] / 1024


async def start(folder: Path, quick: bool) -> list[Row]:
    """From the start of the process to its first answer, and to that of its first call; and what it has in
    memory after that."""
    sizes: dict[tuple[str, ...], list[tuple[float, float]]] = {OURS: [], BARE: []}

    def side(
        command: tuple[str, ...], call: Callable[[Wire], object] | None
    ) -> Callable[[], Awaitable[float]]:
        async def started() -> float:
            begun = time.perf_counter()
            with piped(folder, command) as server:
                if call is not None:
                    call(server)
                took = 1000 * (time.perf_counter() - begun)
                if call is not None:
                    sizes[command].append(_memory(server.process.pid))
            return took

        return started

    rounds = ROUNDS if quick else 3 * ROUNDS
    heartbeat, echo = (
        lambda wire: wire.call("heartbeat", agent_id="bench"),
        lambda wire: wire.call("echo", text="a"),
    )
    rows = [
        await in_turn(
            "start of a stdio server to its first answer",
            ("callboard, on a store that is there", side(OURS, None)),
            ("a bare server", side(BARE, None)),
            at_most=1.2,
            rounds=rounds,
        ),
        await in_turn(
            "start of a stdio server to its first call's answer",
            ("callboard: heartbeat", side(OURS, heartbeat)),
            ("a bare server: echo", side(BARE, echo)),
            at_most=1.2,
            rounds=rounds,
        ),
    ]
    for which, kind in enumerate(("resident", "proportional")):
        ours, bare = ([size[which] for size in sizes[command]] for command in (OURS, BARE))
        ratios = [mine / other for mine, other in zip(ours, bare, strict=True)]
        rows.append(
            Row(
                f"memory of a stdio server, {kind}",
                "callboard, after its first call",
                "a bare server",
                median(ours),
                median(bare),
                median(ratios),
                "at most 1.2 times",
                1.2,
                rounds=rounds,
                unit="MiB",
                spread=(min(ratios), max(ratios)),
            )
        )
    return rows


def _busy(process: int, seconds: float) -> float:
    """The share of a core that a process takes over a while, as the kernel counts it."""

    def ran() -> float:
        # In nanoseconds, of every thread: ticks of 10 ms would not tell a thousandth.
        return sum(
            int(task.read_text().split()[0]) for task in Path(f"/proc/{process}/task").glob("*/schedstat")
        )

    begun, before = time.perf_counter(), ran()
    time.sleep(seconds)
    return (ran() - before) / 1e9 / (time.perf_counter() - begun)


async def idle(folder: Path, quick: bool) -> list[Row]:
    """What servers take of a core while nobody calls, and while clients wait for what does not come."""
    seconds = 2 if quick else 20
    with ExitStack() as stack:
        pipe = stack.enter_context(piped(folder))
        url, web = stack.enter_context(serving(folder))
        pipe.call("heartbeat", agent_id="bench")
        wires = [stack.enter_context(Web(url)) for _ in range(WAITERS)]
        for number, wire in enumerate(wires):
            wire.call("register_agent", agent_id=f"waiter-{number}", role="developer")
        time.sleep(1)  # until what a start leaves to do is done
        rows = [
            within(f"an idle {kind} server", "of a core", [100 * busy], 100 * IDLE, "%")
            for kind, busy in (("stdio", _busy(pipe.process.pid, seconds)), ("HTTP", _busy(web, seconds)))
        ]
        waiting = [
            wire.begin("receive_messages", agent_id=f"waiter-{number}", wait_seconds=min(50, 2 * seconds + 4))
            for number, wire in enumerate(wires)
        ]
        piped_wait = pipe.begin("receive_messages", agent_id="bench", wait_seconds=min(50, 2 * seconds + 4))
        time.sleep(0.5)
        rows += [
            within(name, "of a core", [100 * busy], 100 * IDLE_WAITED_ON, "%")
            for name, busy in (
                (f"an HTTP server on which {WAITERS} clients wait", _busy(web, seconds)),
                ("a stdio server whose client waits", _busy(pipe.process.pid, seconds)),
            )
        ]
        for wire, asked in zip(wires, waiting, strict=True):
            wire.wait(asked)
        pipe.wait(piped_wait)
    return rows


def _ended(folder: Path, told: bytes, *command: str) -> Callable[[], object]:
    """A whole process, from its start to its end."""

    def run() -> None:
        subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment() | {"CALLBOARD_AGENT": "bench"},
            input=told,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    return run


async def hooks(folder: Path, quick: bool) -> list[Row]:
    """A hook before an edit and a guard's decision about a commit, each a whole process."""
    told = {"session_id": "s", "cwd": str(folder), "hook_event_name": "PreToolUse", "tool_name": "Edit"}
    edit = json.dumps({**told, "tool_input": {"file_path": str(folder / "free.py")}}).encode()
    ended = partial(_ended, folder)
    loading = at_once(ended(b"", "-c", "import apsw"), 1)
    commands = {
        "a hook before an edit": (edit, "hook", "claude-code", "pre-tool-use"),
        "a guard's decision about a commit": (b"", "guard", "check", "pre-commit"),
    }
    return [
        await in_turn(
            name,
            ("the whole process", at_once(ended(given, "-m", "callboard", *command), 1)),
            ('python -c "import apsw"', loading),
            at_most=3.0,
            rounds=2 * ROUNDS if quick else 4 * ROUNDS,
        )
        for name, (given, *command) in commands.items()
    ]
