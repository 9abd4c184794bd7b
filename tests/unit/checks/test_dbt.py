from __future__ import annotations

import gzip
import json
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.checks import checks_from_dbt
from bzctrl_provider.exceptions import BzCtrlValidationError

ARTIFACTS = Path(__file__).parent / "artifacts"
SCHEMAS = {"1.5": (4, 9), "1.6": (4, 10), "1.7": (5, 11), "1.11": (6, 12)}
"""For each version of dbt-core that was recorded the versions of its schemas: run results and manifest."""
ARTIFACT_FILES = {"run-results": "run_results.json", "manifest": "manifest.json.gz"}


@pytest.fixture
def run_results(artifact):
    return artifact("dbt-1.11/run_results.json")


@pytest.fixture
def manifest(artifact):
    return artifact("dbt-1.11/manifest.json.gz")


def entry(artifact, name):
    """Return the run result or the node of a test by a part of its id."""
    if "results" in artifact:
        return next(result for result in artifact["results"] if name in result["unique_id"])
    return next(node for unique_id, node in artifact["nodes"].items() if name in unique_id)


SOURCES = {
    "metadata": {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/sources/v3.json",
        "dbt_version": "1.11.16",
        "generated_at": "2026-11-30T09:00:01.733343Z",
        "invocation_id": "87486efb-264c-4edf-9d68-1f5efc94790e",
    },
    "results": [
        {
            "unique_id": f"source.shop.raw.{name}",
            "max_loaded_at": "2026-11-30T03:59:58.411732+00:00",
            "snapshotted_at": "2026-11-30T09:00:01.725626+00:00",
            "max_loaded_at_time_ago_in_s": 18003.313894,
            "status": status,
            "criteria": {"warn_after": warn_after, "error_after": error_after, "filter": None},
        }
        for name, status, warn_after, error_after in [
            ("shipments", "error", {"count": 1, "period": "hour"}, {"count": 2, "period": "hour"}),
            ("payments", "warn", {"count": 1, "period": "minute"}, {"count": 30, "period": "day"}),
            ("rates", "pass", {"count": 30, "period": "day"}, None),
        ]
    ]
    + [
        {
            "unique_id": "source.shop.raw.invoices",
            "error": "Runtime Error in source invoices (models/sources.yml)\n  Catalog Error: no table invoices",
            "status": "runtime error",
        }
    ],
    "elapsed_time": 0.12,
}
"""A file of ``dbt source freshness`` of dbt-core 1.11, without ``timing``; the last entry has the form of the schema."""


def sources_of(manifest):
    """Return a manifest with the nodes of ``SOURCES``."""
    nodes = {
        result["unique_id"]: {
            "name": result["unique_id"].rpartition(".")[2],
            "source_name": "raw",
            "original_file_path": "models/sources.yml",
            "relation_name": '"shop"."raw"."x"',
            "config": {"meta": {"owner": "warehouse@example.com"}},
        }
        for result in SOURCES["results"]
    }
    nodes["source.shop.raw.invoices"]["config"]["meta"]["owner"] = "finance@example.com"
    return manifest | {"sources": nodes}


def without_failures(run_results):
    good = {"pass", "success", "warn", "skipped"}
    kept = [result for result in run_results["results"] if result["status"] in good]
    return run_results | {"results": kept}


def faults_of(run_results, manifest=None):
    with pytest.raises(BzCtrlValidationError) as caught:
        checks_from_dbt(run_results, manifest)
    assert str(caught.value).startswith(
        "No todo was made of the results of dbt, because they cannot be read:\n- "
    )
    return {fault.field: fault.problem for fault in caught.value.errors}


