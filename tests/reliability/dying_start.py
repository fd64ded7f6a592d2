"""A process that starts on a store, knows the way from the older version, and dies at its n-th write.

    python dying_start.py PATH LAST SECONDS

Without dying, which it does not where LAST is -1, it says from which version it has migrated the store. The
step takes so many seconds longer, as that of a large store would.
"""

import sys
from pathlib import Path
from threading import Event

import apsw

from callboard import storefile
from tests import older_store
from tests.dying_disk import Cut
from tests.starting import prepare


def main() -> None:
    _, path, last, seconds = sys.argv

    def step(db: apsw.Connection) -> None:
        older_store.forward(db)
        Event().wait(float(seconds))

    storefile.MIGRATIONS[older_store.VERSION] = step
    machine = Cut(None if last == "-1" else int(last), kill=True)
    try:
        print(prepare(Path(path)).migrated_from)
    finally:
        machine.unregister()


if __name__ == "__main__":
    main()
