from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.checks import checks_from_gx
from bzctrl_provider.exceptions import BzCtrlValidationError

ARTIFACTS = Path(__file__).parent / "artifacts"
VERSIONS = ("1.0", "1.7", "1.24")
DESCRIBED = [(version, name) for version in ("1.7", "1.24") for name in ("suite_described", "checkpoint")]

FAILED = [
    "expect_column_values_to_be_in_set of status",
    "expect_column_distinct_values_to_be_in_set of status",
    "expect_column_max_to_be_between of amount",
    "expect_table_columns_to_match_set",
    "expect_column_values_to_not_be_null of currency",
]
"""The expectations of the recipe that the data does not meet; GX puts the last, which raises, first."""


@pytest.fixture
def suite(artifact):
    return artifact("gx-1.24/suite.json")


@pytest.fixture
def checkpoint(artifact):
    return artifact("gx-1.24/checkpoint.json")


def only(suite, kind):
    """Return the result of a suite with the failed expectations of one type."""
    results = [entry for entry in suite["results"] if entry["expectation_config"]["type"] == kind]
    return suite | {"results": results, "statistics": {}, "success": False}


def faults_of(result):
    with pytest.raises(BzCtrlValidationError) as caught:
        checks_from_gx(result)
    assert str(caught.value).startswith(
        "No todo was made of the results of Great Expectations, because they cannot be read:\n- "
    )
    return {fault.field: fault.problem for fault in caught.value.errors}


def test_gx_results_were_written_by_the_versions_of_the_recipe(artifact):
    """Each folder holds what its version of GX Core wrote, and the recipe names the same versions."""
    for version in VERSIONS:
        written = artifact(f"gx-{version}/suite.json")["meta"]["great_expectations_version"]
        assert written.startswith(f"{version}.")
    recipe = (Path(__file__).parent / "recipe" / "record.py").read_text()
    assert "GX = (" + ", ".join(f'"{version}"' for version in VERSIONS) + ")" in recipe


def test_checks_from_gx_each_form_lists_the_same_expectations(artifact):
    """As JSON or as the description that the Airflow provider pushes, of a suite or of a checkpoint."""
    for version, name in [*((version, "suite") for version in VERSIONS), *DESCRIBED]:
        todos = checks_from_gx(artifact(f"gx-{version}/{name}.json"), one_for_all=False)
        titles = {todo["title"].rpartition(": ")[0].partition(": ")[2] for todo in todos}
        assert titles == set(FAILED)


def test_checks_from_gx_suite_describes_each_expectation(suite):
    """Column, type, what was expected and observed, how many were unexpected, and what was raised."""
    todo = checks_from_gx(suite)
    assert todo["title"].startswith(
        "Great Expectations raw_orders: 5 of 6 expectations failed (expect_column_"
    )
    assert todo["description"].startswith(
        f"Great Expectations, {suite['meta']['validation_time']}: 5 of 6 expectations failed.\n\n- expect_"
    )
    for text in (
        (
            "- expect_column_values_to_be_in_set of status: failed\n"
            "  Data: raw_orders, shop-raw_orders\n"
            '  Expected: value_set=["open", "paid", "cancelled"]\n'
            "  Unexpected: 2 of 5 (40 %)\n"
            "  Severity: critical\n"
        ),
        (
            "- expect_column_max_to_be_between of amount: failed\n"
            "  Data: raw_orders, shop-raw_orders\n"
            "  Expected: max_value=100.0\n"
            "  Observed: 120.5\n"
        ),
        (
            '  Observed: ["amount", "customer_id", "id", "status"]\n'
            '  Details: {"mismatched": {"missing": ["currency"]}}\n'
        ),
        (
            "- expect_column_values_to_not_be_null of currency: error\n"
            "  Data: raw_orders, shop-raw_orders\n"
            '  Error: Error: The column "currency" in BatchData does not exist.\n'
        ),
    ):
        assert text in todo["description"]
    assert todo["description"].endswith(f"\n\nGX Core: {suite['meta']['great_expectations_version']}")
    assert todo.keys() == {"title", "description"}