def test_dbt_artifacts_were_written_by_the_versions_of_the_recipe(artifact):
    """Each folder holds what its version of dbt-core wrote, in the schema versions that are supported."""
    for version, schemas in SCHEMAS.items():
        for (kind, file), schema in zip(ARTIFACT_FILES.items(), schemas, strict=True):
            metadata = artifact(f"dbt-{version}/{file}")["metadata"]
            assert metadata["dbt_version"].startswith(f"{version}.")
            address = f"https://schemas.getdbt.com/dbt/{kind}/v{schema}.json"
            assert metadata["dbt_schema_version"] == address
    recipe = (Path(__file__).parent / "recipe" / "record.py").read_text()
    assert set(json.loads(re.search(r"^DBT = (\{.*\})", recipe, re.MULTILINE)[1])) == SCHEMAS.keys()


def test_checks_from_dbt_of_each_version_lists_the_same_tests():
    """Failed, with an error, or of a model with an error; a unit test exists from dbt 1.8 on."""
    unit_test = "unit test cancelled_orders_count_for_nothing of totals: failed, 1 failure"
    for version in SCHEMAS:
        folder = ARTIFACTS / f"dbt-{version}"
        todos = checks_from_dbt(folder / "run_results.json", folder / "manifest.json.gz", one_for_all=False)
        found = {todo["title"].removeprefix("dbt shop: "): todo.get("assignee") for todo in todos}
        assert (found.pop(unit_test, None) == "finance@example.com") is (version == "1.11")
        assert found == {
            "not_null of customers.email: failed, 1 failure": None,
            "model late_orders: error": None,
            "not_null of amounts.amount: failed, 1 failure": "finance@example.com",
            "accepted_values of orders.status: failed, 1 failure": "sales@example.com",
            "amounts_are_booked: error": "sales@example.com",
            "relationships of orders.customer_id: failed, 1 failure": "customer-data@example.com",
        }


def test_checks_from_dbt_one_for_all_lists_every_failure(run_results, manifest):
    """The title counts, the description has each check with its facts, and what did not run."""
    todo = checks_from_dbt(run_results, manifest)
    assert todo["title"] == (
        "dbt shop: 6 of 8 tests failed, 1 model failed (not_null of customers.email, model late_orders, "
        "unit test cancelled_orders_count_for_nothing of totals, not_null of amounts.amount, …)"
    )
    assert todo["description"].startswith(
        f"dbt build, {run_results['metadata']['generated_at']}: 6 of 8 tests failed, 1 model failed.\n\n"
        "- not_null of customers.email: failed, 1 failure\n"
    )
    assert (
        "\n- not_null of amounts.amount: failed, 1 failure\n"
        "  Test: amounts_are_known\n"
        "  Message: Got 1 result, configured to fail if != 0\n"
        "  Defined in: models/more.yml\n"
        "  Compiled SQL: target/compiled/shop/models/more.yml/amounts_are_known.sql\n"
        '  Failed rows: "shop"."main_dbt_test__audit"."amounts_are_known"\n'
        "  Owner: Finance, finance@example.com\n"
    ) in todo["description"]
    assert (
        "\n- amounts_are_booked: error\n"
        "  Message:\n"
        "    Runtime Error in test amounts_are_booked (tests/amounts_are_booked.sql)\n"
        "      Catalog Error: Table with name ledger does not exist!\n"
    ) in todo["description"]
    assert todo["description"].endswith(
        "\n\nDid not run: model totals, not_null of late_orders.id, not_null of totals.total\n"
        f"dbt: {run_results['metadata']['dbt_version']}, invocation {run_results['metadata']['invocation_id']}"
    )
    assert todo.keys() == {"title", "description"}


