"""The command ``bzctrl check --explain``: whether an incident would be raised now, why, and where each field comes from."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import find_database_error, read_dag_facts, read_server_variable
from bzctrl_provider.failure.model import FailedTask, Failure
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.deployment import SILENCES_VARIABLE, find_names, find_silencing, load_routes
from bzctrl_provider.incidents.fill import Wishes, complete, fill
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.outbox.writer import NotRaised, claim, is_set
from bzctrl_provider.rules.routes import RUN_TYPES, Route, current_run_type, find_ignoring
from bzctrl_provider.settings import settings
from bzctrl_provider.text import NAME_CHARS, TEXT_CHARS, one_line, safe_repr

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

_SHOWN = {
    "dags": "DAG",
    "tags": "tags",
    "owners": "owners",
    "tasks": "tasks",
    "run_types": "run type",
    "teams": "team",
    "files": "file",
}

_BACKFILLS = "Its failed backfills raise incidents, too: the routes file has no route with ignore for them. (Without a file, they raise none.)"

_NO_DAG = "Airflow's database has no such DAG, or is not available to this process: its tags and owners are those of --tag and --owner."

_GENERATED = {
    "todo_type": "the default",
    "title": "the failure",
    "description": "the failure",
    "order_id": "the run",
    "assignee": "the owner",
}
"""Where a field comes from that nobody sets."""


def run_explain(arguments: argparse.Namespace) -> tuple[dict[str, Any], Iterator[str]]:
    """Return the decision about a failure, and where each field comes from, as a report and as lines.

    :param arguments: those of the command.
    """
    stored, notes = _read_stored(arguments.explain)
    occurrence = _read_occurrence(arguments, stored)
    names = find_names(occurrence)
    routes, loaded = load_routes(occurrence)
    if occurrence.is_of_policy and not find_ignoring(routes, names | {"run_types": ("backfill",)}):
        notes.append(_BACKFILLS)
    raisers, is_raiser_known = _find_raisers(occurrence, stored)
    report = {
        "ok": not loaded.errors,
        **_explain_decision(occurrence, is_raiser_known=is_raiser_known),
        "raised_by": raisers,
        "facts": names,
        "notes": notes,
        "routes_path": settings().routes_path,
        "errors": loaded.errors,
        "routes": [_judge_route(route, names) for route in routes],
    }
    return report, (one_line(line, max_chars=TEXT_CHARS) for line in _lines(report))


def read_silences() -> str | None:
    """Return the text of the Variable with the silences; None if there is none."""
    text = read_server_variable(SILENCES_VARIABLE)
    return text if text is None or isinstance(text, str) else json.dumps(text)


def _read_stored(dag_id: str | None) -> tuple[Mapping[str, Any], list[str]]:
    """Return what Airflow's database says about the DAG, and what could not be read."""
    error = find_database_error()
    notes = [error] if error else []
    if not dag_id:
        return {}, notes
    stored = None if error else read_dag_facts(dag_id)
    return stored or {}, notes if stored else [*notes, _NO_DAG]


def _read_occurrence(arguments: argparse.Namespace, stored: Mapping[str, Any]) -> Occurrence:
    """Return what would have happened, from the arguments, which win, and from Airflow's database."""
    if not arguments.explain:  # an import error: there is no DAG and no run yet
        return Occurrence(failure=Failure(kind="import", dag_id="", run_id="", file=arguments.file))
    run_type = arguments.run_type or "scheduled"
    if current_run_type(run_type) not in RUN_TYPES:
        # Here, and not in the parser, which imports nothing that knows them.
        arguments.parser.error(f"argument --run-type: must be one of {', '.join(RUN_TYPES)}")
    tags = arguments.tag or stored.get("tags")
    options = settings()
    return Occurrence(
        failure=_read_failure(arguments, stored),
        run_type=run_type,
        tags=tags,
        team=arguments.team or stored.get("team"),
        is_of_policy=options.incident_on_failed_run and options.applies_to(arguments.explain, tags or ()),
    )


def _read_failure(arguments: argparse.Namespace, stored: Mapping[str, Any]) -> Failure:
    tasks = arguments.task or ()
    return Failure(
        kind="run",
        dag_id=arguments.explain,
        run_id="",
        tasks=tuple(FailedTask(task_id=task_id) for task_id in tasks),
        instances=dict.fromkeys(tasks, 1),
        owner=", ".join(arguments.owner or ()) or stored.get("owner"),
    )


