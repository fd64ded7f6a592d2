"""Git's hooks: the guard put beside what is there, and taken out again without a trace.

A hook that stands in the guard's place is kept under another name and run after it, as if it still stood in
its own: a shell script is read by its own interpreter with its old name in `$0`, since some find their way by
it (as husky's do). Where there was none, there is none afterwards. A hooks folder that belongs to more than
this repository is left alone.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from callboard.guards.committing import REFUSED
from callboard.guards.git import GitFailed, hooks_folder

GUARDED = ("pre-commit", "pre-push")

KEPT = ".callboard-kept"
"""What is added to the name of a hook that was there before."""

_MARK = "# The guard of callboard. To take it out: callboard guard uninstall"


class Placed(NamedTuple):
    """What became of one hook."""

    hook: Path
    chained: bool
    """Whether another hook runs after the guard, or stands alone again."""


class NotPlaced(Exception):
    """The guard can neither be put in nor taken out as things are; the message says what to do."""


def install(folder: Path) -> list[Placed]:
    """Put the guard before each commit and push of the repository around `folder`; again, it is brought up
    to date. Raises NotPlaced."""
    hooks = _own_folder(folder)
    hooks.mkdir(parents=True, exist_ok=True)
    return [_put_in(hooks / name, name) for name in GUARDED]


def uninstall(folder: Path) -> list[Placed]:
    """Take the guard out, and put back what was there before, byte for byte. Raises NotPlaced."""
    hooks = _own_folder(folder)
    found = (_take_out(hooks / name) for name in GUARDED)
    return [placed for placed in found if placed is not None]


def is_installed(folder: Path) -> bool:
    """Whether the guard stands before each commit and push. Raises NotPlaced."""
    hooks = _folder(folder)[0]
    return all(_is_ours(hooks / name) for name in GUARDED)


def _folder(folder: Path) -> tuple[Path, bool]:
    try:
        return hooks_folder(folder)
    except GitFailed as error:
        raise NotPlaced(f"There is no git repository to guard: {error}.") from error


def _own_folder(folder: Path) -> Path:
    hooks, own = _folder(folder)
    if not own:
        raise NotPlaced(
            f"git takes the hooks of this repository from {hooks} (core.hooksPath), which is outside it and "
            "may serve others. Call `callboard guard check pre-commit` and `callboard guard check pre-push` "
            f"from the hooks there; exit code {REFUSED} means refused."
        )
    return hooks


def _put_in(hook: Path, name: str) -> Placed:
    kept = hook.with_name(hook.name + KEPT)
    draft = hook.with_name(f".{hook.name}.{os.getpid()}")
    draft.write_text(_script(name), encoding="utf-8")
    draft.chmod(0o755)
    try:
        if os.path.lexists(hook) and not _is_ours(hook):
            if os.path.lexists(kept) and not _same(hook, kept):
                raise NotPlaced(f"Both {hook} and {kept} exist, and differ. Remove the one you do not need.")
            hook.replace(kept)
        draft.replace(hook)
    finally:
        draft.unlink(missing_ok=True)
    return Placed(hook, os.path.lexists(kept))


def _take_out(hook: Path) -> Placed | None:
    kept = hook.with_name(hook.name + KEPT)
    if _is_ours(hook):
        if os.path.lexists(kept):
            kept.replace(hook)
            return Placed(hook, True)
        hook.unlink()
        return Placed(hook, False)
    if os.path.lexists(kept):
        # Somebody wrote the hook anew over the guard.
        if not _same(hook, kept):
            raise NotPlaced(f"Both {hook} and {kept} exist, and differ. Remove the one you do not need.")
        kept.unlink()
    return None


def _is_ours(hook: Path) -> bool:
    try:
        return not hook.is_symlink() and _MARK.encode() in hook.read_bytes()
    except FileNotFoundError:
        return False


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def _script(name: str) -> str:
    python = shlex.quote(sys.executable)
    guard = f"""\
#!/bin/sh
{_MARK}
guard() {{
    if [ -x {python} ]; then
        {python} -P -m callboard guard check {name} "$@"
    elif command -v callboard >/dev/null 2>&1; then
        callboard guard check {name} "$@"
    else
        echo "callboard guard: callboard is not installed any more; nothing was checked" >&2
    fi
}}
# What was here before, by its own interpreter and under its own name.
kept=$0{KEPT}
before() {{
    [ -x "$kept" ] || return 0
    IFS= read -r first <"$kept"
    case "$first " in
    '#!'*[/\\ ]sh\\ * | '#!'*[/\\ ]bash\\ * | '#!'*[/\\ ]dash\\ *)
        ${{first#'#!'}} -c 'kept=$1; shift; . "$kept"' "$0" "$kept" "$@" ;;
    *)
        "$kept" "$@" ;;
    esac
}}
"""
    if name == "pre-push":
        # Git tells the refs on standard input, once, and both want them; the dot keeps the last newline.
        return f"""{guard}told=$(cat; echo .)
told=${{told%.}}
printf %s "$told" | guard "$@"
[ $? -eq {REFUSED} ] && exit 1
printf %s "$told" | before "$@"
"""
    return f"""{guard}guard "$@"
[ $? -eq {REFUSED} ] && exit 1
before "$@"
"""