def test_checks_from_dbt_one_each_describes_one_test(run_results, manifest):
    """A todo of one test has its facts, and not those of the others."""
    todos = checks_from_dbt(run_results, manifest, one_for_all=False)
    todo = next(todo for todo in todos if "accepted_values" in todo["title"])
    metadata = run_results["metadata"]
    assert todo == {
        "title": "dbt shop: accepted_values of orders.status: failed, 1 failure",
        "description": (
            f"dbt build, {metadata['generated_at']}: accepted_values of orders.status: failed, 1 failure.\n\n"
            "Test: accepted_values_orders_status__open__paid__cancelled\n"
            "Message: Got 1 result, configured to fail if != 0\n"
            "Defined in: models/schema.yml\n"
            "Compiled SQL: target/compiled/shop/models/schema.yml/"
            "accepted_values_orders_status__open__paid__cancelled.sql\n"
            "Owner: sales@example.com\n\n"
            f"dbt: {metadata['dbt_version']}, invocation {metadata['invocation_id']}"
        ),
        "assignee": "sales@example.com",
    }


def test_checks_from_dbt_without_manifest_names_tests_by_their_ids(run_results):
    """The hash that dbt appends is left out; nobody is assigned."""
    todo = checks_from_dbt(run_results)
    assert (
        "- accepted_values_orders_status__open__paid__cancelled: failed, 1 failure\n" in todo["description"]
    )
    assert "- unit test totals.cancelled_orders_count_for_nothing: failed" in todo["description"]
    assert "0706dcd5e7" not in todo["description"]
    assert "assignee" not in todo


def test_checks_from_dbt_one_for_all_is_assigned_to_the_common_owner(run_results, manifest):
    """Only if every failed test has the same e-mail address as its owner."""
    sales = [entry(run_results, name) for name in ("accepted_values", "amounts_are_booked")]
    assert checks_from_dbt(run_results | {"results": sales}, manifest)["assignee"] == "sales@example.com"
    other = [*sales, entry(run_results, "relationships")]
    assert "assignee" not in checks_from_dbt(run_results | {"results": other}, manifest)
    nobodys = [*sales, entry(run_results, "not_null_customers_email")]
    assert "assignee" not in checks_from_dbt(run_results | {"results": nobodys}, manifest)


def test_checks_from_dbt_assigns_only_an_email_address(run_results, manifest):
    """A name is shown as the owner, and only one e-mail address becomes the assignee."""
    results = run_results | {"results": [entry(run_results, "amounts_are_known")]}
    a, b = "a@example.com", "b@example.com"
    for owner, names, assignee in [
        (a, a, a),
        (["Team A", a], f"Team A, {a}", a),
        ([a, b], f"{a}, {b}", None),
        ("Team A", "Team A", None),
        (f"Team A <{a}>", f"Team A <{a}>", None),
        *((owner, None, None) for owner in ({"email": a}, None, "")),
    ]:
        entry(manifest, "amounts_are_known")["config"]["meta"] = {"owner": owner}
        entry(manifest, "amounts_are_known")["meta"] = {}
        todo = checks_from_dbt(results, manifest)
        assert todo.get("assignee") == assignee
        assert not names or f"Owner: {names}\n" in todo["description"]
        assert ("Owner" in todo["description"]) is bool(names)


def test_checks_from_dbt_source_test_names_and_owner_come_from_the_source(run_results, manifest):
    """A test of a source is attached to no node, so that what it reads is named."""
    node = entry(manifest, "not_null_customers_email")
    node |= {"attached_node": None, "depends_on": {"nodes": ["source.shop.raw.customers"]}}
    source = {"name": "customers", "source_name": "raw", "config": {"meta": {"owner": "raw@example.com"}}}
    manifest["sources"]["source.shop.raw.customers"] = source
    results = run_results | {"results": [entry(run_results, "not_null_customers_email")]}
    todo = checks_from_dbt(results, manifest)
    assert todo["title"] == "dbt shop: not_null of raw.customers.email failed"
    assert todo["assignee"] == "raw@example.com"


def test_checks_from_dbt_nothing_failed_is_none(run_results, manifest):
    """Warnings and skipped tests are no failures."""
    assert checks_from_dbt(without_failures(run_results), manifest) is None
    assert checks_from_dbt(without_failures(run_results), one_for_all=False) is None


