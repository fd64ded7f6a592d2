"""Roles: what kinds of agent there are, and how each is briefed.

Fourteen roles come with the server. A person may override one; the override is kept apart, so that it
can be taken back and the original is never lost.
"""

from typing import Any

from callboard import text
from callboard.errors import Conflict, NotFound
from callboard.events import Event
from callboard.identity import Caller
from callboard.params import AfterName, Colour, Description, Icon, Limit, Model, Name, Prompt, RoleId
from callboard.store import Command, Row, Tx
from callboard.tool import Result, fitted, tool


class Role(Row):
    id: str
    name: str
    description: str
    system_prompt: str
    color: str
    icon: str
    built_in: int
    model: str | None
    overridden: int


class RoleName(Row):
    id: str


BUILT_IN: tuple[tuple[str, str, str, str, str, str], ...] = (
    # id, name, icon, colour, purpose, briefing
    ("architect", "Architect", "🏗️", "#f0883e", "system design, technical direction",
     "Decide how the parts fit together before they are built. Record each decision with its reason."),
    ("code-reviewer", "Code Reviewer", "📖", "#a371f7", "judges the quality of changes",
     "Read each change for what it breaks, and say what must change before it may land."),
    ("critical-reviewer", "Critical Reviewer", "🛡️", "#f85149",
     "challenges architecture, security, performance",
     "Look for what fails under load, attack and time. Show it, and name the smallest mend."),
    ("readability-reviewer", "Readability Reviewer", "👁️", "#7ee787",
     "names, structure, documentation, simplicity",
     "Read as the next engineer will. Ask for plainer names, smaller pieces and true comments."),
    ("developer", "Developer", "💻", "#3fb950", "writes code and tests",
     "Lock the files of your task, change them with tests, release them, and report what you did."),
    ("product-manager", "Product Manager", "🎯", "#d29922", "user needs and the quality bar",
     "Say what users need and when it is good enough. Decide between options by their worth to users."),
    ("tech-writer", "Technical Writer", "📝", "#f778ba", "documentation, wording of interfaces",
     "Write what readers need to act, check every example by running it, and keep words consistent."),
    ("designer", "Designer", "🎨", "#c084fc", "interaction and visual design",
     "Shape how it is used: flows, states, words and looks, for every kind of user."),
    ("generalist", "Generalist", "🔧", "#38bdf8", "work across disciplines",
     "Take what is left over, in any discipline, and finish it."),
    ("agent", "Agent", "⚙️", "#94a3b8", "neutral, no persona", ""),
    ("radical-thinker", "Radical Thinker", "🚀", "#fb923c", "questions first principles",
     "Question what everybody assumes. Offer the simplest thing that would make the problem vanish."),
    ("secretary", "Secretary", "📋", "#94a3b8", "tracks the plan, keeps checklists",
     "Keep the plan true: what is open, who has it, what it waits for. Remind early."),
    ("qa-tester", "QA Tester", "🧪", "#f59e0b", "runs and tests end to end",
     "Run the product as a user would, find what fails, and report how to see it again."),
    ("lead", "Project Lead", "👑", "#e3b341", "plans, delegates, supervises",
     "Split the work into tasks, give them to your crew, keep nobody waiting, and answer for the whole."),
)  # fmt: skip

COLUMNS = """
    r.id, coalesce(o.name, r.name) AS name, coalesce(o.description, r.description, '') AS description,
    coalesce(o.system_prompt, r.system_prompt, '') AS system_prompt, coalesce(o.color, r.color) AS color,
    coalesce(o.icon, r.icon) AS icon, r.built_in, coalesce(o.model, r.model) AS model,
    o.id IS NOT NULL AS overridden
"""
ROLES = Role.query(f"""
    SELECT {COLUMNS} FROM roles AS r LEFT JOIN _role_overrides AS o ON o.id = r.id
     WHERE r.id > :after ORDER BY r.id LIMIT :limit
""")
NAMES = RoleName.query("SELECT id FROM roles ORDER BY id")
ROLE = Role.query(
    f"SELECT {COLUMNS} FROM roles AS r LEFT JOIN _role_overrides AS o ON o.id = r.id WHERE r.id = :id"
)
RESTORE = Command("""
    INSERT INTO roles (id, name, description, system_prompt, color, icon, built_in)
    VALUES (:id, :name, :description, :system_prompt, :color, :icon, 1)
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, description = excluded.description, system_prompt = excluded.system_prompt,
           color = excluded.color, icon = excluded.icon, built_in = 1
     WHERE (roles.name, roles.description, roles.system_prompt, roles.color, roles.icon, roles.built_in)
        IS NOT (excluded.name, excluded.description, excluded.system_prompt, excluded.color, excluded.icon, 1)
""")
# A role that people defined before a version brought a built-in one of its id: theirs stands over it.
KEEP_OWN = Command("""
    INSERT INTO _role_overrides (id, name, description, system_prompt, color, icon, model, set_by, set_at)
    SELECT id, name, description, system_prompt, color, icon, model, 'callboard', :at
      FROM roles WHERE id = :id AND built_in = 0
    ON CONFLICT (id) DO NOTHING
""")
DEFINE = Command("""
    INSERT INTO roles (id, name, description, system_prompt, color, icon, built_in, model)
    VALUES (:id, :name, :description, :system_prompt, :color, :icon, 0, :model)
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, description = excluded.description, system_prompt = excluded.system_prompt,
           color = excluded.color, icon = excluded.icon, model = excluded.model
""")
OVERRIDE = Command("""
    INSERT INTO _role_overrides (id, name, description, system_prompt, color, icon, model, set_by, set_at)
    VALUES (:id, :name, :description, :system_prompt, :color, :icon, :model, :set_by, :at)
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, description = excluded.description, system_prompt = excluded.system_prompt,
           color = excluded.color, icon = excluded.icon, model = excluded.model,
           set_by = excluded.set_by, set_at = excluded.set_at
""")
TAKE_BACK = Command("DELETE FROM _role_overrides WHERE id = :id")
DELETE = Command("DELETE FROM roles WHERE id = :id AND built_in = 0")


