"""`callboard` and `python -m callboard`: hands over to the command line."""

import gc
import sys


def main() -> None:
    """Run the command line on the process's own arguments."""
    arguments = sys.argv[1:]
    # What a client or git waits for at every edit and commit starts without the command line's libraries.
    match arguments:
        case ["hook", client, event] if not client.startswith("-"):
            from callboard.guards.entry import hook

            hook(client, event)
        case ["guard", "check", event, *_] if not event.startswith("-"):
            from callboard.guards.entry import check

            check(event, arguments[3:])
        case _:
            if arguments[:1] == ["serve"]:
                # What a start makes stays: to look for garbage in it is lost time. `serve` begins to.
                gc.disable()
            # Imported here, so that reading the version or the package costs nothing of the command line.
            from callboard.cli import main as run

            run()


if __name__ == "__main__":
    main()
