"""The calls that move or take back what `tests.filling` has written: together the two make at least one good
call of every tool that writes."""

from tests.filling import Filled


async def undo(filled: Filled) -> None:
    """One good call of each tool that has no free text of its own: `ann` leads, `ben` and `dan` work."""
    await _mail(filled)
    await _tasks(filled)
    await _rest(filled)


async def _mail(filled: Filled) -> None:
    call = filled.board.call
    for _ in range(2):
        await call("send_message", agent_id="ann", to="dan", content="word")
    await call("check_in", agent_id="ben")
    got = (await call("receive_messages", agent_id="dan"))["messages"]
    await call("return_message", agent_id="dan", receipt=got[0]["receipt"])
    await call("ack_messages", agent_id="dan", receipts=[got[1]["receipt"]])
    sent = await call("send_message", agent_id="ann", to="dan", content="word", expires_in="5")
    await filled.board.turn(6)
    await call("requeue_message", agent_id="ann", message_id=sent["message_ids"][0])
    sewing = "sewing"
    await call("read_group_messages", agent_id="ben", group_name=sewing)
    await call("remove_group_members", agent_id="ann", members=["dan"], group_name=sewing)
    await call("add_group_members", agent_id="ann", members=["dan"], group_name=sewing)
    await call("archive_chat_group", agent_id="ann", group_name=sewing)
    await call("unarchive_chat_group", agent_id="ann", group_name=sewing)


async def _tasks(filled: Filled) -> None:
    call = filled.board.call
    for name in ("early", "late"):
        await call("add_dag_task", agent_id="ann", id=name, role="developer", priority=9)
    for change in ("add_task_dependencies", "remove_task_dependencies"):
        await call(change, agent_id="ann", task_id="late", depends_on=["early"])
    await call("set_cost_budget", agent_id="ann", limit_tokens=1_000_000)
    claimed = await call("claim_next_dag_task", agent_id="dan")
    await call("complete_dag_task", agent_id="dan", task_id=claimed["task"]["task_id"])
    await call("archive_dag_tasks", agent_id="ann", task_ids=[claimed["task"]["task_id"]])
    await call("unarchive_dag_task", agent_id="ann", task_id=claimed["task"]["task_id"])


async def _rest(filled: Filled) -> None:
    call = filled.board.call
    await call("record_file_touch", agent_id="ben", file_paths=["held.py"])
    await call("renew_file_lock", agent_id="ben", file_path="held.py")
    await call("release_file_lock", agent_id="ben", file_path="held.py")
    await call("release_file_locks", agent_id="ben")
    timer = await call("set_timer", agent_id="ben", label="word", message="word", delay="1h")
    await call("cancel_timer", agent_id="ben", timer_id=timer["timer_id"])
    await call("delete_agent_memory", agent_id="ben", key="hem")
    await call("delete_knowledge", agent_id="dan", category="semantic", key="seams")
    lesson = await call("add_collective_memory", agent_id="dan", category="gotcha", key="knots", value="word")
    await call("forget_collective_memory", agent_id="dan", memory_id=lesson["memory_id"])
    ended = await call("end_project_session", agent_id="ann")
    await call("resume_project_session", agent_id="ann", session_row_id=ended["session_row_id"])
    await call("delete_role", token=filled.human, id="tailor")
    await call("set_setting", token=filled.human, key="locks.delay_seconds", value="1")
