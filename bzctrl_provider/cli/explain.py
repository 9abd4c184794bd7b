"""The command ``bzctrl check --explain``: whether an incident would be raised now, why, and where each field comes from."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import (
    find_database_error,
    read_dag_facts,
    read_server_variable,
    use_metadata_database,
)
from bzctrl_provider.failure.model import FailedTask, Failure
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.deployment import SILENCES_VARIABLE, find_names, find_silencing
from bzctrl_provider.incidents.fill import Wishes, complete, fill
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.outbox.writer import NotRaised, claim, is_set
from bzctrl_provider.rules.routes import POLICY_DEFAULTS, LoadedRoutes, RoutesFile, find_ignoring
from bzctrl_provider.settings import settings
from bzctrl_provider.text import NAME_CHARS, TEXT_CHARS, one_line, safe_repr

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from bzctrl_provider.incidents.fill import Filled

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

_GENERATED = {
    "title": "the failure",
    "description": "the failure",
    "todo_type": "the default",
    "order_id": "the run",
    "assignee": "the owner",
}
"""Where a field comes from that nobody sets."""


def run_explain(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the decision about a failure, and where each field comes from; return 1 if the routes file has a fault.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    stored, notes = _read_stored(arguments)
    occurrence = _read_occurrence(arguments, stored)
    wishes = Wishes()  # a DAG that sets fields wins, and Airflow's database does not have them
    path = settings().routes_path
    loaded = RoutesFile(path).load() if path is not None else LoadedRoutes(None)
    if occurrence.is_of_policy and loaded.routes is not None:
        backfill = find_names(occurrence) | {"run_types": ("backfill",)}
        if not find_ignoring(loaded.routes, backfill):
            notes.append(_BACKFILLS)
    report = {
        "ok": not loaded.errors,
        **_explain_decision(occurrence, wishes, is_raiser_known=_is_raiser_known(occurrence, stored)),
        "raised_by": _name_raisers(occurrence, stored),
        "facts": find_names(occurrence),
        "notes": notes,
        "routes_path": path,
        "errors": loaded.errors,
        "routes": _judge_routes(occurrence, loaded),
    }
    if arguments.json:
        print(json.dumps(report, ensure_ascii=False), file=out)
    else:
        for line in _lines(report):
            print(one_line(line, max_chars=TEXT_CHARS), file=out)
    return int(bool(loaded.errors))


def _read_stored(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return what Airflow's database says about the DAG, and what could not be read."""
    error = find_database_error()
    notes = [error] if error else []
    if not arguments.explain:
        return {}, notes
    stored = None if error else read_dag_facts(arguments.explain)
    if stored is None:
        notes.append(
            "Airflow's database has no such DAG, or is not available to this process: its tags and owners are those of "
            "--tag and --owner."
        )
    return stored or {}, notes


def _read_occurrence(arguments: argparse.Namespace, stored: Mapping[str, Any]) -> Occurrence:
    """Return what would have happened, from the arguments, which win, and from Airflow's database."""
    if not arguments.explain:  # an import error: there is no DAG and no run yet
        return Occurrence(failure=Failure(kind="import", dag_id="", run_id="", file=arguments.file))
    given = {"tags": arguments.tag, "owner": ", ".join(arguments.owner or ()), "team": arguments.team}
    known: dict[str, Any] = {name: value or stored.get(name) for name, value in given.items()}
    tasks = arguments.task or ()
    failure = Failure(
        kind="run",
        dag_id=arguments.explain,
        run_id="",
        tasks=tuple(FailedTask(task_id=task_id) for task_id in tasks),
        instances=dict.fromkeys(tasks, 1),
        owner=known.pop("owner"),
    )
    options = settings()
    applies = options.applies_to(failure.dag_id, known["tags"] or ())
    return Occurrence(
        failure=failure,
        run_type=arguments.run_type or "scheduled",
        is_of_policy=options.incident_on_failed_run and applies,
        **known,
    )


