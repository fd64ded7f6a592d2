"""Requests over HTTP as they stand on the wire, written by hand, and what is answered."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, cast

PATIENCE = 30.0
"""Seconds after which a test gives up. When all is well nothing waits that long."""

Json = dict[str, Any]


@dataclass
class Reply:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @classmethod
    def read(cls, connection: socket.socket, method: str = "POST") -> "Reply":
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        with response:
            return cls(response.status, response.headers, response.read())

    @property
    def json(self) -> Json:
        assert self.headers["Content-Type"] == "application/json"
        return cast(Json, json.loads(self.body))


HOST = "Host: 127.0.0.1:{port}"
JSON = "Content-Type: application/json"
ACCEPT = "Accept: application/json, text/event-stream"


def send(port: int, *lines: str, body: bytes = b"", version: str = "1.1") -> socket.socket:
    """A connection on which a request was made, its header lines exactly as given."""
    method, target = lines[0].split(" ", 1)
    head = "\r\n".join([f"{method} {target} HTTP/{version}", *lines[1:], "Connection: close", "", ""])
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connection.sendall(head.replace("{port}", str(port)).encode("latin-1") + body)
    return connection
