"""Todos from dbt's artifacts.

The fields are those of dbt's published JSON schemas, ``run-results`` v4 to v6, ``sources`` v3 and ``manifest`` v9 to v12,
which dbt-core 1.5 to 1.12 write, and ``manifest`` v20 of dbt Fusion, whose nodes are those of v12.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from bzctrl_provider.checks.results import (
    ErrorList,
    FailedCheck,
    find_gap,
    make_todos,
    mapping,
    owners,
    read_mapping,
    shown,
    shown_lines,
    todos_without_results,
)
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.text import count, list_names, safe_repr

log = logging.getLogger(__name__)

_SUPPORTED = {"run-results": (4, 5, 6), "sources": (3,), "manifest": (9, 10, 11, 12, 20)}
_WRITTEN_BY = "dbt-core 1.5 to 1.12 and dbt Fusion"
_SCHEMA = re.compile(r"https?://[^/]+/dbt/([a-z-]+)/v(\d+)\.json")

_TESTS = ("test", "unit_test")
_FAILED = {
    "run-results": {
        "fail": "failed", "error": "error", "runtime error": "error", "partial success": "partial success"
    },
    "sources": {"error": "stale", "runtime error": "error"},
}  # fmt: skip
_WARNED = {"run-results": {"warn": "warned"}, "sources": {"warn": "stale, warned"}}
_GOOD = {"run-results": {"pass", "success", "skipped", "no-op", "reused"}, "sources": {"pass"}}
"""For each artifact its statuses; dbt Fusion writes those of sources with a capital letter."""


def checks_from_dbt(
    run_results: object, manifest: object = None, *, one_for_all: bool = True, include_warnings: bool = False
) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Return todos about the tests that failed in a run of dbt, or about stale sources, for ``@task.bzctrl_todo``.

    ```python
    @task.bzctrl_todo(category=["Data quality"])
    def raise_incident():
        return checks_from_dbt("target/run_results.json", "target/manifest.json")

    checks >> raise_incident().as_teardown()
    ```

    A test failed if its status is ``fail`` or ``error``. A model, seed or snapshot with an error is listed as well: its tests
    did not run, so that nothing is known of its data. With the ``sources.json`` of ``dbt source freshness``, a source failed
    if its status is ``error`` (stale) or ``runtime error``. If dbt ended before it wrote its results, or has run nothing, the
    todo is "dbt ended without results".

    ``assignee`` is set from ``meta.owner`` of the test, or otherwise of its model, if that is an e-mail address; one todo for
    all tests has an assignee only if all of them have the same. No other field than title, description and assignee is
    set. dbt's severity becomes no priority: it says whether a failure ends the run, not how urgent it is.

    :param run_results: dbt's ``run_results.json`` or ``sources.json``: parsed, as JSON text, or as a path; also compressed
        with gzip. None, or a file that does not exist, says that dbt has written none.
    :param manifest: dbt's ``manifest.json`` of the same project in one of these forms, for columns, models, owners and paths.
        None (the default): names are taken from the run results, and no todo has an owner. One that cannot be used is left
        out, with a warning in the log and in the todo.
    :param one_for_all: True (the default) for one todo that lists all, False for one todo for each.
    :param include_warnings: True to list tests and sources with the status ``warn``, too; default False.
    :return: a mapping of todo fields, for example ``{"title": "dbt shop: 1 of 9 tests failed (…)", "description": "…"}``; a
        list of such mappings with ``one_for_all=False``; None if nothing failed.
    :raises BzCtrlValidationError: if the results cannot be read, have another schema version, or were written by a command
        that only compiles the tests (``dbt compile``, ``dbt docs generate``). It is also a ``ValueError``.
    """
    if gap := find_gap(run_results):
        return todos_without_results("dbt", gap=gap, one_for_all=one_for_all)
    errors = ErrorList("dbt")
    kind, artifact = _artifact(run_results, ("run-results", "sources"), name="run_results", errors=errors)
    results = _results(artifact, kind, errors)
    errors.raise_if_any()
    nodes, gap = _read_nodes(manifest)
    run, notes = _run(artifact, kind), {"dbt": _versions(artifact), "Manifest": gap}
    if not results:
        gap = "the list of results is empty"
        return todos_without_results("dbt", gap=gap, one_for_all=one_for_all, run=run, notes=notes)
    reported = _FAILED[kind] | (_WARNED[kind] if include_warnings else {})
    skipped = [nodes.label(result.unique_id) for result in results if result.status == "skipped"]
    failed = [result for result in results if result.status in reported]
    return make_todos(
        [_failed_check(result, reported[result.status], nodes) for result in failed],
        tool=_tool(results),
        run=run,
        summary=_summary(results, failed),
        notes={"Did not run": list_names(skipped) if one_for_all else "", **notes},
        one_for_all=one_for_all,
    )