def _name_raisers(occurrence: Occurrence, stored: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part of the provider that raises an incident, as far as Airflow's database shows it."""
    options = settings()
    if occurrence.failure.kind == "import":
        state = "on" if options.incident_on_import_error else "off: no incident is raised for a broken file"
        return [f"incident_on_import_error is {state}."]
    if occurrence.is_of_policy and stored.get("has_notifier"):
        policy = "The policy raises none for this DAG: its own notifier raises one for each failed run."
    elif occurrence.is_of_policy:
        policy = "The policy raises an incident for each failed run of this DAG."
    elif options.incident_on_failed_run:
        policy = "The policy raises none for this DAG: its tags or its id are not included, or excluded."
    else:
        policy = "The policy raises none: incident_on_failed_run is off."
    roll_ups = [
        f"The task {task_id} raises one for the tasks before it."
        for task_id in _find_roll_ups(occurrence, stored)
    ]
    own = "" if occurrence.is_of_policy or roll_ups else "Only a notifier of the DAG itself would raise one."
    return [policy, *roll_ups, *filter(None, [own])]


def _find_roll_ups(occurrence: Occurrence, stored: Mapping[str, Any]) -> list[str]:
    """Return the roll-ups after the tasks that fail; all, if no tasks are given."""
    failed = set(occurrence.failure.task_ids)
    roll_ups: Mapping[str, Sequence[str]] = stored.get("roll_ups", {})
    return [task_id for task_id, before in roll_ups.items() if not failed or failed.intersection(before)]


def _is_raiser_known(occurrence: Occurrence, stored: Mapping[str, Any]) -> bool:
    if occurrence.failure.kind == "import":
        return settings().incident_on_import_error
    return occurrence.is_of_policy or bool(_find_roll_ups(occurrence, stored))


def _explain_decision(occurrence: Occurrence, wishes: Wishes, *, is_raiser_known: bool) -> dict[str, Any]:
    decision = decide(
        occurrence,
        wishes,
        record=partial(claim, is_counted=False),
        find_silencing=partial(find_silencing, read_text=_read_silences, is_counted=False),
    )
    filled = fill(occurrence, wishes)
    is_raised = not isinstance(decision, NotRaised)
    raised = "If it failed now, an incident would be raised."
    if not is_raiser_known:
        raised = "If it failed now, nothing that is known here would raise an incident. One of a notifier would have these fields:"
    return {
        "raised": is_raised and is_raiser_known,
        "decision": raised if is_raised else str(decision),
        "fields": _explain_fields(filled, complete(occurrence, wishes, filled)) if is_raised else {},
    }


def _read_silences() -> str | None:
    text = read_server_variable(SILENCES_VARIABLE)
    return text if text is None or isinstance(text, str) else json.dumps(text)


def _explain_fields(filled: Filled, fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {name: (value, filled.sources[name]) for name, value in filled.values.items()}
    found |= {
        name: (fields[name], _GENERATED[name])
        for name in TODO_FIELDS
        if name not in found and name in _GENERATED and is_set(fields.get(name))
    }
    conn_id = filled.values.get("bzctrl_conn_id", "bzctrl_default")
    of_connection = [name for name in ("domain_workspace", "reporter", "assignee") if name not in found]
    found |= dict.fromkeys(of_connection, (None, f"the connection {conn_id}"))
    return {name: {"value": _plain(value), "source": source} for name, (value, source) in found.items()}


def _plain(value: Any) -> Any:
    """Return a value as plain JSON data; dates as ISO 8601 text, a window in seconds."""
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    return value.isoformat() if hasattr(value, "isoformat") else value


def _judge_routes(occurrence: Occurrence, loaded: LoadedRoutes) -> list[dict[str, Any]]:
    """Return for each route whether it fits, and the first matcher that does not."""
    defaults = POLICY_DEFAULTS if occurrence.is_of_policy else ()
    names = find_names(occurrence)
    verdicts = []
    for route in defaults if loaded.routes is None else loaded.routes:
        mismatch = route.mismatch(names)
        reason = "fits"
        if mismatch is not None:
            reason = f"{mismatch} {'is not known' if names[mismatch] is None else 'does not match'}"
        verdicts.append(
            {"route": route.number, "fits": mismatch is None, "reason": reason, "label": route.label}
        )
    return verdicts


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield _introduce(report["facts"])
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


def _introduce(facts: Mapping[str, Sequence[str] | None]) -> str:
    return "; ".join(
        f"{label}: {', '.join(facts[name] or ()) or 'none'}"
        for name, label in _SHOWN.items()
        if facts[name] is not None
    )
