"""What init and uninstall will do, worked out before anything is done.

A plan is one step a file. Whether a file can be edited is found out here, so that a broken one is refused
before any other has been touched, and what a person is shown is what is then carried out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from callboard.cli.setup import edits, files, hooks
from callboard.cli.setup.clients import Client, Place, Scope
from callboard.cli.setup.edits import Edit, Format, Section
from callboard.cli.setup.files import Change
from callboard.cli.setup.jsonc import Broken
from callboard.cli.setup.launch import Launch
from callboard.cli.setup.receipts import Receipt, Receipts, digest, merged, remove_empty
from callboard.cli.setup.section import CREW

AGENTS = "AGENTS.md"


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be in a file."""

    path: Path
    form: Format
    scope: Scope
    edit: Edit
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one file."""

    path: Path
    """The file as it is spoken of; a symbolic link may lead from here to the file that is changed."""
    why: str
    change: Change | None = None
    receipt: Receipt | None = None
    refused: str | None = None
    """Why nothing happens to it."""
    touched: bool = False
    """Whether others have changed it since init did."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person has asked for."""

    clients: Sequence[Client]
    scope: Scope | None = None
    url: str | None = None
    auth: bool = False
    profile: str | None = None
    instructions: bool = True
    hooks: bool = False


def server_url(given: str) -> str:
    """The URL of a server's MCP endpoint, from that or from HOST:PORT. Raises ValueError."""
    url = given if "://" in given else f"http://{given}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{given} is neither an http URL nor HOST:PORT.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("The URL may hold no credentials and no query: such files are no place for tokens.")
    return parts._replace(path=parts.path if parts.path.strip("/") else "/mcp").geturl()


def wishes(choice: Choice, launch: Launch, place: Place) -> Iterator[Wish]:
    """What the files of the chosen clients shall hold. Raises ValueError for what a client cannot do."""
    for client in choice.clients:
        scope = client.scope(choice.scope)
        if scope is None:
            raise ValueError(f"{client.label} has no file in a project; use --scope user for it.")
        if choice.url is None:
            profile = choice.profile or client.profile
            entry = client.serving(launch, place, scope, profile)
            why = f"{client.label}, profile {profile}"
        else:
            entry = client.connecting(choice.url, auth=choice.auth)
            why = f"{client.label}, over HTTP"
        yield Wish(client.file(place, scope), client.form, scope, entry, why)
        if choice.hooks and client.name in hooks.FORMS:
            path = hooks.file(client, place, scope)
            for edit in hooks.edits(client, launch, scope):
                yield Wish(path, "json", scope, edit, f"{client.label}, hooks")
    if choice.instructions:
        for name in instruction_files(choice.clients, place):
            yield Wish(place.repository / name, "markdown", "project", Section(CREW), "how this crew works")


def feasible(choice: Choice, launch: Launch, place: Place) -> tuple[Choice, list[str]]:
    """The choice without the clients that cannot have what is wished, and why each cannot."""
    clients, left_out = [], []
    for client in choice.clients:
        try:
            list(wishes(replace(choice, clients=[client]), launch, place))
        except ValueError as error:
            left_out.append(str(error))
        else:
            clients.append(client)
    return replace(choice, clients=clients), left_out


def instruction_files(clients: Iterable[Client], place: Place) -> list[str]:
    """The texts for agents in a repository that get the section. One that brings in AGENTS.md needs none."""
    names = list(dict.fromkeys(client.instructions for client in clients if client.instructions))
    for name in names.copy():
        try:
            text = (place.repository / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # missing, or refused when the step is worked out
        if name != AGENTS and f"@{AGENTS}" in text.split():
            names[names.index(name)] = AGENTS
    return list(dict.fromkeys(names))


def putting_in(wanted: Iterable[Wish], receipts: Receipts, place: Place, homes: Sequence[Path]) -> list[Step]:
    """The steps that make the files hold what is wished. `homes` are the folders in which the repository's
    own files may really lie."""
    by_file: dict[Path, list[Wish]] = {}
    for wish in wanted:
        by_file.setdefault(files.real(wish.path), []).append(wish)
    return [_putting_in(path, found, receipts, place, homes) for path, found in by_file.items()]


def _putting_in(
    path: Path, wanted: list[Wish], receipts: Receipts, place: Place, homes: Sequence[Path]
) -> Step:
    first = wanted[0]
    why = "; ".join(dict.fromkeys(wish.why for wish in wanted))
    if first.scope == "project" and not any(path.is_relative_to(home) for home in homes):
        # A repository is other people's text: a link in it may not choose which of one's files is edited.
        return Step(first.path, why, refused=f"it is a link out of the repository, to {path}")
    earlier = receipts.find(path)
    try:
        before = files.read(path)
        base = before if earlier is None else earlier.without(before)
        own = tuple(wish.edit for wish in wanted)
        receipt = merged(
            earlier, Receipt(path, place.repository, first.scope, first.form, own, original=base, after="")
        )
        after = edits.apply(base or b"", first.form, receipt.edits)
    except (Broken, OSError) as error:
        return Step(first.path, why, refused=_sentence(error))
    return Step(first.path, why, Change(path, before, after), replace(receipt, after=digest(after)))


def taking_out(receipts: Receipts, place: Place, scope: Scope | None) -> list[Step]:
    """The steps that take out what was put in from this repository; with the scope `user`, whatever was put
    into the files of this person from any."""
    steps = []
    for receipt in receipts.all():
        here = receipt.repository == place.repository
        if (scope is not None and receipt.scope != scope) or not (here or scope == "user"):
            continue
        try:
            before = files.read(receipt.path)
            change = Change(receipt.path, before, receipt.without(before))
        except (Broken, OSError) as error:
            steps.append(Step(receipt.path, "", receipt=receipt, refused=_sentence(error)))
            continue
        steps.append(Step(receipt.path, "", change, receipt, touched=receipt.was_touched(before)))
    return steps


def put_in(steps: Iterable[Step], receipts: Receipts) -> Iterator[tuple[Step, str | None]]:
    """Carry out what `putting_in` has worked out: each step, and why it failed if it did."""
    for step in steps:
        if step.change is None or step.receipt is None or step.change.is_none:
            continue
        try:
            # First the receipt: a file that was changed can then be changed back, whatever happens.
            receipts.keep(step.receipt)
            made = step.change.carry_out()
            if made:
                folders = (*made, *step.receipt.folders)
                receipts.keep(replace(step.receipt, folders=folders))
        except (Broken, OSError) as error:
            yield step, _sentence(error)
        else:
            yield step, None


def take_out(steps: Iterable[Step], receipts: Receipts) -> Iterator[tuple[Step, str | None]]:
    """Carry out what `taking_out` has worked out: each step, and why it failed if it did."""
    folders: set[Path] = set()
    for step in steps:
        if step.change is None or step.receipt is None:
            continue
        try:
            if not step.change.is_none:
                step.change.carry_out()
            receipts.drop(step.receipt)
        except (Broken, OSError) as error:
            yield step, _sentence(error)
        else:
            folders.update(step.receipt.folders)
            yield step, None
    # Last, as files of several steps may have lain in one of them.
    remove_empty(sorted(folders, key=lambda folder: len(folder.parts), reverse=True))


def detected(clients: Mapping[str, Client], place: Place) -> list[Client]:
    """The clients that this machine or repository shows traces of."""
    return [client for client in clients.values() if client.is_there(place)]


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read or written: {error.strerror or error}"
    return str(error)