def test_checks_from_gx_checkpoint_names_the_data(checkpoint):
    """A description has no name of a suite; its data has one."""
    todo = checks_from_gx(checkpoint)
    assert todo["title"].startswith("Great Expectations shop-raw_orders: 5 of 7 expectations failed (")
    assert "\n  Result: empty: without details, or the expectation raised\n" in todo["description"]


def test_checks_from_gx_links_to_the_results(checkpoint):
    """With GX Cloud, the address of the results is in the todo."""
    checkpoint["validation_results"][0]["result_url"] = "https://app.example.com/results/1"
    assert checks_from_gx(checkpoint)["description"].endswith(
        "\n\nResults: https://app.example.com/results/1"
    )


def test_checks_from_gx_owner_of_an_expectation_is_assigned(artifact):
    """From ``meta.owner`` in the suite, where it is an e-mail address."""
    for version in VERSIONS:
        customers = artifact(f"gx-{version}/suite_customers.json")
        todo = checks_from_gx(customers)
        assert todo["assignee"] == "customer-data@example.com"
        assert "  Owner: customer-data@example.com" in todo["description"]
        customers["results"][0]["expectation_config"]["meta"] = {"owner": "Customer data"}
        assert "assignee" not in checks_from_gx(customers)


def test_checks_from_gx_values_of_the_data_are_left_out_by_default():
    """Unexpected values can be personal data, in whatever part of the result they are."""
    for version in VERSIONS:
        for path in (ARTIFACTS / f"gx-{version}").glob("*.json"):
            for one_for_all in (True, False):
                shown = json.dumps(checks_from_gx(path, one_for_all=one_for_all))
                assert "cancelled?" not in shown, path.name
        shown = checks_from_gx(ARTIFACTS / f"gx-{version}" / "suite.json", include_values=True)
        assert '  Values: ["cancelled?", "cancelled?"]\n' in shown["description"]


def test_checks_from_gx_observed_value_is_shown_if_it_is_a_number(suite):
    """The largest name or the most frequent address is personal data, a mean is not."""
    suite = only(suite, "expect_column_max_to_be_between")
    name = "Siebenschläfer"
    for observed, shown in [(120.5, "120.5"), (0, "0"), (name, None), ([name], None), ({"mode": name}, None)]:
        suite["results"][0]["result"]["observed_value"] = observed
        description = checks_from_gx(suite)["description"]
        assert f"  Observed: {shown or 'left out, because it may be personal data'}\n" in description
        assert name not in description
        in_full = checks_from_gx(suite, include_values=True)["description"]
        assert f"  Observed: {json.dumps(observed, ensure_ascii=False)}\n" in in_full


class StandIn:
    """Replaces a scalar of numpy where numpy is not installed."""

    __module__ = "numpy"

    def __init__(self, value, kind):
        self.value, self.dtype = value, SimpleNamespace(kind=kind)

    def tolist(self):
        return self.value

    __bool__ = __eq__ = __hash__ = None  # no numbers to Python's own operators


