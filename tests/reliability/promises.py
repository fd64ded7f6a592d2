"""The promises, and which tests prove each: `promises.toml`, the docstrings, and the table of both.

    python -m tests.reliability.promises [--write]

A test carries the ids of what it proves in its docstring, as `L1, Q3` or `K1 to K8`. Any id there counts, and
one that is not in the list is found out, so that neither outlives the other.
"""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"

LISTED: Mapping[str, Mapping[str, str]] = tomllib.loads(
    Path(__file__).with_name("promises.toml").read_text(encoding="utf-8")
)
"""The promises by the part of the product that they are about."""

PROMISES: Mapping[str, str] = {name: text for part in LISTED.values() for name, text in part.items()}

ID = re.compile(r"\b(ID|[CGHKLNPQSTWX])([1-9]\d?)\b")
RANGE = re.compile(rf"{ID.pattern} to {ID.pattern}")
BEGIN, END = "<!-- the promises, generated -->", "<!-- the end of the promises -->"


def ids(text: str) -> set[str]:
    """The ids that a docstring names, those within a range too."""
    found = {kind + number for kind, number in ID.findall(text)}
    for kind, first, same, last in RANGE.findall(text):
        if kind == same:
            found |= {f"{kind}{number}" for number in range(int(first), int(last) + 1)}
    return found


def tests(path: Path) -> Iterator[tuple[str, str]]:
    """The tests of a file with their docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def proofs(root: Path = ROOT) -> dict[str, list[str]]:
    """The tests below a root that name each id, as `tests/file.py::test`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((root / "tests").rglob("test_*.py")):
        for name, docstring in tests(path):
            for each in sorted(ids(docstring)):
                found[each].append(f"{path.relative_to(root).as_posix()}::{name}")
    return found


def table(proved: Mapping[str, list[str]]) -> str:
    """Each promise with the files whose tests prove it."""
    lines = ["| id | promise | proved in `tests/` by |", "|---|---|---|"]
    for part, promises in LISTED.items():
        lines.append(f"| | **{part}** | |")
        for name, text in promises.items():
            files = sorted({test.partition("::")[0].removeprefix("tests/") for test in proved.get(name, ())})
            lines.append(f"| {name} | {text} | {', '.join(f'`{file}`' for file in files)} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(proofs())}\n{END}{after}"


def main() -> int:
    """Write the page, or say whether it is up to date."""
    text = PAGE.read_text(encoding="utf-8")
    if (wanted := page(text)) == text:
        return 0
    if "--write" not in sys.argv[1:]:
        print(f"{PAGE.relative_to(ROOT)} is out of date; --write makes it anew", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