class _Result(NamedTuple):
    """A result of the run, with its entry in the artifact."""

    unique_id: str
    status: str
    entry: Mapping[str, Any]

    @property
    def noun(self) -> str:
        kind = self.unique_id.partition(".")[0]
        return "test" if kind in _TESTS else kind


def _artifact(
    source: object, kinds: tuple[str, ...], *, name: str, errors: ErrorList
) -> tuple[str, Mapping[str, Any]]:
    """Return an artifact whose schema is of one of these kinds and of a supported version, after its kind."""
    artifact = read_mapping(source, name=name, errors=errors)
    schema = mapping(artifact.get("metadata")).get("dbt_schema_version")
    found = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    kind = found[1] if found else ""
    where = f"{name}.metadata.dbt_schema_version"
    if not found or kind not in kinds:
        wanted = " or ".join(kinds)
        errors.fail(where, f"must be the address of dbt's schema {wanted}, not {safe_repr(schema)}")
    if int(found[2]) not in _SUPPORTED[kind]:
        supported = ", ".join(f"v{version}" for version in _SUPPORTED[kind])
        errors.fail(where, f"{kind} v{found[2]} is not supported: {supported} are, of {_WRITTEN_BY}")
    return kind, artifact


def _read_nodes(manifest: object) -> tuple[_Nodes, str]:
    """Return the nodes of a manifest, and why there are none: it only adds to the results, so its errors refuse none."""
    artifact: Mapping[str, Any] = {}
    gap = ""
    try:
        if manifest is not None:
            _, artifact = _artifact(manifest, ("manifest",), name="manifest", errors=ErrorList("dbt"))
    except BzCtrlValidationError as exc:
        gap = f"left out: {shown('; '.join(map(str, exc.errors)))}"
        log.warning("The names and owners of dbt's manifest are %s", gap)
    return _Nodes(artifact), gap


def _results(artifact: Mapping[str, Any], kind: str, errors: ErrorList) -> list[_Result]:
    entries = artifact.get("results")
    if not isinstance(entries, list | tuple):
        errors.fail("run_results.results", f"must be a list, not {safe_repr(entries)}")
    results = [
        _result(entry, kind, f"run_results.results[{number}]", errors) for number, entry in enumerate(entries)
    ]
    tests = [result for result in results if result.noun == "test"]
    if compiled := sum(test.status == "success" for test in tests):
        errors.add(
            "run_results.results",
            f"{compiled} of {count(len(tests), 'test')} only compiled, not run (the status is success, not pass): dbt compile and "
            "dbt docs generate overwrite the results of dbt test and dbt build; give them another --target-path",
        )
    return results


def _result(entry: object, kind: str, where: str, errors: ErrorList) -> _Result:
    if not isinstance(entry, Mapping):
        errors.add(where, f"must be a mapping, not {safe_repr(entry)}")
        return _Result("", "", {})
    unique_id, status = entry.get("unique_id"), entry.get("status")
    errors.check(isinstance(unique_id, str), f"{where}.unique_id", "text", unique_id)
    allowed = sorted({*_FAILED[kind], *_WARNED[kind], *_GOOD[kind]})
    lower = str(status).lower()
    errors.check(lower in allowed, f"{where}.status", f"one of {', '.join(allowed)}", status)
    return _Result(str(unique_id), lower, entry)