def of_numpy(value):
    """Return a value as numpy has it, with all in it."""
    if isinstance(value, dict):
        return {key: of_numpy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [of_numpy(inner) for inner in value]
    names = {bool: ("bool_", "b"), int: ("int64", "i"), float: ("float32", "f")}
    if type(value) not in names:
        return value
    name, kind = names[type(value)]
    try:
        import numpy as np
    except ImportError:
        return StandIn(value, kind)
    return getattr(np, name)(value)


@pytest.mark.parametrize(
    "name", ["suite", "suite_described", "suite_passed", "checkpoint", "checkpoint_passed"]
)
def test_checks_from_gx_scalars_of_numpy_are_those_of_python(artifact, name):
    """GX leaves them in ``success``, in counts and in observed values, as an object and in each of its forms."""
    result = artifact(f"gx-1.24/{name}.json")
    for include_values in (False, True):
        todo = checks_from_gx(result, include_values=include_values)
        assert checks_from_gx(of_numpy(result), include_values=include_values) == todo
        assert checks_from_gx(Validation(of_numpy(result)), include_values=include_values) == todo


def test_checks_from_gx_share_of_unexpected_values_is_that_of_the_number_beside_it(suite):
    """GX has the percentage of the values that are not empty, and the number of all values."""
    suite = only(suite, "expect_column_values_to_be_in_set")
    counts = {"element_count": 1000, "unexpected_count": 60, "unexpected_percent": 60.0}
    for more, shown in [
        ({"missing_count": 900}, "60 of 100 non-empty (60 %)"),
        ({"missing_count": 0, "unexpected_percent": 6.0}, "60 of 1000 (6 %)"),
        ({}, "60 of 1000 (6 %)"),
        ({"missing_count": None}, "60 of 1000 (6 %)"),
        ({"unexpected_count": 0, "missing_count": 1000}, "0 of 0 non-empty"),
        ({"element_count": None}, "60 (60 %)"),
        ({"element_count": None, "unexpected_percent": None}, "60"),
    ]:
        suite["results"][0]["result"] = counts | more
        assert f"  Unexpected: {shown}\n" in checks_from_gx(suite)["description"]


def test_checks_from_gx_many_values_are_cut(suite):
    """Twenty of them are shown, each result with a bounded text."""
    suite = only(suite, "expect_column_values_to_be_in_set")
    suite["results"][0]["result"]["partial_unexpected_list"] = list(range(100, 200))
    description = checks_from_gx(suite, include_values=True)["description"]
    assert "118, 119] and 80 more\n" in description
    suite["results"][0]["result"]["partial_unexpected_list"] = ["x" * 10**6]
    assert len(checks_from_gx(suite, include_values=True)["description"]) < 2500


def test_checks_from_gx_names_both_columns_of_a_pair(suite):
    """An expectation can be about several columns."""
    suite = only(suite, "expect_column_max_to_be_between")
    suite["results"][0]["expectation_config"]["kwargs"] = {
        "column_A": "paid",
        "column_B": "due",
        "or_equal": True,
    }
    todo = checks_from_gx(suite)
    assert "expect_column_max_to_be_between of paid, due: failed" in todo["description"]
    assert "  Expected: or_equal=true\n" in todo["description"]


def test_checks_from_gx_all_met_is_none(artifact):
    """Nothing failed, so that the task is skipped."""
    for name in ("suite_passed", "checkpoint_passed"):
        assert checks_from_gx(artifact(f"gx-1.24/{name}.json")) is None
        assert checks_from_gx(artifact(f"gx-1.24/{name}.json"), one_for_all=False) is None


def test_checks_from_gx_without_results_is_a_todo():
    """The validation ended before it pushed a result, or had no expectation: nothing is known of the data."""
    for result, gap in [
        (None, "the result is None"),
        ("no/such.json", "there is no file no/such.json"),
        ({"success": True, "results": []}, "the result has no expectation"),
        ({"success": True, "run_results": {}}, "the result has no expectation"),
        ({"success": True, "run_results": []}, "the result has no expectation"),
    ]:
        todo = checks_from_gx(result)
        assert todo["title"] == "Great Expectations ended without results"
        assert todo["description"].startswith(
            f"{todo['title']}: {gap}, so it is not known whether a check failed."
        )
        assert checks_from_gx(result, one_for_all=False) == [todo]


class Validation:
    """Has the method of GX Core's ``ExpectationSuiteValidationResult`` that is used."""

    def __init__(self, data):
        self.data = data

    def to_json_dict(self):
        return self.data


class Checkpoint:
    """Has the attribute of GX Core's ``CheckpointResult`` that is used."""

    def __init__(self, *results):
        self.run_results = {object(): Validation(data) for data in results}


def test_checks_from_gx_takes_objects_text_and_paths(suite, artifact):
    """The result of a validation or of a checkpoint can be given as it is, as JSON text, or as a path; it is not changed."""
    before = json.dumps(suite)
    of_suite = checks_from_gx(suite)
    assert json.dumps(suite) == before
    assert checks_from_gx(Validation(suite)) == of_suite
    assert checks_from_gx(json.dumps(suite)) == of_suite
    assert checks_from_gx(ARTIFACTS / "gx-1.24" / "suite.json") == of_suite
    both = checks_from_gx(Checkpoint(suite, artifact("gx-1.24/suite_customers.json")))
    assert both["title"].startswith("Great Expectations: 6 of 8 expectations failed (")
    assert "  Data: customers, shop-customers\n" in both["description"]
    assert checks_from_gx(Checkpoint(artifact("gx-1.24/suite_passed.json"))) is None


def test_checks_from_gx_malformed_result_is_refused():
    """Each is an error that names the place, what was found, and what is needed; a missing XCom is no success."""
    not_failed = "no expectation of the result failed"
    nothing = {"success": True, "results": []}
    no_success = {"expectation_type": "expect_x", "success": None}
    old = {"success": True, "expectation_config": {"expectation_type": "old"}}
    for result, field, problem in [
        ([], "", "must be a mapping, JSON text or a path, not []"),
        ({}, "", "it holds nothing"),
        ({"success": True, "title": 1}, "", "it holds 'success', 'title'"),
        ({"success": True, "results": {}}, "", "must hold the list of expectations"),
        ({"results": []}, "success", "must be true or false, not None"),
        ({"success": False, "results": []}, "success", f"is false, but {not_failed}"),
        ({"success": True, "results": [3]}, "results[0]", "must be a mapping, not 3"),
        (
            {"success": True, "expectations": [no_success]},
            "expectations[0].success",
            "must be true or false, not None",
        ),
        (
            {"success": True, "results": [old]},
            "results[0].expectation_config.type",
            "must be the type of an expectation of GX Core 1.x, not None",
        ),
        (
            {**nothing, "statistics": {"evaluated_expectations": 3}},
            "statistics.evaluated_expectations",
            "is 3, but the result holds 0",
        ),
        ({"validation_results": None}, "validation_results", "must be a list or a mapping, not None"),
        ({"validation_results": ["x"]}, "validation_results[0]", "must be a mapping, not 'x'"),
        (
            {"success": True, "validation_results": [], "statistics": {"evaluated_validations": 1}},
            "statistics.evaluated_validations",
            "is 1, but the result holds 0",
        ),
        ({"success": False, "validation_results": []}, "success", f"is false, but {not_failed}"),
        ({"results": [], "run_results": {}}, "", "but holds both results and run_results"),
        ({"run_results": 3}, "run_results", "must be a list or a mapping, not 3"),
        ({"run_results": {"key": {}}}, "run_results[0]", "it holds nothing"),
    ]:
        assert problem in faults_of(result)[f"result.{field}".rstrip(".")]


def test_checks_from_gx_secret_and_control_characters_reach_no_todo(suite, known_secret):
    """A password in what an expectation raised is masked; a forged entry of the list is indented."""
    suite = only(suite, "expect_column_values_to_not_be_null")
    info = {
        "raised_exception": True,
        "exception_message": f"no login with {known_secret}\0\n- forged: failed",
    }
    suite["results"][0]["exception_info"] = info
    description = checks_from_gx(suite)["description"]
    assert "  Error:\n    no login with ***\ufffd\n    - forged: failed\n" in description


def test_checks_from_gx_exception_without_a_message_is_an_error(suite):
    """An expectation that raised is an error, whatever it says."""
    suite = only(suite, "expect_column_values_to_not_be_null")
    suite["results"][0]["exception_info"] = {"raised_exception": True, "exception_message": None}
    assert "  Error: an exception without a message\n" in checks_from_gx(suite)["description"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FORMS = ("results", "expectations", "validation_results", "run_results", "success", "statistics", "meta")


@given(st.dictionaries(st.sampled_from(FORMS), JSON))
def test_checks_from_gx_any_other_data_is_one_error_or_nothing_evaluated(data):
    """Other JSON is an error; an empty list of results is no success either."""
    try:
        todo = checks_from_gx(data)
    except BzCtrlValidationError:
        return
    assert todo["title"] == "Great Expectations ended without results"
    assert not any(data.get(form) for form in FORMS[:4])
