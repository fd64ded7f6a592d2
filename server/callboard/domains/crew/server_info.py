"""The server itself: which version runs on which store, and whether both are well."""

from pydantic import Field

from callboard import __version__
from callboard.about import last_checkup
from callboard.identity import Caller
from callboard.store import Tx
from callboard.tool import Result, tool


class ServerInfo(Result):
    version: str
    store_id: str = Field(description="Agents that see another one are on another store")
    store_path: str
    schema_version: int
    journal_mode: str
    durability: str
    transport: str
    toolsets: list[str]
    read_only: bool
    trust_level: str = Field(description="L0: you say yourself who you are; L1: by a token")
    sqlite: str
    apsw: str
    healthy: bool
    damage: str | None = None
    quick_check_age_seconds: int | None = Field(
        default=None, description="Since the store was looked through for damage"
    )
    integrity_check_age_seconds: int | None = Field(
        default=None, description="Since the whole store was read through"
    )
    integrity_broken: list[str] | None = Field(default=None, description="What was found then")
    unclean_stop_at: str | None = Field(default=None, description="A process was killed since then")
    wal_bytes: int
    other_stores: list[str] | None = Field(default=None, description="Of the same repository")


@tool(who="anyone")
def get_server_info(tx: Tx, caller: Caller) -> ServerInfo:
    """Say which callboard this is: version, store, durability, health, how far you are trusted.

    If another agent seems not to be there, compare store_id.
    """
    about, checkup = tx.about(), last_checkup(tx)
    return ServerInfo(
        version=__version__,
        store_id=tx.info.store_id,
        store_path=str(tx.info.path),
        schema_version=tx.info.schema_version,
        journal_mode=tx.info.journal_mode,
        durability=about.durability,
        transport=about.serving.transport,
        toolsets=list(about.serving.toolsets),
        read_only=about.serving.read_only,
        trust_level=caller.trust,
        sqlite=about.sqlite,
        apsw=about.apsw,
        healthy=about.damage is None and not checkup.integrity_broken,
        damage=about.damage,
        quick_check_age_seconds=about.quick_check_age_seconds,
        integrity_check_age_seconds=checkup.integrity_check_age_seconds,
        integrity_broken=checkup.integrity_broken or None,
        unclean_stop_at=checkup.unclean_stop_at,
        wal_bytes=about.wal_bytes,
        other_stores=list(about.serving.other_stores) or None,
    )