class Stored:
    """Replace Airflow's ``ObjectStoragePath``."""

    def __init__(self, *, exists):
        self._exists = exists

    def exists(self):
        return self._exists

    def read_bytes(self):
        return b"{"

    def __str__(self):
        return "s3://bucket/run_results.json"


def test_checks_from_dbt_without_results_is_a_todo(run_results, tmp_path):
    """dbt ended before it wrote results, or has run nothing: it is not known whether a test failed."""
    unknown = ", so it is not known whether a check failed. The log of the task that ran it says more."
    ended = "dbt ended without results"
    written = f"dbt build, {run_results['metadata']['generated_at']}"
    for results, description in [
        (None, f"{ended}: the result is None{unknown}"),
        ("a\0b", f"{ended}: there is no file a b{unknown}"),
        ("no/such.json", f"{ended}: there is no file no/such.json{unknown}"),
        (tmp_path / "no.json", f"{ended}: there is no file {tmp_path}/no.json{unknown}"),
        (Stored(exists=False), f"{ended}: there is no file s3://bucket/run_results.json{unknown}"),
        (run_results | {"results": []}, f"{written}: the list of results is empty{unknown}\n\ndbt: "),
    ]:
        todo = checks_from_dbt(results, "no/manifest.json" if results is None else None)
        assert todo["title"] == ended
        assert todo["description"].startswith(description)
        assert checks_from_dbt(results, one_for_all=False) == [todo]
    assert "run_results" in faults_of(Stored(exists=True))


def test_checks_from_dbt_include_warnings_lists_them(run_results, manifest):
    """A test of severity warn is reported only on request, and counted by itself."""
    todo = checks_from_dbt(without_failures(run_results), manifest, include_warnings=True)
    assert todo["title"] == "dbt shop: 0 of 2 tests failed, 1 test warned (not_null of orders.amount)"
    assert todo["assignee"] == "sales@example.com"
    assert "1 test warned" not in checks_from_dbt(run_results, manifest)["title"]


def test_checks_from_dbt_model_without_tests_that_failed_is_reported(run_results):
    """Nothing is known of the data of a model with an error, so that it is no success."""
    for status in ("error", "partial success", "runtime error"):
        model = {"unique_id": "model.shop.orders", "status": status, "message": "out of memory"}
        todo = checks_from_dbt(run_results | {"results": [model]})
        assert todo["title"] == "dbt shop: 1 model failed (model orders)"
        assert "out of memory" in todo["description"]


def test_checks_from_dbt_takes_json_text_bytes_and_paths(tmp_path, run_results, manifest):
    """Each form of the same artifact gives the same todo, and no argument is changed."""
    path = tmp_path / "run_results.json"
    path.write_text(json.dumps(run_results))
    before = json.dumps([run_results, manifest])
    todo = checks_from_dbt(run_results, manifest)
    for form in (path, str(path), path.read_text(), path.read_bytes()):
        assert checks_from_dbt(form, manifest) == todo
    assert json.dumps([run_results, manifest]) == before


