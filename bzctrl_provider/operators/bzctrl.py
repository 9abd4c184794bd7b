"""Tasks that create todos in BzCtrl."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseOperator

from bzctrl_provider.airflow_compat import (
    airflow_at_least,
    find_mapped_data,
    get_partial_kwargs,
    is_mapped_instance,
)
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.exceptions import BzCtrlConfigError, BzCtrlError
from bzctrl_provider.fields import TODO_FIELDS, Text, TextTemplates, add_run_link, keep_text, name_workspace
from bzctrl_provider.links.bzctrl import LINKS_OF_TODOS, BzCtrlTodoLink
from bzctrl_provider.rules.field_checks import check_literals, find_number_errors, find_window_errors
from bzctrl_provider.settings import settings
from bzctrl_provider.text import LOG_LINES_MAX, MAX_WORKERS, safe_repr, web_address

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context
    from jinja2 import Environment

    from bzctrl_provider.failure.model import LazyFailure
    from bzctrl_provider.incidents.fill import Wishes
    from bzctrl_provider.operators.memory import OnUnknownOutcome
    from bzctrl_provider.outbox.writer import NotRaised
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

_PLACE = {"domain", "workspace"}

_RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": True}
"""Of an incident operator, unless a DAG sets others: a BzCtrl that is unavailable for minutes costs no incident."""

_AFTER_ALL = "all_done_setup_success"
"""Airflow's rule for teardowns: run when all before it are done, however they ended."""


