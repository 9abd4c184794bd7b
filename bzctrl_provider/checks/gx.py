"""Todos from the results of Great Expectations (GX Core 1.x), read without importing it.

The forms are those of ``ExpectationSuiteValidationResult.to_json_dict()`` and of the ``describe_dict()`` of this class and of
``CheckpointResult``; the operators of ``airflow-provider-great-expectations`` 1.x push the latter two as their XCom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bzctrl_provider.checks.results import (
    ErrorList,
    FailedCheck,
    Report,
    find_gap,
    mapping,
    owners,
    read_mapping,
    shown,
    shown_lines,
    todos_without_results,
)
from bzctrl_provider.text import LIST_ITEMS, TEXT_CHARS, count, json_line, list_names, safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GX = "Great Expectations"
_FORMS = ("results", "expectations", "validation_results", "run_results")
_EMPTY = "empty: without details, or the expectation raised"
_OF_SEVERAL: dict[str, tuple[type, str]] = {
    "validation_results": (list, "a list"),
    "run_results": (Mapping, "a mapping"),
}

_COLUMNS = ("column", "column_A", "column_B", "column_list")
_NOT_EXPECTED = ("batch_id", "column", "column_A", "column_B")
"""Keyword arguments that say where an expectation looks, not what it expects."""

_ABOUT_THE_SCHEMA = (
    "expect_table_",
    "expect_column_to_exist",
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
)
"""The expectations that observe counts, names and types of columns, and no values of the data."""


def checks_from_gx(
    result: object, *, one_for_all: bool = True, include_values: bool = False
) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Return todos about the expectations of Great Expectations that were not met, for ``@task.bzctrl_todo``.

    ```python
    @task.bzctrl_todo(category=["Data quality"])
    def raise_incident(ti=None):
        return checks_from_gx(ti.xcom_pull(task_ids="validate"))

    checks >> raise_incident().as_teardown()
    ```

    If there is no result, or it has no expectation, the todo is "Great Expectations ended without results".

    The values in the data that were not expected can be personal data, so they are left out by default, and so are
    observed values that are no numbers, unless the expectation is about columns and types. The arguments of an
    expectation are part of the suite, and are always shown.

    ``assignee`` is set from ``meta.owner`` of the expectation, if the result has it and it is an e-mail address; one todo
    for all expectations has an assignee only if all of them have the same. No other field than title, description and
    assignee is set. The severity of an expectation is part of the description and becomes no priority: GX sets ``critical``
    where nobody has set one.

    :param result: the XCom of an operator of ``airflow-provider-great-expectations``; or the result of a checkpoint or a
        validation definition as an object, as ``to_json_dict()``, as ``describe_dict()``, as JSON text, or as a path. None,
        or a file that does not exist, says that there is none.
    :param one_for_all: True (the default) for one todo that lists all, False for one todo for each.
    :param include_values: True to show up to 20 unexpected values, and observed values of any kind; default False.
    :return: a mapping of todo fields, for example ``{"title": "Great Expectations: 1 of 6 expectations failed (…)",
        "description": "…"}``; a list of such mappings with ``one_for_all=False``; None if all expectations were met.
    :raises BzCtrlValidationError: if the result is in none of these forms, is incomplete, or contradicts itself. It is also
        a ``ValueError``.
    """
    if gap := find_gap(result):
        return todos_without_results(_GX, gap=gap, one_for_all=one_for_all)
    errors = ErrorList(_GX)
    suites = _suites(_without_numpy(_plain(result)), errors)
    errors.raise_if_any()
    evaluated = sum(len(suite.expectations) for suite in suites)
    if not evaluated:
        return todos_without_results(_GX, gap="the result has no expectation", one_for_all=one_for_all)
    failed = [(suite, expectation) for suite in suites for expectation in suite.failed]
    time, version = suites[0].time, suites[0].version
    report = Report(
        tool=_tool(failed),
        run=", ".join(filter(None, (_GX, time))),
        summary=f"{len(failed)} of {count(evaluated, 'expectation')} failed",
        checks=[
            expectation.failed_check(suite, include_values=include_values) for suite, expectation in failed
        ],
        notes={
            "Results": list_names(list(dict.fromkeys(filter(None, (suite.url for suite, _ in failed))))),
            "GX Core": version,
        },
    )
    return report.todos(one_for_all=one_for_all)


def _tool(failed: Iterable[tuple[_Suite, _Expectation]]) -> str:
    """Return the name for a title, with that of the suite or the data if it is only one."""
    names = {name for suite, expectation in failed if (name := suite.name or expectation.data)}
    return f"{_GX} {names.pop()}" if len(names) == 1 else _GX