UNSAID: dict[str, str | None] = {
    "description": "",
    "system_prompt": "",
    "color": "#888",
    "icon": "🤖",
    "model": None,
}
"""What a defined role has where its definition says nothing."""


class InUse(Row):
    agent_id: str


class Wanted(Row):
    task_id: str
    lead_id: str


IN_USE = InUse.query("""
    SELECT agent_id FROM agent_roster
     WHERE role = :id AND status IN ('idle', 'running') ORDER BY agent_id LIMIT 1
""")
WANTED = Wanted.query("""
    SELECT id AS task_id, lead_id FROM dag_tasks
     WHERE role = :id AND archived_at IS NULL
       AND dag_status IN ('pending', 'ready', 'running', 'in_review', 'failed', 'blocked', 'paused')
     ORDER BY lead_id, id LIMIT 1
""")


class RoleView(Result):
    role: str
    name: str
    description: str
    system_prompt: str | None = None
    color: str
    icon: str
    model: str | None = None
    built_in: bool
    overridden: bool | None = None


class RolePage(Result):
    roles: list[RoleView]
    next_after_id: str | None = None


class RoleDeleted(Result):
    role: str
    deleted: bool
    restored: bool


def get(tx: Tx, role: str) -> Role:
    """A role. Raises NotFound with near names."""
    found = tx.one(ROLE, id=role)
    if found is None:
        names = [row.id for row in tx.all(NAMES)]
        near = text.nearest(role, names)
        raise NotFound(
            f"There is no role {role}.",
            kind="role",
            given=role,
            near=near or None,
            hint=f"Did you mean {near[0]}?" if near else "See list_roles; a human defines new ones.",
        )
    return found


def restore_built_in(tx: Tx) -> None:
    """Put the roles that come with the server in their place, as this version has them."""
    for role, name, icon, color, description, system_prompt in BUILT_IN:
        tx.run(KEEP_OWN, id=role, at=tx.at)
        tx.run(
            RESTORE,
            id=role,
            name=name,
            icon=icon,
            color=color,
            description=description,
            system_prompt=system_prompt,
        )


@tool()
def list_roles(tx: Tx, caller: Caller, limit: Limit = 50, after_id: AfterName | None = None) -> RolePage:
    """List the roles that agents can register with: what each is for and how it is briefed.

    Fourteen come with the server; people may define more. Pick one before register_agent.
    """
    rows = tx.all(ROLES, after=after_id or "", limit=limit + 1)
    shown, more = fitted([_view(row) for row in rows], limit)
    return RolePage(roles=shown, next_after_id=shown[-1].role if more else None)


@tool(writes=True, idempotent=True, who="human")
def define_role(
    tx: Tx,
    caller: Caller,
    id: RoleId,  # noqa: A002 - the column's and the catalogue's name
    name: Name,
    description: Description | None = None,
    system_prompt: Prompt | None = None,
    color: Colour | None = None,
    icon: Icon | None = None,
    model: Model | None = None,
) -> RoleView:
    """Define a role, or override a built-in one, which keeps what you leave out.

    Defining one again replaces it; delete_role takes an override back.
    """
    values: dict[str, Any] = {
        "id": id,
        "name": name,
        "description": description,
        "system_prompt": system_prompt,
        "color": color,
        "icon": icon,
        "model": model,
    }
    known = tx.one(ROLE, id=id)
    if known is not None and known.built_in:
        tx.run(OVERRIDE, **values, set_by=caller.agent_id, at=tx.at)
    else:
        tx.run(DEFINE, **UNSAID | {name: value for name, value in values.items() if value is not None})
    tx.tell(Event("roster", "role_defined", f"defined role {id}", subject=id, details={"name": name}))
    return _view(get(tx, id))


@tool(writes=True, idempotent=True, destructive=True, who="human")
def delete_role(
    tx: Tx,
    caller: Caller,
    id: RoleId,  # noqa: A002 - the column's and the catalogue's name
) -> RoleDeleted:
    """Delete a defined role, or take back the override of a built-in one, which is itself never lost.

    conflict while an agent on the roster or an open task has it.
    """
    role = get(tx, id)
    if role.built_in:
        restored = tx.run(TAKE_BACK, id=id) == 1
        if restored:
            tx.tell(Event("roster", "role_deleted", f"took the override of role {id} back", subject=id))
        return RoleDeleted(role=id, deleted=False, restored=restored)
    if (user := tx.one(IN_USE, id=id)) is not None:
        raise Conflict(f"{user.agent_id} has this role.", kind="role", hint="Terminate its agents first.")
    if (task := tx.one(WANTED, id=id)) is not None:
        raise Conflict(
            f"The task {task.task_id} of {task.lead_id} waits for this role.",
            kind="role",
            hint="Finish it, or give it another role with update_dag_task.",
        )
    tx.run(DELETE, id=id)
    tx.tell(Event("roster", "role_deleted", f"deleted role {id}", subject=id))
    return RoleDeleted(role=id, deleted=True, restored=False)


def _view(role: Role) -> RoleView:
    return RoleView(
        role=role.id,
        name=role.name,
        description=role.description,
        system_prompt=role.system_prompt or None,
        color=role.color,
        icon=role.icon,
        model=role.model,
        built_in=bool(role.built_in),
        overridden=True if role.overridden else None,
    )
