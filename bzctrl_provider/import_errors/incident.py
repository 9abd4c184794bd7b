"""The incident of a broken DAG file, from its trace and the routes. Nothing here looks anything up."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from bzctrl_provider.failure import Failure, as_text, fill_text
from bzctrl_provider.field_checks import leave_out_invalid
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.limits import LINE_CHARS, NAME_CHARS, TEXT_CHARS
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.notes import add_left_out_note, add_note
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.outbox.incident import format_time, identify
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.routing import Routed, find_routed
from bzctrl_provider.settings import settings
from bzctrl_provider.store.incidents import Incident
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.import_errors.dag_files import DagFile
    from bzctrl_provider.store.broken_files import BrokenFile

log = logging.getLogger(__name__)

_TRACE_CHARS = 20_000

_CREDENTIALS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")


def describe_import_error(dag_file: DagFile, stacktrace: str, broken: BrokenFile) -> Failure:
    """Return the failure of a DAG file."""
    return Failure(
        kind="import",
        dag_id="",
        run_id="",
        file=one_line(dag_file.path, max_chars=TEXT_CHARS),
        bundle=dag_file.bundle,
        reason=last_line(stacktrace),
        broken_since=format_time(broken.since),
        broken_for_s=int(broken.seen - broken.since),
    )


def last_line(stacktrace: str) -> str:
    """Return the last line of a trace, redacted and bounded."""
    lines = [line for line in stacktrace[-_TRACE_CHARS:].splitlines() if line.strip()]
    # The DAG processor did not read the secrets of the DAG file, so Airflow masks fewer of them here than in a task.
    text = _CREDENTIALS.sub(r"\1:***@", lines[-1]) if lines else ""
    return one_line(exception_text(text) or "", max_chars=LINE_CHARS)


def make_incident(failure: Failure, broken: BrokenFile) -> Incident | None:
    """Return the incident; None if a route ignores the file."""
    render = _renderer(failure)
    routed = find_routed({}, failure, render=render)
    if routed.ignored_by:
        log.info("No incident is raised for %s, because of %s.", failure.file, routed.ignored_by)
        count_todos("ignored", todo_type="INCIDENT")
        return None
    values, invalid = _with_defaults(routed, render)
    fields, invalid_fields = leave_out_invalid({name: values.get(name) for name in TODO_FIELDS})
    fields = fill_text(failure, fields)
    for note in filter(None, (settings().note, *routed.notes)):
        fields = add_note(fields, note)
    fields = add_left_out_note(fields, [*invalid, *invalid_fields], with_templates=True)
    return Incident(
        fields=fields
        | {
            "order_id": fields["order_id"] or (failure.file or "")[-NAME_CHARS:],
            "todo_type": fields["todo_type"] or "INCIDENT",
        },
        bzctrl_conn_id=str(values.get("bzctrl_conn_id") or settings().conn_id),
        identity=identify("import", broken.file, broken.since),
        facts={
            "what": failure.kind,
            "file": failure.file or "",
            "reason": failure.reason or "",
        },
    )


def _with_defaults(routed: Routed, render: Callable[[Any], Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the routes, with those of ``[bzctrl]`` for what no route sets, and those left out."""
    values, left_out = dict(routed.values), []
    options = settings()
    defaults = {
        "bzctrl_conn_id": options.conn_id,
        "domain_workspace": options.domain_workspace,
        "priority": options.priority,
    }
    for name, value in Routed(defaults).without(routed.values.__contains__).items():
        try:
            values[name] = render(value) if isinstance(value, str) else value
        except Exception as exc:  # noqa: BLE001 - the incident is worth more than its field
            left_out.append(f"{name} ({exception_text(exc)})")
    return values, left_out


def _renderer(failure: Failure) -> Callable[[Any], Any]:
    """Return a function that renders a template with ``failure`` as its only variable."""
    notifier = BzCtrlNotifier()
    env = notifier.get_template_env(dag=None)
    # Airflow 2 reads the key while it renders.
    context: Mapping[str, Any] = {"failure": failure, "dag": None}

    def render(value: Any) -> Any:
        return as_text(notifier.render_template(value, context, env, set()))  # type: ignore[arg-type]  # of no task

    return render
