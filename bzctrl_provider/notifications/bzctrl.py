"""The callback that raises an incident: for a task, for a DAG, and for a missed deadline."""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from bzctrl_provider.field_checks import check_literals
from bzctrl_provider.fields import TODO_FIELDS, name_workspace
from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from datetime import timedelta
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

    from bzctrl_provider.dedup import FindSuccess
    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.fields import TodoFields
    from bzctrl_provider.silencing import Silencing
    from bzctrl_provider.spool import Entry

log = logging.getLogger(__name__)

_REASON_CHARS = 300

_DEFAULTS = {"bzctrl_conn_id": "bzctrl_default", "todo_type": "INCIDENT"}
"""A parameter with its default counts as left out."""


class BzCtrlNotifier(BaseNotifier):
    """Raise an incident that says what failed.

    ```python
    DAG("declarations", on_failure_callback=BzCtrlNotifier())
    DAG("declarations", default_args={"on_failure_callback": BzCtrlNotifier(priority="HIGH")})
    ```

    For a deadline alert, pass the class; Airflow creates the notifier when the deadline is missed:
    ``AsyncCallback(BzCtrlNotifier, kwargs={"title": "Late: {{ dag_run.dag_id }}"})``.

    The notifier writes title, description and order id (the run's id) if they are left out. Templates can use
    ``{{ failure }}``, as those of the operators.

    Airflow does not call a task's callback if the task is killed on its last try, and may call it twice after a lost
    worker; it calls a DAG's callback in both cases. ``IncidentOnFailureOperator`` does not depend on callbacks.

    :param bzctrl_conn_id: the Airflow connection, of type ``bzctrl``. (templated, like all fields)
    :param on_retry: whether to raise an incident also while a retry is still to come; default false.
    :param dedup_window: the time for which one incident also represents further failures of the same key, unless a success comes
        between them; off by default, and not for deadline alerts.
    :param dedup_key: the key of failures that count as the same; default: the DAG and the ids of what failed.
    :param consecutive_failures: how many runs in a row must fail before an incident is raised, from 1 to 1000; default: 1.
        Not for deadline alerts.
    :param link_to_run: whether the description has the address of the run in Airflow, as in ``CreateTodoOperator``.
    :param routes: whether the deployment's routes apply; default true. They fill what is left out here.
    :param context: the context that Airflow passes when it creates the notifier (deadline alerts).
    :param fields: the fields of a todo, as in ``CreateTodoOperator``; all optional.
    :raises BzCtrlError: when called, if no incident could be raised. The log then has all of its fields.
    """

    template_fields: Sequence[str] = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")

    def __init__(
        self,
        *positional: Any,
        bzctrl_conn_id: str = "bzctrl_default",
        on_retry: bool = False,
        dedup_window: timedelta | None = None,
        dedup_key: str | None = None,
        consecutive_failures: int | None = None,
        link_to_run: bool | None = None,
        routes: bool = True,
        context: Context | None = None,
        **fields: Unpack[TodoFields],
    ) -> None:
        super().__init__()
        if positional:  # above all the context, if the class itself is used as a callback
            raise TypeError(
                "BzCtrlNotifier takes keyword arguments only. As a callback, write BzCtrlNotifier() with parentheses."
            )
        if unknown := fields.keys() - set(TODO_FIELDS):
            raise TypeError(
                f"BzCtrlNotifier has no parameter {', '.join(sorted(unknown))}: its fields are {', '.join(TODO_FIELDS)}"
            )
        errors = _find_errors(dedup_window, consecutive_failures)
        if context is None:
            if fields or errors:
                check_literals("BzCtrlNotifier", fields, others=errors)
        # With a context this is no DAG file but the last chance: an invalid field is left out later.
        elif errors:
            log.error(
                "The incident is raised without an invalid %s.", " and ".join(name for name, _ in errors)
            )
            dedup_window = consecutive_failures = None
        self.bzctrl_conn_id = bzctrl_conn_id
        self.on_retry = on_retry
        self.dedup_window = dedup_window
        self.dedup_key = dedup_key
        self.consecutive_failures = consecutive_failures
        self.link_to_run = link_to_run
        self.routes = routes
        self.context = context or {}
        self._failure: LazyFailure | None = None
        self._left_out: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._jinja_env: Environment | None = None
        self._silencing: Silencing | None = None
        self.deployment_defaults: Mapping[str, Any] | None = None
        """The values of ``[bzctrl]`` for what neither the DAG nor a route sets; set by the policy, otherwise None."""
        self.roll_ups: Mapping[str, frozenset[str]] = {}
        """The tasks of the DAG that raise incidents, each with the ids of the tasks before it; set by the policy."""
        self._templates = dict(fields)
        for name in TODO_FIELDS:
            setattr(self, name, fields.get(name))
        self.todo_type = fields.get("todo_type", "INCIDENT")

    def __call__(self, *args: Any) -> None:
        """Raise the incident of a context."""
        (context,) = args
        # Rendered from a copy: rendering replaces the templates, and a DAG's next run needs them again.
        notifier = copy.copy(self)
        notifier.render_template_fields(context)
        notifier.notify(context)

    def __await__(self) -> Generator[Any, None, None]:
        """Raise the incident of the context that was given when the notifier was made."""
        notifier = copy.copy(self)
        notifier.render_template_fields(self.context)
        return notifier.async_notify(self.context).__await__()

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Render the fields, also for contexts without a DAG and under ``airflow dags test``, whose DAG has no environment."""
        # Imported here, like everything that only a callback needs: a DAG file with the notifier is parsed without it.
        from bzctrl_provider.failure import LazyFailure

        dag = context.get("dag")
        if dag is None:  # Airflow 2 reads the key while it renders, also if an alert's context has no DAG
            context["dag"] = None  # type: ignore[typeddict-item]  # as get_template_env takes it
        # The templates and the incident share one failure, so that Airflow is asked for it once.
        self._failure = context["failure"] = LazyFailure(context, _get_failure)  # type: ignore[typeddict-unknown-key]  # a variable of our own
        self._jinja_env = jinja_env
        self._left_out = []
        for name in self.template_fields:
            try:
                setattr(self, name, _as_data(self._render_value(getattr(self, name), context)))
            except Exception as exc:
                if name == "bzctrl_conn_id":
                    from bzctrl_provider.lost import log_incident

                    log_incident({name: getattr(self, name) for name in TODO_FIELDS})
                    raise
                self._leave_out(name, exc)

    def _render_value(self, value: Any, context: Context) -> Any:
        if _is_word(value):
            return value
        if self._jinja_env is None:
            dag = context.get("dag")
            self._jinja_env = self.get_template_env(dag=dag if hasattr(dag, "get_template_env") else None)
        return self.render_template(value, context, self._jinja_env, set())

    def _leave_out(self, name: str, exc: Exception) -> None:
        """Leave out a field whose template raises: a callback is the last chance, and the incident is worth more."""
        from bzctrl_provider.reason_text import exception_text

        reason = exception_text(exc)
        log.error(
            "The template of %s cannot be rendered, so the incident is raised without it. %s", name, reason
        )
        self._left_out.append(f"{name} ({reason})")
        setattr(self, name, _DEFAULTS.get(name))

    def notify(self, context: Context) -> None:
        """Raise the incident of a context for which the templates are rendered."""
        found = self._find_incident(context)
        if found is None:
            return
        failure, fields = found
        identity = self._identify(failure, context, fields)

        def hand_over(todo: dict[str, Any]) -> dict[str, Any]:
            created = self._hand_over(self._entry(failure, todo, identity), failure, context)
            if self._silencing:
                self._silencing.forget()
            return created

        if self.dedup_window is None and (self.consecutive_failures or 1) == 1:
            hand_over(fields)
            return
        # Only here: each callback of a DAG is a process of its own, and loads these modules again.
        from bzctrl_provider.dedup import deduplicated
        from bzctrl_provider.successes import LastSuccess

        last_success = LastSuccess(context, failure)
        if self._waits_for_others(failure, fields, last_success):
            return
        deduplicated(
            hand_over,
            window=self.dedup_window,
            bzctrl_conn_id=self.bzctrl_conn_id,
            key=self.dedup_key,
            failure=failure,
            identity=identity,
            last_success=last_success,
        )(fields)

    async def async_notify(self, context: Context) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        found = self._find_incident(context)
        if found is None:
            return
        failure, fields = found
        from bzctrl_provider.notifications import outbox
        from bzctrl_provider.version_compat import airflow_at_least

        written = await outbox.awrite(self._entry(failure, fields, self._identify(failure, context, fields)))
        if written is None:
            from bzctrl_provider.notifications import direct

            with self._logged_if_lost(fields):
                await direct.asend(fields, bzctrl_conn_id=self.bzctrl_conn_id)
        elif airflow_at_least(3, 3):
            # Before, a thread that looks up a connection in the triggerer can stop its channel to Airflow.
            outbox.deliver_beside()

    def _find_incident(self, context: Context) -> tuple[Failure, dict[str, Any]] | None:
        """Return the failure and the fields of its incident; None if none is to be raised."""
        if self._waits_for_retry(context):
            return None
        from bzctrl_provider.notifications.coverage import is_covered

        failure = self._get_failure(context)
        if is_covered(failure, context, self.roll_ups):
            log.info("An IncidentOnFailureOperator of this DAG handled each of the failed tasks.")
            return None
        if self._is_ignored(failure, context) or self._is_silenced(failure):
            return None
        fields = self._fields(failure)
        return None if self._is_only_logged(fields, context) else (failure, fields)

    def _is_ignored(self, failure: Failure, context: Context) -> bool:
        """Fill what the DAG leaves out from the routes and from ``[bzctrl]``; return whether a route ignores the failure."""
        from bzctrl_provider.metrics import count_todos
        from bzctrl_provider.routing import Routed, find_routed

        def render(value: Any) -> Any:
            return self._render_value(value, context)

        routed = Routed()
        if self.routes:
            routed = find_routed(
                context,
                failure,
                render=render,
                is_from_policy=self.deployment_defaults is not None,
                is_set=self._is_set,
            )
        if routed.ignored_by:
            log.info("No incident is raised, because of %s.", routed.ignored_by)
            count_todos("ignored", todo_type=self.todo_type)
            return True
        self._notes = routed.notes
        for name, value in routed.without(self._is_set).items():
            setattr(self, name, value)
        for name, value in Routed(self.deployment_defaults or {}).without(self._is_set).items():
            try:
                setattr(self, name, render(value) if isinstance(value, str) else value)
            except Exception as exc:  # noqa: BLE001 - as in render_template_fields
                self._leave_out(name, exc)
        return False

    def _is_silenced(self, failure: Failure) -> bool:
        from bzctrl_provider.metrics import count_todos
        from bzctrl_provider.silencing import find_silencing

        self._silencing = find_silencing(failure)
        if self._silencing.silence is None:
            self._notes = (*self._notes, self._silencing.note)
            return False
        log.info("No incident is raised: %s.", self._silencing.silence)
        count_todos("silenced", todo_type=self.todo_type)
        return True

    def _waits_for_others(
        self, failure: Failure, fields: Mapping[str, Any], last_success: FindSuccess
    ) -> bool:
        """Count the failure, and return whether more in a row are needed for an incident."""
        if failure.kind == "deadline":
            return False
        from bzctrl_provider.consecutive import find_wait
        from bzctrl_provider.dedup import full_key
        from bzctrl_provider.metrics import count_todos

        wait = find_wait(
            self.consecutive_failures,
            key=full_key(fields, bzctrl_conn_id=self.bzctrl_conn_id, key=self.dedup_key, failure=failure),
            occurrence=f"{failure.dag_id} {failure.run_id}",
            last_success=last_success,
        )
        if wait is None:
            return False
        log.info("No incident is raised yet: %s.", wait)
        count_todos("ignored", todo_type=self.todo_type)
        return True

    def _is_set(self, name: str) -> bool:
        from bzctrl_provider.routing import is_given

        return is_given(getattr(self, name), default=_DEFAULTS.get(name))

    def _hand_over(self, entry: Entry, failure: Failure, context: Context) -> dict[str, Any]:
        """Write the incident into the spool; without one, send it. Return the todo, as far as it is known yet."""
        from bzctrl_provider.notifications import outbox
        from bzctrl_provider.notifications.callback_context import is_in_task, may_wait
        from bzctrl_provider.spool import deliver_soon

        written = outbox.write(entry)
        if written is None:
            from bzctrl_provider.notifications import direct

            with self._logged_if_lost(entry.fields):
                created = direct.send(entry.fields, bzctrl_conn_id=self.bzctrl_conn_id)
        elif written.link or written.key:
            created = {"key": written.key, "link": written.link}
        elif may_wait(failure, context):
            created = deliver_soon().get(entry.identity, {})
        else:
            outbox.deliver_beside()
            created = {}
        if is_in_task(failure, context):
            outbox.push_link(context, created.get("link"))
        return created

    def _identify(self, failure: Failure, context: Context, fields: Mapping[str, Any]) -> str:
        """Return the identity of this incident, which is the same if Airflow calls the callback twice, as after a lost worker."""
        from bzctrl_provider.notifications.callback_context import identify_occasion
        from bzctrl_provider.spool import identify
        from bzctrl_provider.text import safe_repr

        # The templates, because two notifiers of one callback are two incidents. Of an object only the type: its repr may
        # have an address, which is another one in the next process.
        templates = [
            f"{name}={safe_repr(value, max_chars=10**6)}" for name, value in sorted(self._templates.items())
        ]
        return identify(
            self.bzctrl_conn_id,
            name_workspace(fields),
            failure.kind,
            failure.dag_id,
            failure.run_id,
            *identify_occasion(failure, context, each_try=self.on_retry),
            *templates,
        )

    def _entry(self, failure: Failure, fields: Mapping[str, Any], identity: str) -> Entry:
        from bzctrl_provider.spool import Entry
        from bzctrl_provider.text import one_line

        reason = failure.exception or failure.reason or ""
        return Entry(
            fields=fields,
            bzctrl_conn_id=self.bzctrl_conn_id,
            identity=identity,
            spooled_at=datetime.now(UTC),
            facts={
                "what": failure.kind,
                "dag_id": failure.dag_id,
                "run_id": failure.run_id,
                "run_url": failure.run_url or "",
                "reason": one_line(reason, max_chars=_REASON_CHARS),
            },
        )

    @contextmanager
    def _logged_if_lost(self, fields: Mapping[str, Any]) -> Iterator[None]:
        try:
            yield
        except Exception:
            from bzctrl_provider.lost import log_incident

            log_incident(fields)
            raise

    def _waits_for_retry(self, context: Context) -> bool:
        from bzctrl_provider.notifications.callback_context import will_be_tried_again

        # A failed run has a reason; its context also has a task instance, of any of its tasks.
        if self.on_retry or context.get("reason") is not None or not will_be_tried_again(context.get("ti")):
            return False
        log.info("The task will be tried again: no incident is raised yet.")
        return True

    def _get_failure(self, context: Context) -> Failure:
        return self._failure.resolve() if self._failure else _get_failure(context)

    def _is_only_logged(self, fields: Mapping[str, Any], context: Context) -> bool:
        from bzctrl_provider.notifications.dag_test import is_test_run

        if settings().in_test_runs or not is_test_run(context):
            return False
        from bzctrl_provider.lost import format_fields

        log.warning(
            "This is a test run, from which callbacks send nothing to BzCtrl unless in_test_runs = True in the section "
            "[bzctrl] of Airflow's configuration. The incident would have been: %s",
            format_fields(fields),
        )
        return True

    def _fields(self, failure: Failure) -> dict[str, Any]:
        from bzctrl_provider.failure import fill_assignee, fill_text
        from bzctrl_provider.field_checks import leave_out_invalid
        from bzctrl_provider.notes import add_left_out_note, add_note, add_run_link

        fields, invalid = leave_out_invalid({name: getattr(self, name) for name in TODO_FIELDS})
        filled = fill_text(failure, fields, link_to_run=self.link_to_run is not False)
        fields = fill_assignee(failure, add_run_link(filled, failure.run_url if self.link_to_run else None))
        for note in filter(None, [settings().note, *self._notes]):
            fields = add_note(fields, note)
        fields = add_left_out_note(fields, [*self._left_out, *invalid], with_templates=True)
        return fields | {
            "order_id": fields["order_id"] or failure.run_id,
            "todo_type": fields["todo_type"] or "INCIDENT",
        }


send_bzctrl_notification = BzCtrlNotifier


def _get_failure(context: Mapping[str, Any]) -> Failure:
    """Return the failure, or only its run if the tasks cannot be looked up: a callback is the last chance."""
    from bzctrl_provider.failure import Failure
    from bzctrl_provider.failure_lookup import describe_failure

    try:
        return describe_failure(context, in_callback=True)
    except Exception as exc:  # noqa: BLE001 - whatever Airflow raises, the incident is worth more than its details
        log.warning("The failed tasks could not be looked up, so the incident names only the run: %r", exc)
        dag_id = getattr(context.get("dag"), "dag_id", "")
        return Failure(kind="run", dag_id=dag_id, run_id=str(context.get("run_id") or ""))


def _find_errors(window: object, consecutive_failures: object) -> list[tuple[str, str]]:
    """Return the errors of the parameters that are no fields of a todo."""
    if window is None and consecutive_failures is None:
        return []
    from bzctrl_provider.consecutive import find_number_errors
    from bzctrl_provider.dedup import find_window_errors

    return find_window_errors(window) + find_number_errors(consecutive_failures)


def _is_word(value: object) -> bool:
    """Return whether a field is unset, or only letters, digits, ``_`` and ``-``, as the default of a connection's id.

    To make Jinja's environment takes most of a callback's time, and each callback of a DAG is a process of its own.
    """
    return value is None or (isinstance(value, str) and value.replace("-", "_").isidentifier())


def _as_data(value: Any) -> Any:
    """Return a rendered value as text if it is ``{{ failure }}`` or ``{{ exception }}`` with native rendering."""
    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.reason_text import exception_text

    if isinstance(value, Failure | LazyFailure):
        return str(value)
    return exception_text(value) if isinstance(value, BaseException) else value
