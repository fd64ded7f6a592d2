"""A stdio server, spoken to by hand: what a test needs that stops it, kills it or closes its pipe."""

import json
import subprocess
from typing import Any

Json = dict[str, Any]

OPENING: Json = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Pipe:
    """A stdio server, spoken to by hand."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.asked = 0

    def send(self, method: str, **params: Any) -> int:
        """Send a request without waiting for its reply; its id."""
        self.asked += 1
        self.write({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params})
        return self.asked

    def write(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def reply(self, asked: int) -> Json:
        """The reply to a request."""
        assert self.process.stdout is not None
        while True:
            message: Json = json.loads(self.process.stdout.readline())
            if message.get("id") == asked:
                assert "result" in message, message
                result: Json = message["result"]
                return result

    def open(self) -> None:
        self.reply(self.send("initialize", **OPENING))
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, tool: str, **arguments: Any) -> int:
        return self.send("tools/call", name=tool, arguments=arguments)

    def refusal(self, tool: str, **arguments: Any) -> Json:
        """Call a tool that must refuse; the refusal."""
        result = self.reply(self.ask(tool, **arguments))
        assert result.get("isError"), result
        error: Json = json.loads(result["content"][0]["text"])["error"]
        return error

    def call(self, tool: str, **arguments: Any) -> Json:
        result = self.reply(self.ask(tool, **arguments))
        assert not result.get("isError"), result
        answer: Json = result["structuredContent"]
        return answer
