"""The todo of a task whose failure may repeat: announced before it is created, noted or released after it.

If the store cannot be used, the todo is created: one too many is better than one too few.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.notes import add_note
from bzctrl_provider.outbox.writer import Verdict, claim, note_created, release
from bzctrl_provider.repeats import COUNTED_XCOM_KEY
from bzctrl_provider.store import problems
from bzctrl_provider.store.database import database
from bzctrl_provider.text import web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from bzctrl_provider.outbox.writer import Repeats
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)


class Announcement:
    """The todo that a task is about to create.

    :param incident: the todo.
    :param repeats: the rules for a failure that may repeat; None if each creates a todo.
    :param forget: the key of a problem that ends with this todo.
    """

    def __init__(self, incident: Incident, repeats: Repeats | None, *, forget: str | None = None) -> None:
        self.repeats = repeats
        self.fields: Mapping[str, Any] = incident.fields
        self._incident = incident
        self._forget = forget

    def make(self, context: Context) -> dict[str, Any] | None:
        """Decide whether the todo is created; return the one that represents it if it is not.

        :raises AirflowSkipException: more failures in a row are needed.
        """
        if self.repeats is None:
            return None
        verdict = Verdict()
        with best_effort("the memory of failures, so a todo is created"):
            verdict = claim(self._incident.identity, self.repeats)
        todo_type = self.fields.get("todo_type")
        if verdict.wait:
            count_todos("ignored", todo_type=todo_type)
            # For the policy, which raises an incident for what a skipped roll-up did not see.
            context["ti"].xcom_push(key=COUNTED_XCOM_KEY, value=verdict.wait)
            raise AirflowSkipException(f"No incident is raised yet: {verdict.wait}.")
        if verdict.note:
            self.fields = add_note(self.fields, verdict.note)
        if verdict.first is None:
            return None
        name = (
            web_address(verdict.first.link) or verdict.first.key or f"The incident {verdict.first.identity}"
        )
        log.info("%s was raised for the same failure: no other one is raised.", name)
        count_todos("deduplicated", todo_type=todo_type)
        return {**_as_dict(verdict.first), "deduplicated": True}

    def note_created(self, created: Mapping[str, Any]) -> None:
        """Note the todo for further failures."""
        if self.repeats is None and self._forget is None:
            return
        with best_effort("the note of the todo for further failures"):
            incident = replace(self._incident, fields=self.fields)
            note_created(incident, key=created.get("key"), link=created.get("link"), forget=self._forget)

    def queued(self) -> dict[str, Any]:
        """Return the todo, which waits in the outbox."""
        return {**_as_dict(replace(self._incident, fields=self.fields)), "queued": True}

    def release(self) -> None:
        """Let the next failure create a todo, because this one was not created."""
        if self.repeats is not None:
            with best_effort("the release of the window"):
                release(self._incident.identity)


def note_failure(key: str, name: str) -> None:
    """Have the next pass of the checks before a roll-up noted.

    :param key: of the problem that has the passes.
    :param name: for people who read the table.
    """
    with best_effort("the note of failed checks"), database().transaction() as tx:
        problems.lock(tx, key, f"passes of {name}")


def note_pass(key: str) -> None:
    """Note that the checks before a roll-up passed, if they have failed before."""
    with best_effort("the note of passed checks"), database().transaction() as tx:
        problems.note_pass(tx, key)


def _as_dict(incident: Incident) -> dict[str, Any]:
    fields = incident.fields
    return {
        "key": incident.key,
        "link": incident.link,
        "title": fields.get("title"),
        "todo_type": fields.get("todo_type"),
        "description": fields.get("description"),
        "tags": [],
    }
