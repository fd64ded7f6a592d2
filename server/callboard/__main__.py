"""`callboard` and `python -m callboard`: hands over to the command line."""


def main() -> None:
    """Run the command line on the process's own arguments."""
    # Imported here, so that reading the version or the package costs nothing of the command line.
    from callboard.cli import main as run

    run()


if __name__ == "__main__":
    main()