@dataclass(frozen=True, kw_only=True)
class _Expectation:
    """Hold one expectation with its result."""

    type: str
    success: bool
    kwargs: Mapping[str, Any]
    result: Mapping[str, Any]
    meta: object
    severity: str
    exception: str

    @property
    def data(self) -> str:
        return shown(self.kwargs.get("batch_id"))

    @property
    def columns(self) -> str:
        given = (self.kwargs.get(name) for name in _COLUMNS)
        names = [name for value in given for name in (value if isinstance(value, list | tuple) else [value])]
        return shown(", ".join(str(name) for name in names if name is not None))

    def failed_check(self, suite: _Suite, *, include_values: bool) -> FailedCheck:
        """Return it as a failed check.

        :param include_values: whether values of the data are shown.
        """
        values = include_values or self.type.startswith(_ABOUT_THE_SCHEMA)
        return FailedCheck(
            label=f"{shown(self.type)} of {self.columns}" if self.columns else shown(self.type),
            state="error" if self.exception else "failed",
            facts={
                "Data": ", ".join(name for name in (suite.name, self.data) if name),
                "Expected": self._expected(),
                "Observed": self._observed(values=values),
                "Unexpected": self._unexpected(),
                "Values": _some(self.result.get("partial_unexpected_list")) if include_values else "",
                "Details": _json(self.result.get("details")) if values else "",
                "Error": self.exception,
                "Result": "" if self.result or self.exception else _EMPTY,
                "Severity": self.severity,
            },
            owners=owners(self.meta),
        )

    def _expected(self) -> str:
        expected = {name: value for name, value in self.kwargs.items() if name not in _NOT_EXPECTED}
        return ", ".join(f"{name}={_json(value)}" for name, value in expected.items() if value is not None)

    def _observed(self, *, values: bool) -> str:
        observed = self.result.get("observed_value")
        if observed is None:
            return ""
        if values or isinstance(observed, int | float):
            return _json(observed)
        return "left out, because it may be personal data"

    def _unexpected(self) -> str:
        number, percent = (self.result.get(f"unexpected_{unit}") for unit in ("count", "percent"))
        total, missing = (self.result.get(f"{kind}_count") for kind in ("element", "missing"))
        if not isinstance(number, int):
            return ""
        text = str(number)
        if isinstance(total, int):
            # GX's own percentage is that of the values that are not empty, whichever numbers it has beside it.
            present = total - missing if isinstance(missing, int) else total
            text = f"{number} of {present}" + (" non-empty" if present != total else "")
            percent = number / present * 100 if present > 0 else None
        return f"{text} ({percent:.3g} %)" if isinstance(percent, int | float) else text


@dataclass(frozen=True, kw_only=True)
class _Suite:
    """Hold the validation of one batch of data with one suite of expectations."""

    name: str
    url: str
    time: str
    version: str
    expectations: list[_Expectation]

    @property
    def failed(self) -> list[_Expectation]:
        return [expectation for expectation in self.expectations if not expectation.success]


def _plain(result: object) -> object:
    """Return the mappings of a result that is an object of GX; anything else as it is."""
    runs = None if isinstance(result, Mapping) else getattr(result, "run_results", None)
    # A CheckpointResult, whose own `describe_dict` leaves names, owners and errors out.
    if isinstance(runs, Mapping):
        return {"run_results": {str(key): _plain(run) for key, run in runs.items()}}
    for form in ("to_json_dict", "describe_dict"):
        if not isinstance(result, Mapping | type) and callable(method := getattr(result, form, None)):
            return method()
    return result


