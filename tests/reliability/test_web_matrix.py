"""Who may ask a server anything over HTTP: one table of requests as they stand on the wire, each with its
answer.

Every row is put to a whole server process, without authentication and with it, by a stranger and by an
agent. Most rows carry a call that would sign an agent in. It does so where the row says 200, and otherwise
nothing is written (W1). The table holds what pages in a browser can send, and what programs do to confuse a
server on whom a request is meant for.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import apsw

from callboard import integrity
from callboard.board import Config, open_board
from tests.rawhttp import ACCEPT, HOST, JSON, send
from tests.reliability.load import VERSION, request
from tests.serving import Place

PUBLIC = ("--public-url", "https://Board.example/")
MORE = ("--allow-host", "tunnel.internal:9000", "--allow-origin", "https://ide.example")
OWN = "Origin: http://127.0.0.1:{port}"
EVIL = "Origin: https://evil.example"
NO_SESSION = "/messages/?session_id=00000000000000000000000000000000"
ASKING = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")

ACCEPTED_HOSTS = [
    "127.0.0.1:{port}",
    "localhost:{port}",
    "LocalHost:{port}",
    "[::1]:{port}",
    "board.example",
    "BOARD.EXAMPLE",
    "board.example:443",
    "tunnel.internal:9000",
]
REFUSED_HOSTS = [
    "",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:80",
    "127.0.0.1:{port}0",
    "127.0.0.1:0{port}",
    "127.0.0.1:*",
    "127.0.0.1:",
    "127.0.0.1:{port}@evil.example",
    "evil.example@127.0.0.1:{port}",
    "127.0.0.1:{port}.evil.example",
    "127.0.0.1:{port}, evil.example",
    "127.0.0.1.:{port}",
    "127.0.0.1.evil.example:{port}",
    "127.1:{port}",
    "127.0.0.2:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "::1:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "localhost.:{port}",
    "localhost.evil.example:{port}",
    "evil-localhost:{port}",
    "evil.example",
    "evil.example:{port}",
    "http://127.0.0.1:{port}",
    "127.0.0.1:{port}/",
    "board.example.",
    "board.example:80",
    "board.example:{port}",
    "sub.board.example",
    "board.example.evil.example",
    "tunnel.internal",
    "tunnel.internal:9001",
]
ACCEPTED_ORIGINS = [
    "http://127.0.0.1:{port}",
    "http://localhost:{port}",
    "HTTP://LOCALHOST:{port}",
    "http://[::1]:{port}",
    "https://board.example",
    "https://board.example:443",
    "http://tunnel.internal:9000",
    "https://ide.example",
]
REFUSED_ORIGINS = [
    "",
    "null",
    "http://127.0.0.1",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example",
    "http://evil.example:{port}",
    "http://localhost.:{port}",
    "http://localhost.evil.example:{port}",
    "http://localhost:{port}, http://evil.example",
    "http://board.example",
    "https://board.example.evil.example",
    "https://sub.board.example",
    "https://board.example.",
    "https://ide.example:8443",
    "file://",
    "vscode-webview://127.0.0.1:{port}",
]
CONTENT_TYPES = [
    ("application/json", 200),
    ("Application/JSON", 200),
    ("application/json; charset=utf-8", 200),
    ("application/json ;charset=UTF-8", 200),
    ("application/jsonx", 415),
    ("application/json-patch+json", 415),
    ("application/json, text/plain", 415),
    ("text/plain; application/json", 415),
    ("text/plain", 415),
    ("multipart/form-data; boundary=x", 415),
    ("application/x-www-form-urlencoded", 415),
    ("", 415),
]


@dataclass(frozen=True)
class Row:
    """A request, and what is answered to whoever may ask."""

    status: int
    lines: tuple[str, ...]
    """The request line and the headers, which tell what is odd about it."""
    version: str = "1.1"

    @property
    def method(self) -> str:
        return self.lines[0].split(" ")[0]

    @property
    def effective(self) -> bool:
        """Whether the call that it carries takes effect."""
        return self.method == "POST" and self.status == 200

    @property
    def guarded(self) -> bool:
        """Whether it gets as far as where callers must say who they are, if that is asked of them."""
        path = self.lines[0].split(" ")[1]
        return (path == NO_SESSION and self.status == 404) or (path != "/health" and self.status == 200)


def post(status: int, *lines: str, target: str = "/mcp", version: str = "1.1") -> Row:
    """A call by POST; a header that is not given is as it should be."""
    given = {line.split(":")[0].strip().lower() for line in lines}
    usual = (line for line in (HOST, JSON) if line.split(":")[0].lower() not in given)
    return Row(status, (f"POST {target}", *usual, *lines), version)


def rows() -> Iterator[Row]:
    """The table."""
    # By whom it is addressed.
    for host, status in [*((host, 200) for host in ACCEPTED_HOSTS), *((host, 421) for host in REFUSED_HOSTS)]:
        yield post(status, f"Host: {host}")
    yield Row(400, ("POST /mcp", JSON))
    yield Row(421, ("POST /mcp", JSON), version="1.0")
    yield Row(200, ("POST /mcp", HOST, JSON), version="1.0")
    yield post(400, HOST, HOST)
    yield post(400, HOST, "Host: evil.example")
    yield post(400, "Host : 127.0.0.1:{port}")
    yield post(200, "host: 127.0.0.1:{port}")
    yield post(421, "Host: evil.example", "X-Forwarded-Host: 127.0.0.1:{port}")
    yield post(421, "Host: evil.example", "Forwarded: host=127.0.0.1:{port}")
    yield post(200, "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example;proto=https")
    yield post(421, "Host: evil.example", OWN)
    # From which page.
    origins = [
        *((origin, 200) for origin in ACCEPTED_ORIGINS),
        *((origin, 403) for origin in REFUSED_ORIGINS),
    ]
    for origin, status in origins:
        yield post(status, f"Origin: {origin}")
    yield post(403, OWN, OWN)
    yield post(403, OWN, EVIL)
    yield post(200, "Host: LOCALHOST:{port}", "Origin: HTTP://Localhost:{port}")
    yield post(403, "Host: board.example", EVIL)
    yield post(403, EVIL, "Referer: http://127.0.0.1:{port}/", "Sec-Fetch-Site: same-origin")
    # As what.
    for content_type, status in CONTENT_TYPES:
        yield post(status, f"Content-Type: {content_type}")
    yield Row(415, ("POST /mcp", HOST))
    yield post(415, JSON, JSON)
    yield post(415, JSON, "Content-Type: text/plain")
    yield post(403, "Content-Type: text/plain", EVIL)
    yield post(415, "Content-Type: text/plain", OWN)
    # Where.
    for target in (
        "http://evil.example/mcp",
        "http://127.0.0.1:{port}/mcp",
        "//mcp",
        "/mcp/",
        "/MCP",
        "/mcp%2F",
    ):
        yield post(404, target=target)
    for target in ("/./mcp", "/x/../mcp", "/mcp;x", "/", "/nowhere"):
        yield post(404, target=target)
    yield post(421, "Host: evil.example", target="http://127.0.0.1:{port}/mcp")
    yield post(200, target="/mcp?origin=null")
    # How.
    for method in ("PUT", "PATCH", "TRACE"):
        yield Row(405, (f"{method} /mcp", HOST, JSON))
        yield Row(403, (f"{method} /mcp", HOST, JSON, EVIL))
    for method in ("GET", "DELETE"):
        yield Row(403, (f"{method} /mcp", HOST, EVIL))
        yield Row(421, (f"{method} /mcp", "Host: evil.example"))
    yield Row(403, ("OPTIONS /mcp", HOST, EVIL, *ASKING))
    yield Row(403, ("OPTIONS /mcp", HOST, "Origin: null", *ASKING))
    yield Row(421, ("OPTIONS /mcp", "Host: evil.example", *ASKING))
    yield Row(204, ("OPTIONS /mcp", HOST, OWN, *ASKING))
    yield Row(204, ("OPTIONS /nowhere", HOST))
    yield post(403, EVIL, "X-HTTP-Method-Override: GET")
    # The other paths.
    for path in ("/sse", "/health", "/metrics"):
        yield Row(421, (f"GET {path}", "Host: evil.example"))
        yield Row(403, (f"GET {path}", HOST, EVIL))
        yield Row(403, (f"GET {path}", HOST, "Origin: null"))
        yield Row(200, (f"GET {path}", HOST, OWN))
        yield post(405, target=path)
    yield post(421, "Host: evil.example", target=NO_SESSION)
    yield post(403, EVIL, target=NO_SESSION)
    yield post(403, "Origin: null", target=NO_SESSION)
    yield post(415, "Content-Type: text/plain", target=NO_SESSION)
    yield post(404, target=NO_SESSION)


def put(row: Row, name: str, url: str, token: str | None) -> int:
    """Make a row's request, which would sign an agent in; the status that is answered."""
    body = request(1, "register_agent", {"agent_id": name, "role": "developer"})
    more = [ACCEPT, f"MCP-Protocol-Version: {VERSION}", "Mcp-Method: tools/call", "Mcp-Name: register_agent"]
    if row.method in ("POST", "PUT", "PATCH"):
        more.append(f"Content-Length: {len(body)}")
    else:
        body = b""
    if token is not None:
        more.append(f"Authorization: Bearer {token}")
    port = int(url.rpartition(":")[2])
    with send(port, *row.lines, *more, body=body, version=row.version) as connection:
        head = bytearray()
        while b"\r\n" not in head:
            data = connection.recv(4096)
            assert data, f"no answer to {row}"
            head += data
        return int(head.split(b" ", 2)[1])