def test_checks_from_dbt_unreadable_input_is_refused(run_results, manifest):
    """Each is an error with the name of the parameter, what was found and what is supported; none looks like a success."""
    schema = "metadata.dbt_schema_version"
    other = "https://schemas.getdbt.com/dbt/{}.json"
    no_address = "must be the address of dbt's schema {}, not {!r}"
    unsupported = "is not supported: {} are, of dbt-core 1.5 to 1.12 and dbt Fusion"
    form = "must be a mapping, JSON text or a path, not {}"
    cut_off = gzip.compress(b"{}")[:10] + b"\xff" * 20
    for artifact, field, problem in [
        ([], "", form.format([])),
        ("[]", "", form.format([])),
        ("", "", "is no JSON: Expecting value at line 1, column 1"),
        ('{"metadata":', "", "is no JSON: Expecting value at line 1, column 13"),
        ("[" * 100_000, "", "is no JSON: RecursionError"),
        (b"{\xff}", "", "is no JSON: UnicodeDecodeError"),
        (b"\x1f\x8bnothing", "", "cannot be decompressed (EOFError)"),
        (cut_off, "", "cannot be decompressed (error)"),
        (".", "", "the file . cannot be read (Is a directory)"),
        ({}, schema, no_address.format("run-results or sources", None)),
        (
            {"metadata": {"dbt_schema_version": "v6"}},
            schema,
            no_address.format("run-results or sources", "v6"),
        ),
        (manifest, schema, no_address.format("run-results or sources", other.format("manifest/v12"))),
        *(
            (
                {"metadata": {"dbt_schema_version": other.format(f"run-results/v{version}")}},
                schema,
                f"run-results v{version} {unsupported.format('v4, v5, v6')}",
            )
            for version in (3, 7)
        ),
        (
            {"metadata": {"dbt_schema_version": other.format("sources/v9")}},
            schema,
            f"sources v9 {unsupported.format('v3')}",
        ),
        (
            SOURCES | {"results": [{"unique_id": "source.shop.raw.x", "status": "success"}]},
            "results[0].status",
            "must be one of error, pass, runtime error, warn, not 'success'",
        ),
        ({key: run_results[key] for key in ("metadata", "args")}, "results", "must be a list, not None"),
    ]:
        assert faults_of(artifact) == {f"run_results.{field}".rstrip("."): problem}


def test_checks_from_dbt_manifest_of_fusion_gives_names_and_owners(run_results, manifest):
    """dbt Fusion writes v20: the nodes of v12, with the meta only in the configuration."""
    todos = checks_from_dbt(run_results, manifest, one_for_all=False)
    manifest["metadata"]["dbt_schema_version"] = "https://schemas.getdbt.com/dbt/manifest/v20.json"
    for node in manifest["nodes"].values():
        node["meta"] = None
    assert checks_from_dbt(run_results, manifest, one_for_all=False) == todos
    assert len({todo.get("assignee") for todo in todos}) == 4


def test_checks_from_dbt_unusable_manifest_is_left_out_with_a_warning(
    run_results, manifest, tmp_path, caplog
):
    """A manifest that cannot be read costs the names and owners, and never the todo, which says so."""
    caplog.set_level(logging.WARNING)
    without = checks_from_dbt(run_results)
    (tmp_path / "cut.json").write_text('{"metadata":')
    newer = {"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v21.json"}}
    for unusable, why in [
        (
            newer,
            "manifest.metadata.dbt_schema_version: manifest v21 is not supported: v9, v10, v11, v12, v20 are",
        ),
        (
            run_results,
            "manifest.metadata.dbt_schema_version: must be the address of dbt's schema manifest, not",
        ),
        ({}, "manifest.metadata.dbt_schema_version: must be the address of dbt's schema manifest, not None"),
        (tmp_path / "cut.json", "manifest: is no JSON: Expecting value at line 1, column 13"),
        (tmp_path / "no.json", f"manifest: the file {tmp_path}/no.json cannot be read (No such file"),
        (3, "manifest: must be a mapping, JSON text or a path, not 3"),
    ]:
        caplog.clear()
        todo = checks_from_dbt(run_results, unusable)
        assert todo["title"] == without["title"]
        description, _, note = todo["description"].partition("\nManifest: left out: ")
        assert description == without["description"]
        assert note.startswith(why)
        (record,) = caplog.records
        assert why in record.getMessage()
        assert checks_from_dbt(without_failures(run_results), unusable) is None


