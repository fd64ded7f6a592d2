"""The names that leases are kept under, and which of them can meet.

A path is stored under its canonical name, `<project>:<repository-relative path or glob>`. Two names can only
meet where the literal beginning of one lies at, above or below that of the other, so what could conflict is
found by the ancestors of a prefix and one range below it, however many leases there are; the exact comparison
is left for the few that are found.
"""

from collections.abc import Mapping
from functools import lru_cache

from callboard import globs


def name_of(project_id: str, path: str) -> str:
    """The canonical name of a repository-relative path or glob."""
    return f"{project_id}:{path}"


def shown(name: str) -> str:
    """A canonical name as agents know it: relative to their repository."""
    return name.partition(":")[2]


def prefix_of(name: str) -> str:
    """The literal beginning of a canonical name, in whole segments."""
    project, _, path = name.partition(":")
    return f"{project}:{globs.literal_prefix(path)}"


@lru_cache(maxsize=1024)
def neighbourhood(name: str) -> Mapping[str, str]:
    """Where a lease must begin to be able to conflict with `name`: the values of `:above`, `:at` and
    `:beyond` in a query. One call asks for the same name up to three times."""
    project, _, prefix = prefix_of(name).partition(":")
    above = ",".join(_quoted(f"{project}:{ancestor}") for ancestor in globs.ancestors(prefix))
    if prefix:
        return {"above": f"[{above}]", "at": f"{project}:{prefix}/", "beyond": f"{project}:{prefix}0"}
    return {"above": f"[{above}]", "at": f"{project}:", "beyond": f"{project};"}


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def overlap(one: str, other: str) -> bool:
    """Whether two canonical names share a path."""
    project, _, path = one.partition(":")
    other_project, _, other_path = other.partition(":")
    return project == other_project and globs.overlaps(path, other_path)


def cover(outer: str, inner: str) -> bool:
    """Whether every path of `inner` is one of `outer`."""
    project, _, path = outer.partition(":")
    other_project, _, other_path = inner.partition(":")
    return project == other_project and globs.covers(path, other_path)
