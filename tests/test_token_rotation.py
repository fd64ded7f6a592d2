"""Tokens in the wrong hands: they are replaced in one step, and never stored in what agents write."""

from pathlib import Path

import pytest

from callboard.board import Board, Config, open_board
from callboard.errors import HumanRequired, Unauthenticated


def config(folder: Path) -> Config:
    return Config(folder=folder, db=folder / "board.db", transport="cli")


def key(token: str) -> str:
    return token.split(".")[2]


async def made(board: Board) -> str:
    return await board.issue_token(kind="agent", name="ann", scope="worker")


async def test_a_rotated_token_ends_as_its_successor_begins(tmp_path: Path) -> None:
    """ID3"""
    async with open_board(config(tmp_path)) as board:
        old = await made(board)
        new = await board.rotate_token(key(old))
        principal = await board.authenticate(new)
        assert (principal.name, principal.scope, principal.kind) == ("ann", "worker", "agent")
        with pytest.raises(Unauthenticated):
            await board.authenticate(old)
        with pytest.raises(Unauthenticated):
            await board.rotate_token(key(old))
        await board.authenticate(new)


async def test_nobody_makes_a_persons_token_by_rotating_one(tmp_path: Path) -> None:
    """G1"""
    async with open_board(config(tmp_path)) as board:
        old = await board.issue_token(kind="human", name="ada", scope="human")
        with pytest.raises(HumanRequired):
            await board.rotate_token(key(old))
        await board.authenticate(old)


async def test_a_token_that_an_agent_pastes_into_a_message_is_not_stored(tmp_path: Path) -> None:
    """P1"""
    async with open_board(config(tmp_path)) as board:
        token = await made(board)
    served = Config(folder=tmp_path, db=tmp_path / "board.db", transport="http")
    async with open_board(served) as board:
        for agent in ("ann", "bob"):
            await board.call("register_agent", {"agent_id": agent, "role": "developer"})
        sent = {"agent_id": "ann", "to": "bob", "content": f"use {token} please"}
        await board.call("send_message", sent)
        got = str(await board.call("receive_messages", {"agent_id": "bob"}))
        assert "[redacted:callboard]" in got
    secret = token.split(".")[3].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.glob("board.db*"))
