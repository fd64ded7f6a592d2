"""The crew: what touches many domains at once, such as an agent's end, and the views over all of them.

Each view is one read of one consistent snapshot, fitted to a size, and shows an agent its own crew and of
the others what a project shares.
"""

from callboard.domains.crew.alerts import list_alerts
from callboard.domains.crew.briefing import get_briefing
from callboard.domains.crew.catching_up import catch_up
from callboard.domains.crew.checking_in import check_in
from callboard.domains.crew.leaving import due_for_renewal, is_due, renew, sweep, terminate_agent
from callboard.domains.crew.matching import match_agents
from callboard.domains.crew.people import get_agent, whoami
from callboard.domains.crew.searching import search_crew
from callboard.domains.crew.server_info import get_server_info
from callboard.domains.crew.status import get_crew_status

TOOLS = (
    whoami,
    get_agent,
    match_agents,
    terminate_agent,
    check_in,
    get_briefing,
    get_crew_status,
    catch_up,
    search_crew,
    list_alerts,
    get_server_info,
)

__all__ = ["TOOLS", "due_for_renewal", "is_due", "renew", "sweep"]
