"""The tasks that a command names, and the study with what it says of them for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from features.data.named_task import choose
from features.data.tasks import Task
from features.errors import InputError
from features.study.saving import save_tasks
from features.study.study import Study


def named_tasks(study: Study, names: Sequence[str]) -> tuple[Study, list[Task]]:
    """The study with the tasks that `names` add or change, and the tasks in their order.

    Args:
        study: The study.
        names: As `--task` takes them; none: all tasks that need no naming.

    Raises:
        InputError: There is no such column, or it does not hold what is asked for.
    """
    if not names:
        return study, list(study.default_tasks.values())
    tasks = list(dict.fromkeys(choose(study.tasks, study.columns, name) for name in names))
    of_name: dict[str, Task] = {}
    for task in tasks:
        if of_name.setdefault(task.name, task).kind != task.kind:
            raise InputError(f"--task {task.name}: named in two ways; name it once.")
    new = {
        task.name: task
        for task in tasks
        if not task.has_classes and study.tasks.get(task.name) != task
    }
    return (replace(study, tasks={**study.tasks, **new}) if new else study), tasks


def remember(study: Study, before: Study) -> None:
    """Write those tasks of `study` to its study.toml that `before` has not, or has otherwise."""
    new = {name: task for name, task in study.tasks.items() if before.tasks.get(name) != task}
    if new:
        save_tasks(study.folder, new)