def written(db: apsw.Connection) -> dict[str, int]:
    """How many rows there are of what agents write."""
    return {
        table: rows for table, rows in integrity.counts(db).items() if table not in ("settings", "_processes")
    }


def signed_in(db: apsw.Connection) -> set[str]:
    return {str(name) for (name,) in db.execute("SELECT agent_id FROM agent_roster")}


def put_all(place: Place, url: str, tokens: dict[str, str], *, stranger: bool) -> list[str]:
    """Put every row; what came out otherwise than it says."""
    wrong: list[str] = []
    with closing(apsw.Connection(str(place.db), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        db.set_busy_timeout(5_000)
        for number, row in enumerate(rows()):
            name = f"row-{number}"
            before = written(db)
            status = put(row, name, url, None if stranger else tokens.get(name))
            # Whoever fails too often is told so with 429.
            wanted = (401, 429) if stranger and row.guarded else (row.status,)
            effective = row.effective and not (stranger and tokens)
            if status not in wanted:
                wrong.append(f"{status}, not {wanted}: {row.lines}")
            if (name in signed_in(db)) != effective or (not effective and written(db) != before):
                wrong.append(f"written against what is said: {row.lines}")
    return wrong


async def issued(place: Place) -> dict[str, str]:
    """A token of each row's agent."""
    async with open_board(Config(folder=place.folder, db=place.db, transport="cli")) as board:
        return {
            f"row-{number}": await board.issue_token(kind="agent", name=f"row-{number}", scope="worker")
            for number, _ in enumerate(rows())
        }


def test_without_authentication_only_what_is_meant_for_the_server_reaches_it(tmp_path: Path) -> None:
    """W1, X6"""
    place = Place(tmp_path)
    with place.http(*PUBLIC, *MORE) as url:
        assert put_all(place, url, {}, stranger=False) == []
    print(f"{len(list(rows()))} requests, {sum(row.effective for row in rows())} of them let in")


def test_with_authentication_a_token_opens_no_door_and_nobody_comes_in_without_one(tmp_path: Path) -> None:
    """W1, ID3"""
    place = Place(tmp_path)
    tokens = anyio.run(issued, place)
    with place.http("--auth", *PUBLIC, *MORE) as url:
        assert put_all(place, url, tokens, stranger=True) == []
        assert put_all(place, url, tokens, stranger=False) == []
    print(f"{len(tokens)} requests by a stranger, of which none was let in, and as many by agents")
