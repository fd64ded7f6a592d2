"""Templates: the usual shapes of a piece of work, as tasks that are added in one go."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from callboard.domains.tasks.adding import AddedAll, NewTask, add_all
from callboard.errors import InvalidArguments
from callboard.identity import Caller
from callboard.params import Description, RoleId, TaskFiles, TaskId, Title
from callboard.store import Tx
from callboard.tool import Result, tool


class Step(Result):
    id: str
    role: str
    title: str
    depends_on: list[str]


class Template(Result):
    template: str
    steps: list[Step]


class Templates(Result):
    templates: list[Template]


Named = Literal["feature", "bugfix", "refactor", "docs", "parallel-feature"]

_DEVELOPER, _REVIEWER = "developer", "code-reviewer"
TEMPLATES: Mapping[str, tuple[Step, ...]] = {
    name: tuple(
        Step(id=id_, role=role, title=title, depends_on=deps.split()) for id_, role, title, deps in steps
    )
    for name, steps in {
        "feature": (
            ("implement", _DEVELOPER, "Implement", ""),
            ("test", _DEVELOPER, "Test", "implement"),
            ("review", _REVIEWER, "Review", "test"),
            ("merge", _DEVELOPER, "Merge", "review"),
        ),
        "bugfix": (
            ("investigate", _DEVELOPER, "Find the cause", ""),
            ("fix", _DEVELOPER, "Fix", "investigate"),
            ("test", _DEVELOPER, "Test", "fix"),
            ("review", _REVIEWER, "Review", "test"),
        ),
        "refactor": (
            ("plan", "architect", "Plan", ""),
            ("implement", _DEVELOPER, "Implement", "plan"),
            ("test", _DEVELOPER, "Test", "implement"),
            ("review", _REVIEWER, "Review", "test"),
        ),
        "docs": (
            ("write", "tech-writer", "Write", ""),
            ("review", _REVIEWER, "Review", "write"),
        ),
        "parallel-feature": (
            ("design", "architect", "Design", ""),
            ("track-a", _DEVELOPER, "Track A", "design"),
            ("track-b", _DEVELOPER, "Track B", "design"),
            ("track-c", _DEVELOPER, "Track C", "design"),
            ("integrate", _DEVELOPER, "Integrate", "track-a track-b track-c"),
            ("test", _DEVELOPER, "Test", "integrate"),
            ("review", _REVIEWER, "Review", "test"),
        ),
    }.items()
}


class Override(BaseModel):
    """What differs from a template's step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleId | None = None
    title: Title | None = None
    description: Description | None = None
    files: TaskFiles | None = None


@tool()
def list_task_templates(tx: Tx, caller: Caller) -> Templates:
    """List the templates of usual work with their steps, roles and dependencies.

    Use one with apply_task_template.
    """
    return Templates(
        templates=[Template(template=name, steps=list(steps)) for name, steps in TEMPLATES.items()]
    )


@tool(writes=True, who="lead")
def apply_task_template(
    tx: Tx,
    caller: Caller,
    template: Annotated[Named, Field(description="Which one")],
    id_prefix: Annotated[TaskId | None, Field(description="Ids become <prefix>-<step>")] = None,
    overrides: Annotated[
        dict[str, Override] | None, Field(max_length=10, description="By step: what differs")
    ] = None,
) -> AddedAll:
    """Add the tasks of a template at once, under ids of your own prefix (else the template's name).

    Give each step its files and description in overrides. Refused like add_dag_tasks.
    """
    prefix = (id_prefix or "").removesuffix("-") or template
    steps = TEMPLATES[template]
    given = overrides or {}
    unknown = [step for step in given if step not in {known.id for known in steps}]
    if unknown:
        rule = f"has no step {unknown[0]} of {template}; there are {', '.join(step.id for step in steps)}"
        raise InvalidArguments(
            f"overrides {rule}.", fields=[{"field": f"overrides.{unknown[0]}", "rule": rule}]
        )
    tasks = []
    for step in steps:
        task_id = f"{prefix}-{step.id}"
        if len(task_id) > 100:
            rule = "makes ids of more than 100 characters"
            raise InvalidArguments(f"id_prefix {rule}.", fields=[{"field": "id_prefix", "rule": rule}])
        differs = given.get(step.id, Override())
        tasks.append(
            NewTask(
                id=task_id,
                role=differs.role or step.role,
                title=differs.title or step.title,
                description=differs.description or "",
                depends_on=[f"{prefix}-{dep}" for dep in step.depends_on],
                files=differs.files or [],
            )
        )
    return add_all(tx, caller, tasks)