class CreateTodoOperator(TextTemplates, BaseOperator):
    """A task that creates one incident or task in BzCtrl.

    Every field of the todo is a template field and is checked after rendering; all faults are reported at once.
    The task's page gets the link "BzCtrl todo". The task returns what was created, by this try or by an earlier one since
    the last clear, as a mapping: ``key``, ``link``, ``title``, ``todo_type``, ``description``, ``tags``.

    :param todo_type: ``INCIDENT`` (default) or ``TASK``. (templated, like all that follow)
    :param title: text; line breaks become spaces. Default: one line that says which of the tasks before this one failed.
    :param description: text. Default: what failed and why, with the addresses of logs and run.
    :param domain_workspace: where it belongs, such as ``EXA-CON-BUS-WOR``; default: the connection's.
    :param domain: with ``workspace``, instead of ``domain_workspace``.
    :param workspace: see ``domain``.
    :param result: text; tasks only.
    :param financial_impact: an amount in EUR: a number, or digits with an optional decimal point; incidents only.
    :param impact: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param likelihood: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param status: ``IN PROGRESS`` (default), ``TODO``, ``DONE`` or ``EXPIRED``.
    :param priority: ``HIGH``, ``MEDIUM`` or ``LOW``.
    :param assignee: an e-mail address; default: the connection's, otherwise the reporter.
    :param reporter: an e-mail address; default: the connection's.
    :param category: a list of texts, or one text.
    :param sub_category: a list of texts, or one text.
    :param order_id: text, which BzCtrl makes a tag; default: the id of the DAG run, so that the tag leads back to it. (Runs of
        two DAGs may have the same id; ``"{{ dag.dag_id }} {{ run_id }}"`` names the DAG, too.)
    :param lrn: text, a Local Reference Number, which BzCtrl makes a tag.
    :param reminder_date: a date, a datetime or ISO 8601 text.
    :param bzctrl_conn_id: the Airflow connection, of type ``bzctrl``.
    :param on_unknown_outcome: the action after an attempt without a response, whose todo may exist: ``retry`` (default)
        creates it again, and the description's last line says that it may be a duplicate; ``fail`` fails the task and
        says what to look for. Not templated.
    :param link_to_run: whether the description has the address of the run in Airflow; default: a generated one has it, and
        one of your own is sent unchanged. With true, its last line is the address. Not templated.
    :param dedup_window: how long one todo covers further failures of the same key; off by default. Within it no second
        one is created: the first one's link is shown, and ``deduplicated`` is true in the result. Not templated.
    :param dedup_key: the key of failures that count as the same; default: the DAG, the task, and the ids of what failed before it.
    :raises AirflowFailException: if a retry cannot help: the connection or the todo is invalid, or BzCtrl refused
        the credentials or the todo.
    :raises BzCtrlError: anything else; Airflow retries the task.
    """

    template_fields: Sequence[str] = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "description": "md",
        "result": "md",
        "category": "json",
        "sub_category": "json",
    }
    operator_extra_links: Collection[BaseOperatorLink] = (BzCtrlTodoLink(),)
    todo_link: str = ""
    """The address of the todo; empty while there is none."""
    _mapped_data: list[Any] | None = None
    """The values that come from data and are not rendered; None before the first value is rendered."""
    ui_color = "#f6d9d5"

    def __init__(
        self,
        *,
        todo_type: str = "INCIDENT",
        title: Text = None,
        description: Text = None,
        domain_workspace: Text = None,
        domain: Text = None,
        workspace: Text = None,
        result: Text = None,
        financial_impact: Text = None,
        impact: str | None = None,
        likelihood: str | None = None,
        status: str | None = None,
        priority: str | None = None,
        assignee: str | None = None,
        reporter: str | None = None,
        category: Sequence[Text] | Text = None,
        sub_category: Sequence[Text] | Text = None,
        order_id: Text = "{{ run_id }}",
        lrn: Text = None,
        reminder_date: date | str | None = None,
        bzctrl_conn_id: str = "bzctrl_default",
        on_unknown_outcome: OnUnknownOutcome = "retry",
        link_to_run: bool | None = None,
        dedup_window: timedelta | None = None,
        dedup_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_unknown_outcome = on_unknown_outcome
        self.link_to_run = link_to_run
        self.dedup_window = dedup_window
        self.dedup_key = dedup_key
        self.todo_type = todo_type
        self.title = title
        self.description = description
        self.domain_workspace = domain_workspace
        self.domain = domain
        self.workspace = workspace
        self.result = result
        self.financial_impact = financial_impact
        self.impact = impact
        self.likelihood = likelihood
        self.status = status
        self.priority = priority
        self.assignee = assignee
        self.reporter = reporter
        self.category = category
        self.sub_category = sub_category
        self.order_id = order_id
        self.lrn = lrn
        self.reminder_date = reminder_date
        self.bzctrl_conn_id = bzctrl_conn_id
        if not is_mapped_instance(self):
            self._check_literals(vars(self))

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped one, and check the literals among its fields."""
        # A field may have its counterpart in expand().
        known = kwargs.keys() if kwargs.keys() >= _PLACE else kwargs.keys() - _PLACE
        cls._check_literals({name: kwargs[name] for name in known})
        return super().partial(**kwargs)

    @classmethod
    def _check_literals(cls, values: Mapping[str, Any]) -> None:
        """Check the parameters that are no templates, while the DAG is parsed.

        :raises ValueError: names every error.
        """
        fields = {name: values[name] for name in TODO_FIELDS if name in values}
        check_literals(cls.__name__, fields, others=cls._find_errors(values))

    @classmethod
    def _find_errors(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the errors of the parameters that are no fields of a todo."""
        errors = []
        outcome = values.get("on_unknown_outcome", "retry")
        if outcome not in ("retry", "fail"):
            errors.append(("on_unknown_outcome", f"must be 'retry' or 'fail', not {safe_repr(outcome)}"))
        return errors + find_window_errors(values.get("dedup_window"))

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value, with ``failure`` among the variables and without the templates that are in data.

        Airflow calls this for plain and for mapped tasks alike.
        """
        seen_oids = set() if seen_oids is None else seen_oids
        if self._mapped_data is None:
            # Also those of a subclass.
            defaults = [
                parameter.default
                for base in type(self).__mro__
                if issubclass(base, CreateTodoOperator)
                for parameter in signature(base.__init__).parameters.values()
            ]
            self._mapped_data = find_mapped_data(self, context, defaults=defaults)
            get_failure(context)  # for the templates, by the context
        seen_oids.update(map(id, self._mapped_data))
        # Airflow says only what it renders: the first field with it that is not rendered yet, or a part of one.
        name = next((name for name in self.template_fields if getattr(self, name, None) is content), "")
        jinja_env = keep_text(jinja_env or self.get_template_env(), name, content)
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the todo."""
        from bzctrl_provider.outbox.writer import announce

        fields = self._write_text(context, self._get_fields())
        return self._carry_out(context, announce(self._new_todo(context, fields)))

    def _get_fields(self) -> dict[str, Any]:
        from bzctrl_provider.failure.model import as_text

        return {name: as_text(getattr(self, name)) for name in TODO_FIELDS}

    def _write_text(self, context: Context, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields with the texts that are left out, and with the address of the run."""
        from bzctrl_provider.failure.lookup import find_run_url
        from bzctrl_provider.failure.model import fill_text

        filled = fill_text(get_failure(context), fields, link_to_run=self.link_to_run is not False)
        return add_run_link(filled, find_run_url(context)) if self.link_to_run else filled

    def _new_todo(self, context: Context, fields: Mapping[str, Any]) -> Incident:
        from bzctrl_provider.incidents.occurrence import Occurrence, TryState
        from bzctrl_provider.outbox.writer import identify
        from bzctrl_provider.store.incidents import Incident

        # Not of the failure, for which Airflow would be asked: a todo may need nothing of it.
        dag_id = getattr(context.get("dag"), "dag_id", None) or ""
        run_id = str(context.get("run_id") or "")
        index = getattr(context["ti"], "map_index", None)
        generation = TryState.from_ti(context["ti"]).generation
        repeats = None
        if self.dedup_window:
            # Only here: each task would load the decision about incidents.
            from bzctrl_provider.incidents.decide import new_repeats

            occurrence = Occurrence(failure=get_failure(context), task_id=self.task_id)
            repeats = new_repeats(occurrence, vars(self), self.bzctrl_conn_id, name_workspace(fields))
        return Incident(
            identity=identify("todo", self.bzctrl_conn_id, dag_id, run_id, self.task_id, index, generation),
            bzctrl_conn_id=self.bzctrl_conn_id,
            fields=fields,
            repeats=repeats,
        )

    def _carry_out(self, context: Context, decision: Incident | NotRaised) -> dict[str, Any]:
        """Create a todo that is to be raised; otherwise return the one that represents it.

        :raises AirflowSkipException: there is none.
        """
        from bzctrl_provider.outbox.writer import NotRaised, as_dict

        if not isinstance(decision, NotRaised):
            return self._create(context, decision)
        if decision.first is None:
            raise AirflowSkipException(str(decision))
        log.info("%s", decision)
        return self._show(context, {**as_dict(decision.first), "deduplicated": True})

    def _create(self, context: Context, incident: Incident) -> dict[str, Any]:
        """Create a todo that is to be raised, once for all tries of the task."""
        # Imported here, like all that only a running task needs: a DAG file that names the operator is parsed without it.
        from bzctrl_provider.hooks.bzctrl import BzCtrlHook
        from bzctrl_provider.operators.memory import open_journal
        from bzctrl_provider.outbox.writer import as_dict, note_created, release

        _warn_of_none(incident.fields)
        hook = BzCtrlHook(incident.bzctrl_conn_id)
        try:
            # An error of the connection comes before an attempt is remembered.
            message_format = hook.get_conn().config.message_format
            incident = replace(incident, fields=self._fit(incident.fields, message_format))
            journal = open_journal(context, self.on_unknown_outcome)
            created = journal.create_one(hook.create_todo, incident.fields)
        except Exception as exc:
            # First the outbox: an incident that waits there keeps its window.
            if self._queue(context, incident, exc):
                return {**as_dict(incident), "queued": True}
            release(incident)
            if getattr(exc, "is_permanent", False):
                # Without its cause, which has the same message.
                raise AirflowFailException(str(exc)) from None
            raise
        note_created(incident, created)
        shown = created if incident.repeats is None else {**created, "deduplicated": False}
        return self._show(context, shown)

    def _fit(self, fields: Mapping[str, Any], message_format: str) -> Mapping[str, Any]:  # noqa: ARG002 - see IncidentOnFailureOperator
        """Return the fields to send in a message format; of a todo, all of them."""
        return fields

    def _queue(self, context: Context, incident: Incident, exc: Exception) -> bool:  # noqa: ARG002 - see IncidentOnFailureOperator
        """Return whether a todo that could not be created waits in the outbox; only incidents do."""
        return False

    def _show(self, context: Context, created: dict[str, Any]) -> dict[str, Any]:
        """Show the link of a todo on the task's page; it may come from a memory, which others can write as well."""
        if link := web_address(created.get("link")):
            self.todo_link = link
            context["ti"].xcom_push(key=BzCtrlTodoLink.xcom_key, value=link)
        return created


class IncidentOnFailureOperator(CreateTodoOperator):
    """A task that raises one incident if any of the checks before it failed, and leaves the run failed.

    ```python
    checks >> IncidentOnFailureOperator(task_id="raise_incident")
    ```

    It waits for all of them, is skipped when none failed, and otherwise lists all that failed. A check that could not
    run, because something before it failed, counts as failed, and what failed is listed.

    It is a teardown task, which Airflow ignores when it decides whether a run failed: the incident's success does not
    mask the failure. So no task can follow it: write ``check >> [raise_incident, load]`` instead of
    ``check >> raise_incident >> load``. A task *beside* it that runs and succeeds after a failure, too (``all_done``),
    still masks the failure, as it does without this operator.

    Without ``retries`` on the task, its DAG's or its task group's ``default_args``, it has three, after 1, 2 and 4
    minutes. An optional field whose rendered value is invalid is left out, and the description and the log name it. If
    the last try fails, the incident goes into the outbox, from which it is created later, and the task succeeds; if that is not
    possible, all of its fields go into the log.

    When it is connected with the checks, it adds ``remember_exception`` to the failure callbacks of these tasks and of all
    that are before them, in front of their own, so that the incident says why they failed. ``dag_policy`` does the same
    for the tasks that are connected later, for a mapped operator, and for one that is connected by its task group. In the
    same ways, branches directly before it are kept from skipping it.

    Without an ``assignee``, the incident is assigned to the owner of the failed tasks, otherwise to the owner of the DAG,
    if that is an e-mail address; otherwise to the assignee of the connection.

    The parameters, results and errors are otherwise those of ``CreateTodoOperator``. A parameter that neither the
    DAG nor a route sets has the value of ``[bzctrl]``, as in all incidents: ``conn_id``, ``domain_workspace``,
    ``priority``, ``dedup_window_s``, ``dedup_key`` and ``consecutive_failures``. A ``dedup_window`` also ends when all checks pass.

    :param remember_exceptions: whether to do so; default: ``[bzctrl] remember_exceptions``, which is true unless it is
        switched off. Not templated.
    :param routes: whether the deployment's routes apply; default true. They fill the parameters that are left out or have
        their defaults; if one has ``ignore``, the task is skipped. Not templated.
    :param consecutive_failures: how many runs in a row must fail with the same tasks before an incident is raised, from 1
        to 1000; default: that of ``[bzctrl]``, which is 1. The task is skipped before, and its log says "failure 2 of 3
        in a row". When all checks pass,
        the count begins again. Not templated.
    :param include_log_lines: how many of the last lines of each failed task's log the incident has, 0 to 50; default:
        ``[bzctrl] include_log_lines``, which is 0. The tasks keep them beside their exceptions. Not templated.
    :raises ValueError: while the DAG is built, if a task is put after it.
    """

    def __init__(
        self,
        *,
        remember_exceptions: bool | None = None,
        routes: bool = True,
        consecutive_failures: int | None = None,
        include_log_lines: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.remember_exceptions = remember_exceptions
        self.include_log_lines = include_log_lines
        self.consecutive_failures = consecutive_failures
        self.routes = routes
        kwargs.setdefault("trigger_rule", _AFTER_ALL)
        super().__init__(**kwargs, **_find_retries(kwargs, kwargs.get("default_args")))
        # Not by as_teardown(), which replaces the trigger rule.
        self.is_teardown = True

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped one, as a teardown: otherwise Airflow would never run it."""
        kwargs.setdefault("trigger_rule", _AFTER_ALL)
        partial = super().partial(**kwargs)
        partial_kwargs = get_partial_kwargs(partial)
        parents = (partial_kwargs.get("dag"), partial_kwargs.get("task_group"))
        of_parents = [getattr(parent, "default_args", None) for parent in parents]
        partial_kwargs |= _find_retries(kwargs, kwargs.get("default_args"), *of_parents)
        partial_kwargs["is_teardown"] = True
        return partial

    @classmethod
    def _find_errors(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        errors = super()._find_errors(values) + find_number_errors(values.get("consecutive_failures"))
        lines = values.get("include_log_lines")
        return errors + find_number_errors(lines, "include_log_lines", least=0, most=LOG_LINES_MAX)

    def _wish(self, context: Context) -> Wishes:
        """Return what the DAG asks for."""
        from bzctrl_provider.incidents.fill import Wishes, read_parameters

        return Wishes(
            values=read_parameters(self),
            render=lambda name, value: self.render_template(
                value, context, keep_text(self.get_template_env(), name, value)
            ),
            link_to_run=self.link_to_run,
            routes=self.routes,
        )

    def _fit(self, fields: Mapping[str, Any], message_format: str) -> Mapping[str, Any]:
        """Return the fields that the message format has: the incident is worth more than its field."""
        from bzctrl_provider.rules.field_checks import leave_out_of_format

        return leave_out_of_format(fields, message_format)

    def _queue(self, context: Context, incident: Incident, exc: Exception) -> bool:
        """Put the incident into the outbox, or log it, if Airflow makes no further try."""
        from bzctrl_provider.incidents.occurrence import TryState
        from bzctrl_provider.outbox.writer import log_incident, queue_incident

        is_permanent = getattr(exc, "is_permanent", False)
        if not is_permanent and not TryState.from_ti(context["ti"]).is_last:
            return False
        # Rejected, or with `fail` nothing may be sent again after an attempt without a response.
        is_final = is_permanent and getattr(exc, "concerns", "") == "todo"
        if not is_final and queue_incident(incident, exc):
            return True
        log_incident(incident.fields)
        return False

    def set_downstream(self, task_or_task_list: Any, edge_modifier: Any = None) -> None:  # noqa: ARG002 - Airflow's signature
        """Raise an error: no task can follow this one."""
        raise self._is_last(task_or_task_list)

    def update_relative(self, other: Any, upstream: bool = True, edge_modifier: Any = None) -> None:
        """Raise an error if a task puts itself after this one."""
        if not upstream:
            raise self._is_last(other)
        super().update_relative(other, upstream, edge_modifier)
        self._prepare(other)

    def set_upstream(self, task_or_task_list: Any, edge_modifier: Any = None) -> None:
        """Connect it with tasks before it, which then keep their exceptions and do not skip it."""
        super().set_upstream(task_or_task_list, edge_modifier)
        self._prepare(task_or_task_list)

    @staticmethod
    def get_option(task: Any, name: str) -> Any:
        """Return a parameter of a task of this class, which may be mapped; the option of the same name if it is left out."""
        mapped = getattr(task, "partial_kwargs", None)
        chosen = mapped.get(name) if mapped else getattr(task, name, None)
        return getattr(settings(), name) if chosen is None else chosen

    def _prepare(self, before: Any) -> None:
        """Prepare tasks that are put directly before this one. Never raises: a DAG file is parsed without it."""
        from bzctrl_provider.failure.dag_graph import keep_from_skipping
        from bzctrl_provider.failure.reasons import keep_reasons_before

        with best_effort(f"the tasks before {self.task_id}, which keep no exceptions for the incident"):
            tasks = [task for other in _as_list(before) for task in other.leaves]
            keep_from_skipping(tasks, self.task_id)
            if self.get_option(self, "remember_exceptions"):
                keep_reasons_before(tasks, log_lines=self.get_option(self, "include_log_lines"))

    def _is_last(self, after: Any) -> ValueError:
        names = ", ".join(task.task_id for other in _as_list(after) for task in other.roots)
        return ValueError(
            f"{self.task_id} raises an incident after failed checks, so no task can follow it: {names} would run "
            f"after a failure and be skipped after a success. Write checks >> [{self.task_id}, {names}]."
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the incident, or skip."""
        from bzctrl_provider.incidents.decide import decide
        from bzctrl_provider.incidents.occurrence import read_checks
        from bzctrl_provider.outbox.writer import NotRaised, announce, note_pass
        from bzctrl_provider.store.repeats import COUNTED_XCOM_KEY

        failure = get_failure(context)
        occurrence = read_checks(context, failure, task_id=self.task_id)
        if not failure.tasks:
            if self._may_repeat():
                note_pass(occurrence.pass_key)
            raise AirflowSkipException("No check failed: there is nothing to raise.")
        decision = decide(occurrence, self._wish(context), record=announce)
        if isinstance(decision, NotRaised) and decision.outcome == "counted":
            # For the policy, which raises an incident for what a skipped roll-up did not see.
            context["ti"].xcom_push(key=COUNTED_XCOM_KEY, value=decision.why)
        return self._carry_out(context, decision)

    def _may_repeat(self) -> bool:
        """Return whether failures of this task may share an incident, or be counted."""
        if self.routes and settings().routes_path is not None:
            return True
        failures = self.get_option(self, "consecutive_failures")
        return failures > 1 or bool(self.get_option(self, "dedup_window"))


class CreateTodosOperator(CreateTodoOperator):
    """A task that creates many incidents or tasks in BzCtrl, several at a time.

    ```python
    CreateTodosOperator(task_id="file", todos="{{ ti.xcom_pull('find') }}", description="See the report.")
    ```

    A faulty or refused one does not keep the others from being created: the task fails after all of them were tried,
    with a table of both in its log. It returns what was created, one mapping for each todo, in the order of ``todos``.

    The task's page gets a link to each of the first ten: "BzCtrl todo", "BzCtrl todo 02" and so on. In Airflow 2 it is one
    link, "BzCtrl todo": to the todo if there is one, otherwise to the task's log, which has the address of each.

    :param todos: a list of mappings of the fields of a todo. (templated) An empty list or None skips the task.
    :param max_workers: how many at a time, 1 to 64; default 8.
    :param link_to_run: whether the last line of each description is the address of the run in Airflow; default true.
    :param kwargs: the parameters of ``CreateTodoOperator``, for the fields that a mapping does not have.
    :raises BzCtrlError: if a todo was not created and a retry may help, which creates only the missing todos.
    :raises AirflowFailException: if a todo was not created and a retry cannot help, or this was the last try.
    """

    template_fields: Sequence[str] = ("todos", *CreateTodoOperator.template_fields)
    operator_extra_links = LINKS_OF_TODOS
    todo_links: tuple[str, ...] = ()
    """The addresses of the todos, once they were created."""

    def __init__(
        self, *, todos: Any, max_workers: int = 8, link_to_run: bool | None = True, **kwargs: Any
    ) -> None:
        self.max_workers = max_workers
        super().__init__(link_to_run=link_to_run, **kwargs)
        self.todos = todos

    @classmethod
    def _check_literals(cls, values: Mapping[str, Any]) -> None:
        # A mapping may be of the other type, to which another field belongs.
        if str(values.get("todo_type")).upper() in ("INCIDENT", "TASK"):
            values = {name: value for name, value in values.items() if name != "todo_type"}
        super()._check_literals(values)

    @classmethod
    def _find_errors(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        errors = super()._find_errors({**values, "dedup_window": None})
        if values.get("dedup_window") is not None:
            error = "is for single todos: map CreateTodoOperator over the data instead"
            errors.append(("dedup_window", error))
        return errors + find_number_errors(values.get("max_workers"), "max_workers", most=MAX_WORKERS)

    def execute(self, context: Context) -> Any:
        """Create the todos."""
        # First: Airflow asks for the links of a task that fails, too.
        self._set_links(context, [])
        return self._create_all(context, self.todos)

    def _create_all(self, context: Context, todos: Any) -> list[dict[str, Any]]:
        """Create all todos that can be created, and show their links, also if others are missing."""
        from bzctrl_provider.hooks.bzctrl import BzCtrlHook
        from bzctrl_provider.operators.memory import fill_todo, open_journal, parse_todos, summarize

        if has_none(todos):
            raise AirflowSkipException("There is no todo to create.")
        defaults = {name: value for name, value in self._get_fields().items() if value is not None}
        filled = [self._write_text(context, fill_todo(todo, defaults)) for todo in parse_todos(todos)]
        hook = BzCtrlHook(self.bzctrl_conn_id)
        try:
            # An error of the connection comes before an attempt is remembered.
            hook.get_conn()
        except BzCtrlConfigError as exc:
            raise AirflowFailException(str(exc)) from None
        create_all = functools.partial(hook.create_todos, max_workers=self.max_workers)
        journal = open_journal(context, self.on_unknown_outcome)
        results = journal.create_many(create_all, filled, batch_size=4 * self.max_workers)
        created = [result for result in results if not isinstance(result, BzCtrlError)]
        self._set_links(context, created)
        if len(created) < len(results):
            raise summarize(filled, results, is_last=journal.tries.is_last)
        return created

    def _set_links(self, context: Context, created: Iterable[Mapping[str, Any]]) -> None:
        """Show the links of the todos on the page of the task, as far as it has links."""
        links = [link for todo in created if (link := web_address(todo.get("link")))]
        self.todo_links = tuple(links)
        self.todo_link = links[0] if links else ""
        if airflow_at_least(3, 0):
            # Airflow stores an XCom for each link of the executed operator, also for an empty one.
            self.operator_extra_links = LINKS_OF_TODOS[: len(links)]
        elif links:
            if len(links) > 1:
                self.todo_link = context["ti"].log_url
            context["ti"].xcom_push(key=BzCtrlTodoLink.xcom_key, value=self.todo_link)


def _find_retries(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the retries of an incident operator; none if a DAG file sets them.

    :param given: its parameters, and the default arguments around it.
    """
    names = {name for arguments in given for name in arguments or ()}
    return {} if "retries" in names else {name: _RETRIES[name] for name in _RETRIES.keys() - names}


def _as_list(tasks: Any) -> Sequence[Any]:
    return tasks if isinstance(tasks, Sequence) else [tasks]


def has_none(todos: object) -> bool:
    """Return whether todos are None or an empty list; a table does not say by its truth whether it is empty."""
    return todos is None or (isinstance(todos, Sequence) and not todos)


def _warn_of_none(fields: Mapping[str, Any]) -> None:
    if empty := [name for name, value in fields.items() if isinstance(value, str) and value == "None"]:
        log.warning(
            "A template found no value, so the text is 'None' in: %s. "
            "If a field may be left out, write {{ … or '' }}.",
            ", ".join(empty),
        )


def get_failure(context: Context) -> LazyFailure:
    """Return the failure that templates use, which the context keeps, so that Airflow is asked for it once."""
    from bzctrl_provider.failure.lookup import describe_failure
    from bzctrl_provider.failure.model import LazyFailure

    failure = context.get("failure")
    if not isinstance(failure, LazyFailure):
        failure = LazyFailure(context, describe_failure)
        context["failure"] = failure  # type: ignore[typeddict-unknown-key]  # a variable of our own
    return failure
