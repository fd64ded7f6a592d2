"""An agent that calls as fast as it can, over many connections, until its input is closed.

    python flooder.py URL TOKEN CONNECTIONS

It says when it is refused for the first time, and in the end how often it was answered what, as JSON.
"""

import asyncio
import json
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.reliability.load import Web


async def flood(url: str, token: str, connections: int) -> Counter[str]:
    """Call and call; how often it was answered, by the code of the refusal or `ok`."""
    answers: Counter[str] = Counter()
    refused = asyncio.Event()

    async def pour() -> None:
        with closing(Web(url, token)) as web:
            while True:
                answer = await web.ask("whoami", {})
                answers[answer.get("error", {}).get("code", "ok")] += 1
                if "error" in answer:
                    refused.set()

    pouring = [asyncio.create_task(pour()) for _ in range(connections)]
    await refused.wait()
    print("refused", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in pouring:
        task.cancel()
    for ended in await asyncio.gather(*pouring, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    return answers


if __name__ == "__main__":
    _, url, token, connections = sys.argv
    print(json.dumps(asyncio.run(flood(url, token, int(connections)))))
