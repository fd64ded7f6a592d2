"""Projects: a repository under coordination, the runs of its leads, and what people set for them.

A project comes into being when a server first runs in its repository, so that nothing has to be set
up by hand.
"""

from callboard.domains.projects.project import (
    check_model,
    ensure_project,
    folder_of,
    get,
    oversight_of,
)
from callboard.domains.projects.sessions import (
    Session,
    end_project_session,
    end_sessions_of,
    find_session,
    lapse,
    list_project_sessions,
    live_in,
    next_due,
    resume_project_session,
    session_of,
    start_project_session,
)
from callboard.domains.projects.settings import (
    SETTINGS,
    change_setting,
    get_setting,
    set_setting,
    setting,
)
from callboard.domains.projects.tools import (
    create_project,
    get_project,
    list_projects,
    update_project,
)

TOOLS = (
    create_project,
    list_projects,
    get_project,
    update_project,
    start_project_session,
    end_project_session,
    resume_project_session,
    list_project_sessions,
    get_setting,
    set_setting,
)

__all__ = [
    "SETTINGS",
    "TOOLS",
    "Session",
    "change_setting",
    "check_model",
    "end_sessions_of",
    "ensure_project",
    "find_session",
    "folder_of",
    "get",
    "lapse",
    "live_in",
    "next_due",
    "oversight_of",
    "session_of",
    "setting",
]
