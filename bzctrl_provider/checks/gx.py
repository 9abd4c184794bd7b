"""Todos from the results of Great Expectations (GX Core 1.x), read without importing it.

The forms are those of ``ExpectationSuiteValidationResult.to_json_dict()`` and of the ``describe_dict()`` of this class and of
``CheckpointResult``; the operators of ``airflow-provider-great-expectations`` 1.x push the latter two as their XCom.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from bzctrl_provider.text import LIST_ITEMS, TEXT_CHARS, count, json_line, list_names, safe_repr

_GX = "Great Expectations"
_OF_SEVERAL = ("validation_results", "run_results")
_EMPTY = "empty: without details, or the expectation raised"

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
    expectations = _read_expectations(_without_numpy(_plain(result)), errors)
    errors.raise_if_any()
    if not expectations:
        return todos_without_results(_GX, gap="the result has no expectation", one_for_all=one_for_all)
    failed = [expectation for expectation in expectations if not expectation.success]
    names = {expectation.places[0] for expectation in failed if expectation.places}
    meta = mapping(expectations[0].suite.get("meta"))
    urls = [shown(expectation.suite.get("result_url")) for expectation in failed]
    return make_todos(
        [expectation.failed_check(include_values=include_values) for expectation in failed],
        tool=f"{_GX} {names.pop()}" if len(names) == 1 else _GX,
        run=", ".join(filter(None, (_GX, shown(meta.get("validation_time"))))),
        summary=f"{len(failed)} of {count(len(expectations), 'expectation')} failed",
        notes={
            "Results": list_names(list(dict.fromkeys(filter(None, urls)))),
            "GX Core": shown(meta.get("great_expectations_version")),
        },
        one_for_all=one_for_all,
    )


class _Expectation(NamedTuple):
    """An expectation with its result.

    :param suite: the result of its suite.
    :param config: its configuration.
    """

    suite: Mapping[str, Any]
    type: str
    success: bool
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    exception: str

    @property
    def kwargs(self) -> Mapping[str, Any]:
        return mapping(self.config.get("kwargs"))

    @property
    def places(self) -> list[str]:
        """Return the names of the suite and of the data, as far as they are known."""
        names = (self.suite.get("suite_name"), self.kwargs.get("batch_id"))
        return [shown(name) for name in names if name]

    @property
    def columns(self) -> str:
        names: list[object] = []
        for value in map(self.kwargs.get, _COLUMNS):
            names += value if isinstance(value, list) else [value]
        return shown(", ".join(str(name) for name in names if name is not None))

    def failed_check(self, *, include_values: bool) -> FailedCheck:
        """Return it as a failed check.

        :param include_values: whether values of the data are shown.
        """
        values = include_values or self.type.startswith(_ABOUT_THE_SCHEMA)
        return FailedCheck(
            label=f"{shown(self.type)} of {self.columns}" if self.columns else shown(self.type),
            state="error" if self.exception else "failed",
            facts={
                "Data": ", ".join(self.places),
                "Expected": self._expected(),
                "Observed": self._observed(values=values),
                "Unexpected": self._unexpected(),
                "Values": _some(self.result.get("partial_unexpected_list")) if include_values else "",
                "Details": _json(self.result.get("details")) if values else "",
                "Error": self.exception,
                "Result": "" if self.result or self.exception else _EMPTY,
                "Severity": shown(self.config.get("severity")),
            },
            owners=owners(self.config.get("meta")),
        )

    def _expected(self) -> str:
        expected = {name: value for name, value in self.kwargs.items() if name not in _NOT_EXPECTED}
        return ", ".join(f"{name}={_json(value)}" for name, value in expected.items() if value is not None)

    def _observed(self, *, values: bool) -> str:
        observed = self.result.get("observed_value")
        if observed is None or values or isinstance(observed, int | float):
            return _json(observed)
        return "left out, because it may be personal data"

    def _unexpected(self) -> str:
        number, total, missing = (
            self.result.get(f"{kind}_count") for kind in ("unexpected", "element", "missing")
        )
        if not isinstance(number, int):
            return ""
        text, percent = str(number), self.result.get("unexpected_percent")
        if isinstance(total, int):
            # GX's own percentage is that of the values that are not empty, whichever numbers it has beside it.
            present = total - missing if isinstance(missing, int) else total
            text = f"{number} of {present}" + (" non-empty" if present != total else "")
            percent = number / present * 100 if present > 0 else None
        return f"{text} ({percent:.3g} %)" if isinstance(percent, int | float) else text


def _plain(result: object) -> object:
    """Return the mappings of a result that is an object of GX; anything else as it is."""
    runs = getattr(result, "run_results", None)
    # A CheckpointResult, whose own `describe_dict` leaves names, owners and errors out.
    if isinstance(runs, Mapping):
        return {"run_results": [_plain(run) for run in runs.values()]}
    to_json_dict = getattr(result, "to_json_dict", None)
    return to_json_dict() if to_json_dict else result


def _without_numpy(value: Any) -> Any:
    """Return data with numbers and truth values of Python for those of numpy, which GX leaves in any part of a result."""
    if isinstance(value, Mapping):
        return {key: _without_numpy(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_numpy(part) for part in value]
    is_number = type(value).__module__ == "numpy" and value.dtype.kind in "biuf"
    return value.tolist() if is_number else value


def _read_expectations(result: object, errors: ErrorList) -> list[_Expectation]:
    """Read the expectations of a result in any form."""
    source = read_mapping(result, name="result", errors=errors)
    forms = [form for form in ("results", "expectations", *_OF_SEVERAL) if form in source]
    if len(forms) > 1:
        errors.fail("result", f"must be in one form, but holds both {forms[0]} and {forms[1]}")
    form = forms[0] if forms else ""
    if form not in _OF_SEVERAL:
        return _suite(source, "result", errors)
    runs = source[form]
    runs = list(runs.values()) if isinstance(runs, Mapping) else runs
    if not isinstance(runs, list):
        errors.fail(f"result.{form}", f"must be a list or a mapping, not {safe_repr(runs)}")
    found = []
    for number, run in enumerate(runs):
        found += _suite(run, f"result.{form}[{number}]", errors)
    _check_whole(source, "result", found, errors, evaluated_validations=len(runs))
    return found


def _suite(source: object, where: str, errors: ErrorList) -> list[_Expectation]:
    """Read the expectations of one suite."""
    if not isinstance(source, Mapping):
        errors.add(where, f"must be a mapping, not {safe_repr(source)}")
        return []
    form = "expectations" if "expectations" in source else "results"
    entries = source.get(form)
    if not isinstance(entries, list):
        found = ", ".join(sorted(safe_repr(name, max_chars=30) for name in list(source)[:10])) or "nothing"
        errors.add(
            where,
            "must hold the list of expectations of a validation (results or expectations), or that of validations of a "
            f"checkpoint (validation_results or run_results); it holds {found}",
        )
        return []
    expectations = [
        _expectation(source, entry, f"{where}.{form}[{number}]", errors)
        for number, entry in enumerate(entries)
    ]
    success = source.get("success")
    errors.check(isinstance(success, bool), f"{where}.success", "true or false", success)
    _check_whole(source, where, expectations, errors, evaluated_expectations=len(entries))
    return expectations


def _expectation(suite: Mapping[str, Any], entry: object, where: str, errors: ErrorList) -> _Expectation:
    if not isinstance(entry, Mapping):
        errors.add(where, f"must be a mapping, not {safe_repr(entry)}")
        return _Expectation(suite, "", True, {}, {}, "")
    # A description has the configuration beside the result.
    described = "expectation_type" in entry
    config = entry if described else mapping(entry.get("expectation_config"))
    kind, success = config.get("expectation_type" if described else "type"), entry.get("success")
    place = f"{where}.expectation_type" if described else f"{where}.expectation_config.type"
    errors.check(isinstance(kind, str), place, "the type of an expectation of GX Core 1.x", kind)
    errors.check(isinstance(success, bool), f"{where}.success", "true or false", success)
    exception, result = _exception(entry.get("exception_info")), mapping(entry.get("result"))
    return _Expectation(suite, str(kind), success is True, config, result, exception)


def _exception(info: object) -> str:
    """Return the messages of what an expectation raised, each once: GX has one mapping, or one for each metric."""
    info = mapping(info)
    messages = dict.fromkeys(
        str(part.get("exception_message") or "an exception without a message")
        for part in map(mapping, (info, *info.values()))
        if part.get("raised_exception") is True
    )
    return shown_lines("\n".join(messages))


def _check_whole(
    source: Mapping[str, Any], where: str, found: list[_Expectation], errors: ErrorList, **counts: int
) -> None:
    """Note an error if a result has lost a part, because it must not pass for a good one.

    :param found: the expectations that it holds: if it failed, one of them failed.
    :param counts: how many it holds, by the name under which its statistics have their number.
    """
    if not source.get("success", True) and all(expectation.success for expectation in found):
        errors.add(f"{where}.success", "is false, but no expectation of the result failed")
    for name, number in counts.items():
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