def _without_numpy(value: Any, depth: int = 20) -> Any:
    """Return data with numbers and truth values of Python for those of numpy, which GX leaves in any part of a result."""
    if isinstance(value, Mapping) and depth:
        return {key: _without_numpy(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_without_numpy(part, depth - 1) for part in value]
    is_number = type(value).__module__ == "numpy" and value.dtype.kind in "biuf"
    return value.tolist() if is_number else value


def _suites(result: object, errors: ErrorList) -> list[_Suite]:
    source = read_mapping(result, name="result", errors=errors)
    form = _form(source, errors)
    if form not in _OF_SEVERAL:
        return [_suite(source, "result", errors)]
    kind, wanted = _OF_SEVERAL[form]
    if not isinstance(source[form], kind):
        errors.fail(f"result.{form}", f"must be {wanted}, not {safe_repr(source[form])}")
    runs = source[form].values() if form == "run_results" else source[form]
    found = [_suite(run, f"result.{form}[{number}]", errors) for number, run in enumerate(runs)]
    _compare(source, "result", len(runs), "evaluated_validations", errors)
    if source.get("success", True) is not True and not any(suite.failed for suite in found):
        errors.add(
            "result.success", f"is {safe_repr(source['success'])}, but no expectation of the result failed"
        )
    return found


def _form(source: Mapping[str, Any], errors: ErrorList) -> str:
    """Return the key of the one list that a result holds; an empty text if it holds none."""
    if len(forms := [form for form in _FORMS if form in source]) > 1:
        errors.fail("result", f"must be in one form, but holds both {forms[0]} and {forms[1]}")
    return forms[0] if forms else ""


def _suite(source: object, where: str, errors: ErrorList) -> _Suite:
    """Read the result of one suite, in either form."""
    if not isinstance(source, Mapping):
        errors.add(where, f"must be a mapping, not {safe_repr(source)}")
        source = {"success": True, "results": []}
    form = next((form for form in ("expectations", "results") if form in source), "")
    meta = mapping(source.get("meta"))
    suite = _Suite(
        name=shown(source.get("suite_name")),
        url=shown(source.get("result_url")),
        time=shown(meta.get("validation_time")),
        version=shown(meta.get("great_expectations_version")),
        expectations=[
            _expectation(entry, f"{where}.{form}[{number}]", errors)
            for number, entry in enumerate(_entries(source, form, where, errors))
        ],
    )
    success = source.get("success")
    if form and not isinstance(success, bool):
        errors.add(f"{where}.success", f"must be true or false, not {safe_repr(success)}")
    elif success is False and not suite.failed:
        errors.add(f"{where}.success", "is false, but no expectation of the result failed")
    _compare(source, where, len(suite.expectations), "evaluated_expectations", errors)
    return suite


def _entries(source: Mapping[str, Any], form: str, where: str, errors: ErrorList) -> Sequence[object]:
    entries = source.get(form)
    if isinstance(entries, list | tuple):
        return entries
    found = ", ".join(sorted(safe_repr(name, max_chars=30) for name in list(source)[:10])) or "nothing"
    errors.add(
        where,
        "must hold the list of expectations of a validation (results or expectations), or that of validations of a "
        f"checkpoint (validation_results or run_results); it holds {found}",
    )
    return ()


def _expectation(entry: object, where: str, errors: ErrorList) -> _Expectation:
    if not isinstance(entry, Mapping):
        errors.add(where, f"must be a mapping, not {safe_repr(entry)}")
        entry = {"expectation_type": "", "success": True}
    described = "expectation_type" in entry
    config = entry if described else mapping(entry.get("expectation_config"))
    kind = config.get("expectation_type" if described else "type")
    success = entry.get("success")
    if not isinstance(kind, str):
        name = "expectation_type" if described else "expectation_config.type"
        errors.add(
            f"{where}.{name}", f"must be the type of an expectation of GX Core 1.x, not {safe_repr(kind)}"
        )
    if not isinstance(success, bool):
        errors.add(f"{where}.success", f"must be true or false, not {safe_repr(success)}")
    return _Expectation(
        type=str(kind),
        success=success is True,
        kwargs=mapping(config.get("kwargs")),
        result=mapping(entry.get("result")),
        meta=config.get("meta"),
        severity=shown(config.get("severity")),
        exception=_exception(entry.get("exception_info")),
    )


def _exception(info: object) -> str:
    """Return the messages of what an expectation raised, each once: GX has one mapping, or one for each metric."""
    info = mapping(info)
    raised = [info, *(part for part in info.values() if isinstance(part, Mapping))]
    messages = dict.fromkeys(
        str(part.get("exception_message") or "an exception without a message")
        for part in raised
        if part.get("raised_exception") is True
    )
    return shown_lines("\n".join(messages)) if messages else ""


def _compare(source: Mapping[str, Any], where: str, number: int, name: str, errors: ErrorList) -> None:
    """Compare what a result holds with what it counts: one that lost a part must not pass for one that is good."""
    counted = mapping(source.get("statistics")).get(name)
    if isinstance(counted, int) and counted != number:
        errors.add(f"{where}.statistics.{name}", f"is {counted}, but the result holds {number}")


def _some(values: object) -> str:
    if not isinstance(values, list | tuple) or not values:
        return ""
    more = len(values) - LIST_ITEMS
    return _json(values[:LIST_ITEMS]) + (f" and {more} more" if more > 0 else "")


def _json(value: object) -> str:
    return "" if value is None or value == {} else shown(json_line(value), max_chars=TEXT_CHARS)
