"""What kind of file system a path is on, and whether another kernel may be on it too.

SQLite's log works through memory that all processes of one kernel share (https://sqlite.org/wal.html#noshm).
On a file system that two kernels mount, or that a program stands behind, that memory is two memories, and a
store is damaged without a word.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["MOUNTINFO", "file_system", "is_shared", "kind_at"]

MOUNTINFO = Path("/proc/self/mountinfo")
"""Where Linux tells what is mounted (proc_pid_mountinfo(5))."""

_SHARED = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs\d*|drvfs|fakeowner|fuse.*|gfs2?|glusterfs|gpfs|grpcfuse|lustre|ncpfs"
    r"|nfs\d*|ocfs2|orangefs|osxfs|prl_fs\w*|pvfs2|smb\w*|vboxsf|virtiofs|vmhgfs"
)


def is_shared(kind: str) -> bool:
    """Whether a file system of this kind may be shared between kernels, or be kept by a program."""
    return _SHARED.fullmatch(kind) is not None


def kind_at(path: Path, mountinfo: Path) -> str:
    """The kind of the file system at `path`, or `unknown` where the kernel has no table of mounts."""
    try:
        return file_system(path, mountinfo.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError:
        return "unknown"


def file_system(path: Path, mountinfo: str) -> str:
    """The kind of the mount with the longest path above `path`, which is absolute and resolved.

    In `mountinfo` odd characters are escaped in octal, and of two mounts on one path the later one covers the
    earlier.
    """
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split(" ")[0]
    return kind
