"""Chat: named groups of a crew, for what concerns several agents and not all.

A group's posts are stored once and in one order, and each is in the inbox of every other member by the
same commit. Each member has a cursor for what it has read. Groups may have standing roles: who signs in
with such a role is let in.
"""

from callboard.domains.chat.groups import follow
from callboard.domains.chat.posts import react_to_group_message, read_group_messages, send_group_message
from callboard.domains.chat.rooms import (
    add_group_members,
    archive_chat_group,
    create_chat_group,
    list_chat_groups,
    remove_group_members,
    unarchive_chat_group,
)

TOOLS = (
    create_chat_group,
    list_chat_groups,
    add_group_members,
    remove_group_members,
    send_group_message,
    read_group_messages,
    react_to_group_message,
    archive_chat_group,
    unarchive_chat_group,
)

__all__ = ["TOOLS", "follow"]
