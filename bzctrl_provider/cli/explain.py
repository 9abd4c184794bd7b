"""The command ``bzctrl check --explain``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import read_dag_facts
from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.routes import POLICY_DEFAULTS, LoadedRoutes, RouteFacts, RoutesFile, explain
from bzctrl_provider.settings import settings
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

_SHOWN = {
    "dags": "DAG",
    "tags": "tags",
    "owners": "owners",
    "tasks": "tasks",
    "run_types": "run type",
    "teams": "team",
    "files": "file",
}


def run_explain(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print which route gives each field of an incident; return 1 if the routes file has a fault.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    facts, notes = _find_facts(arguments)
    path = settings().routes_path
    loaded = RoutesFile(path).load() if path is not None else LoadedRoutes(None)
    explanation = explain(POLICY_DEFAULTS if loaded.routes is None else loaded.routes, facts)
    names = facts.as_names()
    if arguments.json:
        report = {
            "ok": not loaded.errors,
            "routes_path": path,
            "errors": loaded.errors,
            "facts": names,
            "notes": notes,
            **explanation.as_dict(),
        }
        print(json.dumps(report, ensure_ascii=False), file=out)
    else:
        lines = [*_introduce(names, path, loaded.errors), *explanation.lines()]
        lines[1:1] = notes
        lines.append(
            "A field in the DAG wins over a route, a route over [bzctrl], and that over the connection."
        )
        for line in lines:
            print(one_line(line, max_chars=TEXT_CHARS), file=out)
    return int(bool(loaded.errors))


def _find_facts(arguments: argparse.Namespace) -> tuple[RouteFacts, list[str]]:
    """Return the facts of a failure, from the arguments and from Airflow's database, and notes about them.

    :param arguments: those of the command; they win over the database.
    """
    if not arguments.explain:  # an import error: there is no DAG and no run yet
        return RouteFacts(file=arguments.file), []
    known = read_dag_facts(arguments.explain)
    notes = []
    if known is None:
        notes.append(
            "Airflow's database has no such DAG, or is not available to this process: its tags and owners are those of "
            "--tag and --owner."
        )
    stored: dict[str, Any] = known or {}
    facts = RouteFacts(
        dag_id=arguments.explain,
        tags=arguments.tag or stored.get("tags"),
        owner=", ".join(arguments.owner or ()) or stored.get("owner"),
        task_ids=arguments.task,
        run_type=arguments.run_type or "scheduled",
        team=arguments.team or stored.get("team"),
    )
    return facts, notes


def _introduce(
    names: Mapping[str, Sequence[str] | None], path: str | None, faults: Sequence[str]
) -> Iterator[str]:
    """Yield the facts, and where the routes are from."""
    yield "; ".join(
        f"{label}: {', '.join(names[name] or ()) or 'none'}"
        for name, label in _SHOWN.items()
        if names[name] is not None
    )
    if path is None:
        yield "There is no routes file: this is the default of the policy."
    elif faults:
        yield f"{path} has faults, so the defaults are used:"
        yield from (f"- {fault}" for fault in faults)
    else:
        yield f"{path}: for each field, the first route that fits and sets it gives the value."