def test_checks_from_dbt_stale_sources_are_listed(manifest):
    """From ``sources.json``: since when nothing was loaded, and how old the data may be; a query that failed has its message."""
    todo = checks_from_dbt(json.dumps(SOURCES), sources_of(manifest))
    assert todo == {
        "title": "dbt shop: 2 of 4 sources failed (source raw.shipments, source raw.invoices)",
        "description": (
            "dbt source freshness, 2026-11-30T09:00:01.733343Z: 2 of 4 sources failed.\n\n"
            "- source raw.shipments: stale\n"
            "  Last loaded: 2026-11-30T03:59:58.411732+00:00 (5:00:03 before the check)\n"
            "  Allowed age: 2 hours (error), 1 hour (warning)\n"
            "  Defined in: models/sources.yml\n"
            "  Owner: warehouse@example.com\n"
            "- source raw.invoices: error\n"
            "  Message:\n"
            "    Runtime Error in source invoices (models/sources.yml)\n"
            "      Catalog Error: no table invoices\n"
            "  Defined in: models/sources.yml\n"
            "  Owner: finance@example.com\n\n"
            "dbt: 1.11.16, invocation 87486efb-264c-4edf-9d68-1f5efc94790e"
        ),
    }
    each = checks_from_dbt(SOURCES, sources_of(manifest), one_for_all=False, include_warnings=True)
    assert {todo["title"]: todo["assignee"] for todo in each} == {
        "dbt shop: source raw.shipments: stale": "warehouse@example.com",
        "dbt shop: source raw.payments: stale, warned": "warehouse@example.com",
        "dbt shop: source raw.invoices: error": "finance@example.com",
    }
    assert (
        "\n\nLast loaded: 2026-11-30T03:59:58.411732+00:00 (5:00:03 before the check)"
        in each[1]["description"]
    )
    assert "\nAllowed age: 30 days (error), 1 minute (warning)\n" in each[1]["description"]
    listed = checks_from_dbt(SOURCES, include_warnings=True)["title"]
    assert listed.startswith("dbt shop: 2 of 4 sources failed, 1 source warned (source raw.shipments, source")


def test_checks_from_dbt_sources_of_fusion_are_those_of_dbt_core():
    """dbt Fusion writes the statuses as ``Error``, ``Warn`` and ``Pass``, and an empty limit as one without a number."""
    todo = checks_from_dbt(SOURCES, include_warnings=True)
    nothing = {"count": None, "period": None}
    fusion = [result | {"status": result["status"].capitalize()} for result in SOURCES["results"]]
    fusion[2]["criteria"] = fusion[2]["criteria"] | {"error_after": nothing}
    assert checks_from_dbt(SOURCES | {"results": fusion}, include_warnings=True) == todo
    fusion[0]["criteria"] = {"error_after": nothing}
    assert "Allowed age" not in checks_from_dbt(SOURCES | {"results": fusion[:1]})["description"]


def test_checks_from_dbt_fresh_sources_are_none():
    """Nothing is stale: no todo; a warning is none by default."""
    fresh = [result for result in SOURCES["results"] if result["status"] in ("warn", "pass")]
    assert checks_from_dbt(SOURCES | {"results": fresh}) is None
    assert checks_from_dbt(SOURCES | {"results": []})["title"] == "dbt ended without results"


def test_checks_from_dbt_damaged_source_is_still_reported():
    """Parts of another kind are left out."""
    stale = SOURCES["results"][0]
    for damaged in (
        {"max_loaded_at": None, "criteria": None},
        {"max_loaded_at": 3, "max_loaded_at_time_ago_in_s": "5"},
        {
            "max_loaded_at_time_ago_in_s": float("nan"),
            "criteria": {"error_after": {"count": "2", "period": 3}},
        },
        {"max_loaded_at_time_ago_in_s": 1e300, "criteria": []},
    ):
        todo = checks_from_dbt(SOURCES | {"results": [stale | damaged]})
        assert todo["title"] == "dbt shop: source raw.shipments failed"
        assert "before the check" not in todo["description"]


def test_checks_from_dbt_names_every_faulty_result(run_results):
    """All faults of a damaged file are in one error, also beside tests that failed."""
    run_results["results"][0] = "no mapping"
    run_results["results"][1]["status"] = "exploded"
    run_results["results"][2]["unique_id"] = None
    faults = faults_of(run_results)
    assert faults["run_results.results[0]"] == "must be a mapping, not 'no mapping'"
    assert faults["run_results.results[1].status"].endswith("not 'exploded'")
    assert faults["run_results.results[2].unique_id"] == "must be text, not None"
    assert len(faults) == 3


