"""The proofs at a release's size, and the seeded bugs that they must notice, with their figures.

    python -m tests.prove [--seed N] [--only NAME]... [--quick] [--json FILE]
    python -m tests.prove --mutants [--only M7]... [--json FILE]

Every proof is a test that `pytest` runs too, in a small size. `--seed` repeats a run.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.reliability.mutants import Mutant, waiting, working

ROOT = Path(__file__).resolve().parents[1]
HANGS_AFTER = 180.0
"""Seconds after which a run with a seeded bug is over: a bug that lets a test wait for ever is noticed."""

PROOFS = {
    "access": ("tests/reliability/test_access.py",),
    "audit hook": ("tests/reliability/test_reach.py",),
    "backup drill": ("tests/reliability/test_backup_drill.py",),
    "clocks": ("tests/reliability/test_clocks.py",),
    "corpora": ("tests/reliability/test_corpora.py",),
    "corruption": ("tests/reliability/test_corruption.py",),
    "faults": ("tests/reliability/test_faults.py",),
    "fuzz": ("tests/reliability/test_fuzz.py",),
    "human gate": ("tests/reliability/test_human_gate.py",),
    "limits": ("tests/reliability/test_limits.py",),
    "load": ("tests/reliability/test_load.py",),
    "lock history": ("tests/reliability/test_lock_races.py", "tests/reliability/test_lock_history.py"),
    "lock machine": ("tests/reliability/test_lock_machine.py",),
    "lost replies": ("tests/reliability/test_lost_replies.py",),
    "neutral output": ("tests/test_neutral_output.py",),
    "power loss": ("tests/reliability/test_power_loss.py",),
    "queue kills": ("tests/reliability/test_queue_kills.py",),
    "simulation": ("tests/reliability/test_simulation.py",),
    "small histories": ("tests/reliability/test_linear.py",),
    "server kills": ("tests/reliability/test_server_kills.py",),
    "start crashes": ("tests/reliability/test_start_crashes.py",),
    "starts": ("tests/reliability/test_starts.py",),
    "task machine": ("tests/reliability/test_task_machine.py",),
    "task races": ("tests/reliability/test_task_races.py", "tests/reliability/test_together.py"),
    "timers": ("tests/reliability/test_timer_processes.py",),
    "web matrix": ("tests/reliability/test_web_matrix.py",),
}
"""What is proved, and by which tests."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one proof or one seeded bug."""

    name: str
    outcome: str
    seconds: float
    figures: list[str]


def run(tests: Sequence[str], tree: Path, *, stop: bool, **told: str) -> "subprocess.CompletedProcess[str]":
    """Run tests on the product of a tree, as processes of their own."""
    environment = os.environ | {"PYTHONPATH": str(tree / "server")} | told
    options = ["-q", "-p", "no:cacheprovider", "-rfEP", *(["-x"] if stop else [])]
    options += ["-o", "faulthandler_timeout=0"]  # a proof at its full size takes as long as it takes
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER if stop else None,
    )


def figures(output: str) -> list[str]:
    """What the tests printed of their work."""
    printed = re.findall(r"^-+ Captured stdout call -+\n((?:(?![-_=]{5}).*\n)*)", output, re.MULTILINE)
    return [line for block in printed for line in block.splitlines() if line]


def proofs(names: Sequence[str], seed: int, *, quick: bool) -> Iterator[Verdict]:
    """Run the proofs, each at its full size unless `quick`."""
    told = {"CALLBOARD_SEED": str(seed)} | ({} if quick else {"CALLBOARD_PROOF": "full"})
    for name in names:
        began = time.monotonic()
        done = run(PROOFS[name], ROOT, stop=False, **told)
        outcome = "holds" if done.returncode == 0 else "FAILS"
        if done.returncode:
            print(done.stdout[-4_000:], file=sys.stderr)
        yield Verdict(name, outcome, round(time.monotonic() - began, 1), figures(done.stdout))


def seeded(mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    """Make each seeded bug in a copy of the tree and see whether its tests notice. Without any they pass, or
    a failure would say nothing."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", ".*_cache", "dist")
        shutil.copytree(ROOT, tree, ignore=ignored, symlinks=True)
        began = time.monotonic()
        sound = run(sorted({test for mutant in mutants for test in mutant.tests}), tree, stop=False)
        yield Verdict(
            "none",
            "passes" if sound.returncode == 0 else "FAILS",
            round(time.monotonic() - began, 1),
            [line for line in sound.stdout.splitlines() if re.match("(FAILED|ERROR) tests/", line)],
        )
        for mutant in mutants:
            began = time.monotonic()
            kept = {edit.file: (tree / "server/callboard" / edit.file).read_bytes() for edit in mutant.edits}
            for edit in mutant.edits:
                edit.apply(tree)
            try:
                done = run(mutant.tests, tree, stop=True)
                outcome = {0: "MISSED", 1: "caught"}.get(done.returncode, "BROKEN")
                by = re.findall(r"^(?:FAILED|ERROR) (tests/\S+)", done.stdout, re.MULTILINE)
            except subprocess.TimeoutExpired:
                outcome, by = "caught", ["by waiting for ever"]
            for file, content in kept.items():
                (tree / "server/callboard" / file).write_bytes(content)
            yield Verdict(
                mutant.name, outcome, round(time.monotonic() - began, 1), [mutant.bug, mutant.promise, *by]
            )


def main() -> int:
    """Print a table as it comes, and all of it as JSON where asked; 1 when something did not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", action="append", help="a proof, or with --mutants a seeded bug")
    parser.add_argument("--mutants", action="store_true", help="make the seeded bugs one by one")
    parser.add_argument("--quick", action="store_true", help="the size of a pull request")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = parser.parse_args()
    everything = (*waiting.MUTANTS, *working.MUTANTS)
    known = {mutant.name for mutant in everything} if given.mutants else set(PROOFS)
    if odd := set(given.only or ()) - known:
        parser.error(f"unknown: {', '.join(sorted(odd))}; there are {', '.join(sorted(known))}")
    if given.mutants:
        verdicts = seeded([mutant for mutant in everything if mutant.name in (given.only or known)])
    else:
        print(f"seed {given.seed}", flush=True)
        verdicts = proofs(
            [name for name in PROOFS if name in (given.only or known)], given.seed, quick=given.quick
        )
    found = []
    for verdict in verdicts:
        found.append(verdict)
        told = "; ".join(verdict.figures)
        print(f"{verdict.name:16} {verdict.outcome:7} {verdict.seconds:7.1f} s  {told}", flush=True)
    bad = [verdict.name for verdict in found if verdict.outcome not in ("holds", "caught", "passes")]
    print(f"{len(found) - len(bad)} of {len(found)}" + (f"; not: {', '.join(bad)}" if bad else ""))
    if given.json is not None:
        result = {"seed": given.seed, "python": sys.version.split()[0], "found": [asdict(v) for v in found]}
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
