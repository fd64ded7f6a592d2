"""The kind of file system at a path, read from the kernel's table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard import mounts

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:45 / /mnt/c rw - 9p drvfs rw
31 22 0:46 / /home rw - nfs4 server:/home rw
32 31 254:1 / /home/kim rw - xfs /dev/vdb rw
33 22 0:47 / /srv/my\040share rw - cifs //server/share rw
34 22 0:48 / /workspace rw master:7 - virtiofs workspace rw
35 22 0:49 / /over rw - nfs server:/over rw
36 35 0:50 / /over rw - tmpfs tmpfs rw
37 22 0:51 / /media/disk rw - fuse.sshfs host:/ rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/board.db", "ext4"),
        ("/mnt/c/board.db", "9p"),
        ("/mnt/cc/board.db", "ext4"),
        ("/home/robin/board.db", "nfs4"),
        ("/home/kim/board.db", "xfs"),
        ("/srv/my share/board.db", "cifs"),
        ("/workspace/a/b/board.db", "virtiofs"),
        ("/over/board.db", "tmpfs"),
        ("/media/disk/board.db", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert mounts.file_system(Path(path), MOUNTS) == kind


def test_a_table_of_mounts_that_says_nothing_names_no_file_system() -> None:
    assert mounts.file_system(Path("/a"), "") == "unknown"
    assert mounts.file_system(Path("/a"), "nonsense\n - \n") == "unknown"
