"""The todo of a task in the store: announced before it is created, noted or released after it.

If the store cannot be used, the todo is created: one too many is better than one too few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.outbox import writer
from bzctrl_provider.outbox.incident import redacted
from bzctrl_provider.store import incidents, problems
from bzctrl_provider.store.database import database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.outbox.incident import NotRaised
    from bzctrl_provider.store.incidents import Incident


def claim(incident: Incident) -> Incident | NotRaised:
    """Decide whether a todo is created, by what the store remembers."""
    with best_effort("the memory of failures, so a todo is created"):
        return writer.claim(incident)
    return incident


def note_created(incident: Incident, created: Mapping[str, Any]) -> None:
    """Note a todo for further failures."""
    if incident.repeats is None and incident.forget is None:
        return
    with best_effort("the note of the todo for further failures"), database().transaction() as tx:
        incidents.add(tx, redacted(incident))
        incidents.note_created(tx, [(incident, created.get("key"), created.get("link"))])
        if incident.forget:
            problems.forget(tx, incident.forget)


def release(incident: Incident) -> None:
    """Let the next failure create a todo, because this one was not created."""
    if incident.repeats is not None:
        with best_effort("the release of the window"), database().transaction() as tx:
            problems.release(tx, incident.identity)


def note_pass(key: str | None) -> None:
    """Note that the checks before a roll-up passed, if they have failed before.

    :param key: of the problem that has the passes.
    """
    with best_effort("the note of passed checks"), database().transaction() as tx:
        problems.note_pass(tx, key or "")


def as_dict(incident: Incident) -> dict[str, Any]:
    """Return a todo as ``CreatedTodo.as_dict()``, as far as it is known before it is created."""
    fields = incident.fields
    return {
        "key": incident.key,
        "link": incident.link,
        "title": fields.get("title"),
        "todo_type": fields.get("todo_type"),
        "description": fields.get("description"),
        "tags": [],
    }