def test_checks_from_dbt_many_faults_are_counted(run_results):
    """The first 20 are named, and how many more there are."""
    with pytest.raises(BzCtrlValidationError) as caught:
        checks_from_dbt(run_results | {"results": [None] * 50})
    assert len(caught.value.errors) == 21
    assert str(caught.value).endswith("- and: 30 more")


def test_checks_from_dbt_results_of_docs_generate_are_refused():
    """``dbt docs generate`` overwrites the results of the tests with those of compiling them."""
    (problem,) = faults_of(ARTIFACTS / "dbt-docs-generate" / "run_results.json").values()
    assert problem.startswith("9 of 9 tests only compiled, not run")
    assert "--target-path" in problem


def test_checks_from_dbt_damaged_manifest_costs_only_what_it_says(run_results, manifest):
    """Parts of a manifest that are of another kind are left out; every failed test is still reported."""
    manifest |= {"nodes": [], "sources": None, "unit_tests": {"unit_test.shop.totals": "text"}}
    assert checks_from_dbt(run_results, manifest)["description"].count("\n- ") == 7
    node = {
        "attached_node": 3,
        "depends_on": {"nodes": "all"},
        "column_name": 1,
        "config": [],
        "meta": "text",
    }
    manifest["nodes"] = {result["unique_id"]: node for result in run_results["results"]}
    assert checks_from_dbt(run_results, manifest)["description"].count("\n- ") == 7


def test_checks_from_dbt_message_is_bounded_plain_text(run_results, known_secret):
    """Neither colours, control characters, a forged entry nor megabytes; a secret is redacted before the message is cut."""
    message = "\x1b[31mred\x1b[0m\0\n- forged: failed\n" + "x" * 10**6
    test = entry(run_results, "amounts_are_booked") | {"message": message}
    todo = checks_from_dbt(run_results | {"results": [test]})
    assert "\n    red\ufffd\n    - forged: failed\n    xxx" in todo["description"]
    assert len(todo["description"]) < 2500
    test |= {"message": "x" * 1990 + known_secret}
    todo = checks_from_dbt(run_results | {"results": [test]})
    assert known_secret[:4] not in todo["description"]
    assert "***" in todo["description"]


def test_checks_from_dbt_thousands_of_failures_stay_bounded(run_results, manifest):
    """One todo lists the first 20 and counts the others."""
    test = entry(run_results, "amounts_are_booked") | {"message": "x" * 5000}
    many = [test | {"unique_id": f"test.shop.{'t' * 200}{number}"} for number in range(3000)]
    todo = checks_from_dbt(run_results | {"results": many}, manifest)
    assert todo["title"].startswith("dbt shop: 3000 of 3000 tests failed")
    assert len(todo["title"]) <= 200
    assert len(todo["description"]) < 60_000
    assert todo["description"].count("\n- t") == 20
    assert "\n- and 2980 more\n" in todo["description"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_checks_from_dbt_any_other_data_is_one_error(data):
    """Other JSON in place of run results gives neither None nor another exception; None and the name of no file are no results."""
    try:
        todo = checks_from_dbt(data)
    except BzCtrlValidationError:
        return
    assert data is None or isinstance(data, str)
    assert todo["title"] == "dbt ended without results"


@given(st.dictionaries(st.sampled_from(["unique_id", "status", "failures", "message"]), JSON))
def test_checks_from_dbt_any_other_result_is_no_success(result):
    """A result that dbt did not write is an error."""
    for schema in ("run-results/v6", "sources/v3"):
        address = f"https://schemas.getdbt.com/dbt/{schema}.json"
        with pytest.raises(BzCtrlValidationError):
            checks_from_dbt({"metadata": {"dbt_schema_version": address}, "results": [result]})
