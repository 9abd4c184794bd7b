"""One call of a notifier: from Airflow's context to the incident in the outbox.

Only a callback loads this module, and with it everything that a callback needs: a DAG file that names the notifier is
parsed without it, and ``preload`` loads it once in the DAG processor.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bzctrl_provider.failure import Failure, LazyFailure, fill_assignee, fill_text
from bzctrl_provider.failure_lookup import describe_failure
from bzctrl_provider.field_checks import leave_out_invalid
from bzctrl_provider.fields import TODO_FIELDS, name_workspace
from bzctrl_provider.limits import LINE_CHARS
from bzctrl_provider.lost import format_fields, log_incident
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.notes import add_left_out_note, add_note, add_run_link
from bzctrl_provider.notifications import direct, outbox
from bzctrl_provider.notifications.callback_context import (
    identify_occasion,
    is_in_task,
    is_test_run,
    may_wait,
    will_be_tried_again,
)
from bzctrl_provider.notifications.coverage import is_covered
from bzctrl_provider.outbox.incident import identify
from bzctrl_provider.outbox.runner import deliver_soon
from bzctrl_provider.outbox.writer import Repeats
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.repeats import key_of_failure
from bzctrl_provider.routing import Routed, find_routed, is_given
from bzctrl_provider.settings import settings
from bzctrl_provider.silencing import Silencing, find_silencing
from bzctrl_provider.store.incidents import Incident
from bzctrl_provider.successes import find_success, name_source
from bzctrl_provider.text import one_line, safe_repr
from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

log = logging.getLogger(__name__)

_TEMPLATES_CHARS = 10**6
"""Of one template in an identity, which is a hash of them."""

DEFAULTS = {"bzctrl_conn_id": "bzctrl_default", "todo_type": "INCIDENT"}
"""A parameter with its default counts as left out."""


class Callback:
    """Call of a ``BzCtrlNotifier`` with a context.

    :param notifier: a copy of the notifier, whose attributes are the fields of this call.
    :param context: with which Airflow calls it.
    :param templates: the fields as the DAG has them.
    :param jinja_env: renders the templates; default: that of the DAG.
    """

    def __init__(
        self,
        notifier: Any,
        context: Context,
        *,
        templates: Mapping[str, Any],
        jinja_env: Environment | None = None,
    ) -> None:
        self._notifier = notifier
        self._context = context
        self._templates = templates
        self._jinja_env = jinja_env
        # The templates and the incident share one failure, so that Airflow is asked for it once.
        self._failure = LazyFailure(context, _get_failure)
        self._left_out: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._silencing = Silencing()

    def render_fields(self) -> None:
        """Render the fields, also for contexts without a DAG and under ``airflow dags test``, whose DAG has no environment."""
        if self._context.get("dag") is None:
            # Airflow 2 reads the key while it renders, also if an alert's context has no DAG.
            self._context["dag"] = None  # type: ignore[typeddict-item]  # as get_template_env takes it
        self._context["failure"] = self._failure  # type: ignore[typeddict-unknown-key]  # a variable of our own
        for name in self._notifier.template_fields:
            try:
                setattr(self._notifier, name, _as_data(self._render(getattr(self._notifier, name))))
            except Exception as exc:
                if name == "bzctrl_conn_id":
                    log_incident({name: getattr(self._notifier, name) for name in TODO_FIELDS})
                    raise
                self._leave_out(name, exc)

    def _render(self, value: Any) -> Any:
        if _is_word(value):
            return value
        if self._jinja_env is None:
            dag = self._context.get("dag")
            self._jinja_env = self._notifier.get_template_env(
                dag=dag if hasattr(dag, "get_template_env") else None
            )
        return self._notifier.render_template(value, self._context, self._jinja_env, set())

    def _leave_out(self, name: str, exc: Exception) -> None:
        """Leave out a field whose template raises: a callback is the last chance, and the incident is worth more."""
        reason = exception_text(exc)
        log.error(
            "The template of %s cannot be rendered, so the incident is raised without it. %s", name, reason
        )
        self._left_out.append(f"{name} ({reason})")
        setattr(self._notifier, name, DEFAULTS.get(name))

    def raise_incident(self) -> None:
        """Raise the incident for which the templates are rendered."""
        found = self._find_incident()
        if found is None:
            outbox.deliver_beside()
            return
        failure, fields = found
        created = self._hand_over(self._incident(failure, fields), failure)
        if is_in_task(failure, self._context):
            outbox.push_link(self._context, created.get("link"))

    async def araise_incident(self) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        found = self._find_incident()
        if found is None:
            return
        failure, fields = found
        written = await outbox.awrite(self._incident(failure, fields))
        if written is None:
            with _logged_if_lost(fields):
                await direct.asend(fields, bzctrl_conn_id=self._notifier.bzctrl_conn_id)
        elif airflow_at_least(3, 3):
            # Before, a thread that looks up a connection in the triggerer can stop its channel to Airflow.
            outbox.deliver_beside()

    def _find_incident(self) -> tuple[Failure, dict[str, Any]] | None:
        """Return the failure and the fields of its incident; None if none is to be raised."""
        if self._waits_for_retry():
            return None
        failure = self._failure.resolve()
        if is_covered(failure, self._context, self._notifier.roll_ups):
            log.info("An IncidentOnFailureOperator of this DAG handled each of the failed tasks.")
            return None
        if self._is_ignored(failure) or self._is_silenced(failure):
            return None
        fields = self._fields(failure)
        return None if self._is_only_logged(fields) else (failure, fields)

    def _waits_for_retry(self) -> bool:
        # A failed run has a reason; its context also has a task instance, of any of its tasks.
        is_run = self._context.get("reason") is not None
        if self._notifier.on_retry or is_run or not will_be_tried_again(self._context.get("ti")):
            return False
        log.info("The task will be tried again: no incident is raised yet.")
        return True

    def _is_ignored(self, failure: Failure) -> bool:
        """Fill what the DAG leaves out from the routes and from ``[bzctrl]``; return whether a route ignores the failure."""
        defaults = self._notifier.deployment_defaults
        routed = Routed()
        if self._notifier.routes:
            routed = find_routed(
                self._context,
                failure,
                render=self._render,
                is_from_policy=defaults is not None,
                is_set=self._is_set,
            )
        if routed.ignored_by:
            log.info("No incident is raised, because of %s.", routed.ignored_by)
            count_todos("ignored", todo_type=self._notifier.todo_type)
            return True
        self._notes = routed.notes
        for name, value in routed.without(self._is_set).items():
            setattr(self._notifier, name, value)
        for name, value in Routed(defaults or {}).without(self._is_set).items():
            try:
                setattr(self._notifier, name, self._render(value) if isinstance(value, str) else value)
            except Exception as exc:  # noqa: BLE001 - a template of the deployment can raise anything, and costs its field
                self._leave_out(name, exc)
        return False

    def _is_set(self, name: str) -> bool:
        return is_given(getattr(self._notifier, name), default=DEFAULTS.get(name))

    def _is_silenced(self, failure: Failure) -> bool:
        self._silencing = find_silencing(failure)
        if self._silencing.silence is None:
            self._notes = (*self._notes, self._silencing.note)
            return False
        log.info("No incident is raised: %s.", self._silencing.silence)
        count_todos("silenced", todo_type=self._notifier.todo_type)
        return True

    def _fields(self, failure: Failure) -> dict[str, Any]:
        link_to_run = self._notifier.link_to_run
        fields, invalid = leave_out_invalid({name: getattr(self._notifier, name) for name in TODO_FIELDS})
        filled = fill_text(failure, fields, link_to_run=link_to_run is not False)
        fields = fill_assignee(failure, add_run_link(filled, failure.run_url if link_to_run else None))
        for note in filter(None, [settings().note, *self._notes]):
            fields = add_note(fields, note)
        fields = add_left_out_note(fields, [*self._left_out, *invalid], with_templates=True)
        return fields | {
            "order_id": fields["order_id"] or failure.run_id,
            "todo_type": fields["todo_type"] or "INCIDENT",
        }

    def _is_only_logged(self, fields: Mapping[str, Any]) -> bool:
        if settings().in_test_runs or not is_test_run(self._context):
            return False
        log.warning(
            "This is a test run, from which callbacks send nothing to BzCtrl unless in_test_runs = True in the section "
            "[bzctrl] of Airflow's configuration. The incident would have been: %s",
            format_fields(fields),
        )
        return True

    def _repeats(self, failure: Failure, fields: Mapping[str, Any]) -> Repeats | None:
        """Return the rules for a failure that may repeat; None if each raises an incident."""
        window, number = self._notifier.dedup_window, self._notifier.consecutive_failures or 1
        if failure.kind == "deadline" or (not window and number == 1):
            return None
        conn_id, key = self._notifier.bzctrl_conn_id, self._notifier.dedup_key
        workspace = name_workspace(fields)
        return Repeats(
            key=key_of_failure(failure, bzctrl_conn_id=conn_id, workspace=workspace, key=key),
            occurrence=f"{failure.dag_id} {failure.run_id}",
            window_s=window.total_seconds() if window else 0,
            consecutive_failures=number,
            find_success=lambda: find_success(self._context, failure),
            source=name_source(self._context, failure),
        )

    def _identify(self, failure: Failure, fields: Mapping[str, Any]) -> str:
        """Return the identity of this incident, which is the same if Airflow calls the callback twice, as after a lost worker."""
        # The templates, because two notifiers of one callback are two incidents. Of an object only the type: its repr may
        # have an address, which is another one in the next process.
        templates = [
            f"{name}={safe_repr(value, max_chars=_TEMPLATES_CHARS)}"
            for name, value in sorted(self._templates.items())
        ]
        return identify(
            self._notifier.bzctrl_conn_id,
            name_workspace(fields),
            failure.kind,
            failure.dag_id,
            failure.run_id,
            *identify_occasion(failure, self._context, each_try=self._notifier.on_retry),
            *templates,
        )

    def _incident(self, failure: Failure, fields: Mapping[str, Any]) -> Incident:
        reason = failure.exception or failure.reason or ""
        return Incident(
            fields=fields,
            bzctrl_conn_id=self._notifier.bzctrl_conn_id,
            identity=self._identify(failure, fields),
            facts={
                "what": failure.kind,
                "dag_id": failure.dag_id,
                "run_id": failure.run_id,
                "run_url": failure.run_url or "",
                "reason": one_line(reason, max_chars=LINE_CHARS),
            },
        )

    def _hand_over(self, incident: Incident, failure: Failure) -> Mapping[str, Any]:
        """Write the incident into the outbox; if that fails, send it. Return the todo, as far as it is known yet."""
        repeats = self._repeats(failure, incident.fields)
        written = outbox.write(incident, repeats=repeats, forget=self._silencing.key)
        if written is None:
            with _logged_if_lost(incident.fields):
                return direct.send(incident.fields, bzctrl_conn_id=self._notifier.bzctrl_conn_id)
        if written.verdict.wait:
            count_todos("ignored", todo_type=self._notifier.todo_type)
        elif written.verdict.first:
            count_todos("deduplicated", todo_type=self._notifier.todo_type)
        known = written.incident
        todos = {}
        # Also if nothing was written: what waits has to be delivered by somebody.
        if may_wait(failure, self._context):
            todos = deliver_soon()
        else:
            outbox.deliver_beside()
        if known is None:
            return {}
        return todos.get(known.identity, {"key": known.key, "link": known.link})


@contextmanager
def _logged_if_lost(fields: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception:
        log_incident(fields)
        raise


def _get_failure(context: Mapping[str, Any]) -> Failure:
    """Return the failure, or only its run if the tasks cannot be looked up: a callback is the last chance."""
    try:
        return describe_failure(context, in_callback=True)
    except Exception as exc:  # noqa: BLE001 - whatever Airflow raises, the incident is worth more than its details
        log.warning("The failed tasks could not be looked up, so the incident names only the run: %r", exc)
        dag_id = getattr(context.get("dag"), "dag_id", "")
        return Failure(kind="run", dag_id=dag_id, run_id=str(context.get("run_id") or ""))


def _is_word(value: object) -> bool:
    """Return whether a field is unset, or only letters, digits, ``_`` and ``-``, as the default of a connection's id.

    To make Jinja's environment takes most of a callback's time, and each callback of a DAG is a process of its own.
    """
    return value is None or (isinstance(value, str) and value.replace("-", "_").isidentifier())


def _as_data(value: Any) -> Any:
    """Return a rendered value as text if it is ``{{ failure }}`` or ``{{ exception }}`` with native rendering."""
    if isinstance(value, Failure | LazyFailure):
        return str(value)
    return exception_text(value) if isinstance(value, BaseException) else value