def _find_raisers(occurrence: Occurrence, stored: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return a sentence for each part of the provider that may raise an incident, and whether one does.

    A notifier of the DAG is not known, because Airflow's database does not have it.
    """
    if occurrence.failure.kind == "import":
        is_on = settings().incident_on_import_error
        state = "on" if is_on else "off: no incident is raised for a broken file"
        return [f"incident_on_import_error is {state}."], is_on
    policy = _describe_policy(occurrence, stored)
    failed = set(occurrence.failure.task_ids)
    roll_ups = [
        f"The task {task_id} raises one for the tasks before it."
        for task_id, before in stored.get("roll_ups", {}).items()
        if not failed or failed.intersection(before)
    ]
    if occurrence.is_of_policy or roll_ups:
        return [policy, *roll_ups], True
    return [policy, "Only a notifier of the DAG itself would raise one."], False


def _describe_policy(occurrence: Occurrence, stored: Mapping[str, Any]) -> str:
    if occurrence.is_of_policy and stored.get("has_notifier"):
        return "The policy raises none for this DAG: its own notifier raises one for each failed run."
    if occurrence.is_of_policy:
        return "The policy raises an incident for each failed run of this DAG."
    if settings().incident_on_failed_run:
        return "The policy raises none for this DAG: its tags or its id are not included, or excluded."
    return "The policy raises none: incident_on_failed_run is off."


def _explain_decision(occurrence: Occurrence, *, is_raiser_known: bool) -> dict[str, Any]:
    wishes = Wishes()  # a DAG that sets fields wins, and Airflow's database does not have them
    decision = decide(
        occurrence,
        wishes,
        record=partial(claim, is_counted=False),
        find_silencing=partial(find_silencing, read_text=read_silences, is_counted=False),
    )
    if isinstance(decision, NotRaised):
        return {"raised": False, "decision": str(decision), "fields": {}}
    text = "If it failed now, an incident would be raised."
    if not is_raiser_known:
        text = "If it failed now, nothing that is known here would raise an incident. One of a notifier would have these fields:"
    return {"raised": is_raiser_known, "decision": text, "fields": _explain_fields(occurrence, wishes)}


def _explain_fields(occurrence: Occurrence, wishes: Wishes) -> dict[str, dict[str, Any]]:
    """Return each field with its value as plain JSON data, and with its source."""
    filled = fill(occurrence, wishes)
    fields = complete(occurrence, wishes, filled)
    found = {name: (_plain(value), filled.sources[name]) for name, value in filled.values.items()}
    for name, source in _GENERATED.items():
        if name not in found and is_set(fields.get(name)):
            found[name] = (fields[name], source)
    conn_id = filled.values.get("bzctrl_conn_id", "bzctrl_default")
    for name in ("domain_workspace", "reporter", "assignee"):
        found.setdefault(name, (None, f"the connection {conn_id}"))
    return {name: {"value": value, "source": source} for name, (value, source) in found.items()}


def _plain(value: Any) -> Any:
    """Return a value as plain JSON data; dates as ISO 8601 text, a window in seconds."""
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    return value.isoformat() if hasattr(value, "isoformat") else value


def _judge_route(route: Route, names: Mapping[str, tuple[str, ...] | None]) -> dict[str, Any]:
    """Return whether a route fits, and the first matcher that does not."""
    mismatch = route.mismatch(names)
    why = "fits"
    if mismatch is not None:
        why = f"{mismatch} {'is not known' if names[mismatch] is None else 'does not match'}"
    return {"route": route.number, "fits": mismatch is None, "reason": why, "label": route.label}


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield "; ".join(
        f"{_SHOWN[matcher]}: {', '.join(names) or 'none'}"
        for matcher, names in report["facts"].items()
        if names is not None
    )
    yield from report["notes"]
    yield from report["raised_by"]
    yield report["decision"]
    for name, given in report["fields"].items():
        value = "" if given["value"] is None else f" = {safe_repr(given['value'], max_chars=NAME_CHARS)}"
        yield f"{name}{value} from {given['source']}"
    path = report["routes_path"]
    if path is None:
        yield "There is no routes file: routes_path in the section [bzctrl] is empty."
    elif report["errors"]:
        yield f"{path} has faults, so the defaults are used:"
        yield from (f"- {fault}" for fault in report["errors"])
    else:
        yield f"{path}: for each field, the first route that fits and sets it gives the value."
    yield from (f"{verdict['label']}: {verdict['reason']}" for verdict in report["routes"])
    yield "A field in the DAG wins over a route, a route over [bzctrl], and that over the connection."