def _freshness(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return when a source was loaded last, and how old its data may be."""
    loaded_at, age_s = shown(entry.get("max_loaded_at")), entry.get("max_loaded_at_time_ago_in_s")
    if loaded_at and isinstance(age_s, int | float) and 0 <= age_s < timedelta.max.total_seconds():
        loaded_at += f" ({timedelta(seconds=round(age_s))} before the check)"
    limits = []
    for name, effect in (("error_after", "error"), ("warn_after", "warning")):
        limit = mapping(mapping(entry.get("criteria")).get(name))
        if type(number := limit.get("count")) is int:
            limits.append(f"{count(number, shown(limit.get('period')))} ({effect})")
    return {"Last loaded": loaded_at, "Allowed age": ", ".join(limits)}


class _Nodes:
    """The nodes of a project by their ids, as a manifest describes them; without a manifest there are none."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._by_id = {
            unique_id: node
            for part in ("nodes", "sources", "unit_tests")
            for unique_id, node in mapping(manifest.get(part)).items()
        }

    def node(self, unique_id: str) -> Mapping[str, Any]:
        return mapping(self._by_id.get(unique_id))

    def parents(self, unique_id: str) -> list[str]:
        """Return the ids of the models that a test is about: the one it is attached to, or otherwise all it reads."""
        node = self.node(unique_id)
        if attached := node.get("attached_node"):
            return [str(attached)]
        reads = mapping(node.get("depends_on")).get("nodes")
        return list(map(str, reads)) if isinstance(reads, list) else []

    def name(self, unique_id: str) -> str:
        """Return a short name: ``orders``, of a source ``raw.orders``, of a test without its hash."""
        node = self.node(unique_id)
        if name := shown(node.get("name")):
            return ".".join(filter(None, (shown(node.get("source_name")), name)))
        kind, _, rest = unique_id.partition(".")
        name = rest.partition(".")[2] or rest or unique_id
        return shown(re.sub(r"\.[0-9a-f]{10}$", "", name) if kind == "test" else name)

    def label(self, unique_id: str) -> str:
        """Return which check it is: ``accepted_values of orders.status``, ``unit test sums of totals``, ``model orders``."""
        kind, name = unique_id.partition(".")[0], self.name(unique_id)
        if kind not in _TESTS:
            return f"{shown(kind)} {name}"
        node = self.node(unique_id)
        generic = mapping(node.get("test_metadata"))
        rule = ".".join(filter(None, (shown(generic.get(key)) for key in ("namespace", "name"))))
        if kind == "unit_test":
            rule = f"unit test {name}"
        elif not rule:
            return name
        parents = [self.name(parent) for parent in self.parents(unique_id)]
        column = shown(node.get("column_name") or mapping(generic.get("kwargs")).get("column_name"))
        about = ".".join(filter(None, (*parents[:1], column)))
        return f"{rule} of {about}" if about else rule

    def owners(self, unique_id: str) -> tuple[str, ...]:
        """Return the test's own owners, or otherwise those of the models that it is about."""
        if own := self._own_owners(unique_id):
            return own
        found = [owner for parent in self.parents(unique_id) for owner in self._own_owners(parent)]
        return tuple(dict.fromkeys(found))

    def _own_owners(self, unique_id: str) -> tuple[str, ...]:
        node = self.node(unique_id)
        # dbt 1.10 has moved `meta` into `config`; older ones have it in both.
        return owners(mapping(node.get("config")).get("meta"), node.get("meta"))


def _failed_check(result: _Result, state: str, nodes: _Nodes) -> FailedCheck:
    node, entry, is_test = nodes.node(result.unique_id), result.entry, result.noun == "test"
    label, name = nodes.label(result.unique_id), nodes.name(result.unique_id)
    failures = entry.get("failures")
    if failures and isinstance(failures, int):
        state = f"{state}, {count(failures, 'failure')}"
    return FailedCheck(
        label=label,
        state=state,
        facts={
            "Test": name if is_test and name not in label else "",
            **_freshness(entry),
            # Of a source whose query failed, it is the error.
            "Message": shown_lines(entry.get("message", entry.get("error"))),
            "Defined in": shown(node.get("original_file_path")),
            "Compiled SQL": shown(node.get("compiled_path")),
            "Failed rows": shown(node.get("relation_name")) if is_test else "",
        },
        owners=nodes.owners(result.unique_id),
    )


def _tool(results: list[_Result]) -> str:
    packages = Counter(result.unique_id.split(".")[1] for result in results if "." in result.unique_id)
    return f"dbt {shown(packages.most_common(1)[0][0])}" if packages else "dbt"


def _run(artifact: Mapping[str, Any], kind: str) -> str:
    command = "source freshness" if kind == "sources" else shown(mapping(artifact.get("args")).get("which"))
    generated = shown(artifact["metadata"].get("generated_at"))
    return ", ".join(filter(None, (f"dbt {command}".rstrip(), generated)))


def _versions(artifact: Mapping[str, Any]) -> str:
    version, invocation = (shown(artifact["metadata"].get(key)) for key in ("dbt_version", "invocation_id"))
    return f"{version}, invocation {invocation}" if invocation else version


def _summary(results: list[_Result], failed: list[_Result]) -> str:
    """Return how many failed, for example ``2 of 9 tests failed, 1 test warned, 1 model failed``."""
    check = "source" if results[0].noun == "source" else "test"
    ran = sum(result.noun == check and result.status != "skipped" for result in results)
    counted = Counter((result.noun, "warned" if result.status == "warn" else "failed") for result in failed)
    parts = [f"{counted.pop((check, 'failed'), 0)} of {count(ran, check)} failed"] if ran else []
    # First those of the tests that warned.
    others = sorted(counted.items(), key=lambda item: item[0][0] != check)
    parts += [f"{count(number, shown(noun))} {how}" for (noun, how), number in others]
    return ", ".join(parts)
