from __future__ import annotations

import pytest

from bzctrl_provider.outbox import Incident, Repeats, write
from bzctrl_provider.rules.routes import RUN_TYPES
from bzctrl_provider.store import problems
from bzctrl_provider.text import digest_of

ROUTES = """\
[[route]]
run_types = ["backfill"]
ignore = true

[[route]]
tags = ["impact/tier_1"]
priority = "HIGH"

[[route]]
owners = ["customs-*"]
tasks = ["check_*"]
domain_workspace = "EXA-CUS-TOM-SHQ"

[[route]]
domain_workspace = "EXA-CON-BUS-WOR"
priority = "LOW"
"""
DAG = {
    "tags": ["daily", "impact/tier_1"],
    "owner": "customs-nl, finance",
    "team": None,
    "roll_ups": {"raise_incident": ["check_totals", "extract"]},
}


def test_explain_takes_the_facts_of_the_dag_from_airflow(run_command, routes_file, stored):
    """Each field is there with the number of its route; without a task, a matcher of tasks does not match."""
    path = routes_file(ROUTES)
    stored["dags"]["customs_daily"] = DAG
    code, text = run_command("check", "--explain", "customs_daily")
    assert code == 0
    assert text.splitlines() == [
        "DAG: customs_daily; tags: daily, impact/tier_1; owners: customs-nl, finance; run type: scheduled",
        "The policy raises none: incident_on_failed_run is off.",
        "The task raise_incident raises one for the tasks before it.",
        "If it failed now, an incident would be raised.",
        "priority = 'HIGH' from route 2",
        "domain_workspace = 'EXA-CON-BUS-WOR' from route 4",
        "bzctrl_conn_id = 'bzctrl_default' from [bzctrl]",
        "consecutive_failures = 1 from [bzctrl]",
        "todo_type = 'INCIDENT' from the default",
        "title = 'customs_daily: the run failed' from the failure",
        "description = 'In the DAG customs_daily, the run failed.\\n\\nOwner: customs-nl, finance' from the failure",
        "reporter from the connection bzctrl_default",
        "assignee from the connection bzctrl_default",
        f"{path}: for each field, the first route that fits and sets it gives the value.",
        "route 1: run_types does not match",
        "route 2: fits",
        "route 3: tasks is not known",
        "route 4: fits",
        "A field in the DAG wins over a route, a route over [bzctrl], and that over the connection.",
    ]


def test_explain_with_a_task_and_a_run_type_uses_them(run_command, routes_file, stored):
    """--task and --run-type are facts of the failure."""
    routes_file(ROUTES)
    stored["dags"]["customs_daily"] = DAG
    code, report = run_command(
        "check", "--explain", "customs_daily", "--task", "check_totals", "--run-type", "backfill", "--json"
    )
    assert code == 0
    assert report["decision"].startswith("No incident: ignore = true in route 1 of ")
    assert (report["raised"], report["fields"]) == (False, {})
    assert report["facts"]["tasks"] == ["check_totals"]
    assert [route["fits"] for route in report["routes"]] == [True, True, True, True]


def test_explain_knows_the_run_types_of_a_routes_file(run_command, capsys):
    """A type with a typo, which no route could match, is an invalid argument; a name of Airflow 2 is none."""
    for run_type in (*RUN_TYPES, "dataset_triggered"):
        assert run_command("check", "--explain", "d", "--run-type", run_type)[0] == 0
    with pytest.raises(SystemExit) as ended:
        run_command("check", "--explain", "d", "--run-type", "backfil")
    assert ended.value.code == 2
    assert "argument --run-type: must be one of backfill, scheduled, manual" in capsys.readouterr().err


def test_explain_of_an_unknown_dag_uses_the_facts_given_by_hand(run_command, routes_file):
    """Without the DAG in the database, --tag and --owner are used, and a note says so."""
    routes_file(ROUTES)
    code, report = run_command(
        "check", "--explain", "new", "--tag", "impact/tier_1", "--owner", "a", "--owner", "b", "--json"
    )
    assert code == 0
    assert report["facts"]["owners"] == ["a", "b"]
    assert report["fields"]["priority"]["source"] == "route 2"
    assert "has no such DAG" in report["notes"][0]


def test_explain_given_facts_win_over_the_database(run_command, routes_file, stored):
    """A change of tags can be tried before it is made."""
    routes_file(ROUTES)
    stored["dags"]["d"] = DAG
    _, report = run_command("check", "--explain", "d", "--tag", "other", "--team", "t", "--json")
    assert report["fields"]["priority"]["source"] == "route 4"
    assert (report["facts"]["tags"], report["facts"]["teams"]) == (["other"], ["t"])


def test_explain_of_an_import_error_has_only_its_file(run_command, routes_file):
    """With --file and no DAG, only matchers of files can fit."""
    routes_file(
        '[[route]]\nfiles = ["customs/*"]\npriority = "LOW"\n[[route]]\ndags = ["*"]\npriority = "HIGH"\n'
    )
    code, text = run_command("check", "--file", "customs/daily.py")
    assert code == 0
    assert "file: customs/daily.py\n" in text
    assert "priority = 'LOW' from route 1" in text
    assert "route 2: dags is not known" in text


@pytest.mark.parametrize(
    ("dag_id", "tasks", "options", "raisers"),
    [
        ("customs_daily", [], {}, ["raise_incident"]),
        ("customs_daily", ["extract"], {}, ["raise_incident"]),
        ("customs_daily", ["free"], {}, []),
        ("customs_daily", ["free"], {"incident_on_failed_run": "True"}, ["policy"]),
        ("customs_daly", [], {}, []),
    ],
)
def test_explain_says_that_no_incident_is_raised_if_nothing_known_raises_one(
    run_command, configure, stored, dag_id, tasks, options, raisers
):
    """A task that no roll-up follows, and an id with a typo, look like incidents otherwise."""
    stored["dags"]["customs_daily"] = DAG
    configure(**options)
    _, report = run_command(
        "check", "--explain", dag_id, "--json", *(part for task in tasks for part in ("--task", task))
    )
    assert report["raised"] is bool(raisers)
    assert ("nothing that is known here" in report["decision"]) is (not raisers)
    assert ("The task raise_incident raises one for the tasks before it." in report["raised_by"]) is (
        "raise_incident" in raisers
    )
    assert report["fields"]["title"]["value"].startswith(dag_id)


def test_explain_says_that_a_routes_file_switches_backfills_on(run_command, routes_file, configure, stored):
    """For any type of run: with a file, only the file counts, so that a note is there unless a route ignores backfills."""
    stored["dags"]["d"] = {"tags": ["daily"], "owner": "a", "team": None, "roll_ups": {}}
    for routes, is_on, is_noted in (
        ('[[route]]\npriority = "LOW"\n', "True", True),
        ('[[route]]\nrun_types = ["backfill"]\ndags = ["other"]\nignore = true\n', "True", True),
        (ROUTES, "True", False),
        ('[[route]]\npriority = "LOW"\n', "False", False),
        (None, "True", False),
    ):
        configure(incident_on_failed_run=is_on, routes_path=str(routes_file(routes)) if routes else "")
        _, text = run_command("check", "--explain", "d")
        assert ("Its failed backfills raise incidents, too" in text) is is_noted


def test_explain_names_the_policy_and_its_default_for_backfills(run_command, configure, stored):
    """Without a routes file, a backfill raises no incident; a DAG that the options leave out is named."""
    stored["dags"]["d"] = {"tags": ["daily"], "owner": "a", "team": None, "roll_ups": {}}
    configure(incident_on_failed_run="True", exclude_dags="legacy_*")
    code, text = run_command("check", "--explain", "d", "--run-type", "backfill")
    assert code == 0
    assert "There is no routes file" in text
    assert "The policy raises an incident for each failed run of this DAG." in text
    assert "No incident: a backfill raises none by default, without routes." in text
    text = run_command("check", "--explain", "legacy_d")[1]
    assert "The policy raises none for this DAG" in text
    assert "Only a notifier of the DAG itself would raise one." in text
    stored["dags"]["d"]["has_notifier"] = True
    text = run_command("check", "--explain", "d")[1]
    assert "The policy raises none for this DAG: its own notifier raises one for each failed run." in text


def test_explain_names_silence_window_and_count(run_command, configure, stored, store):
    """It says until when, of which incident, and how many in a row; and it counts nothing, however often it is asked."""
    options = {"incident_on_failed_run": "True", "dedup_window_s": "3600"}
    stored["dags"]["d"] = {"tags": [], "owner": "a", "team": None, "roll_ups": {}}
    command = ("check", "--explain", "d", "--task", "load")
    configure(**options, consecutive_failures="3")
    for _ in range(3):
        assert "No incident: failure 1 of 3 in a row." in run_command(*command)[1]
    configure(**options, consecutive_failures="1")
    assert "an incident would be raised" in run_command(*command)[1]
    key = "bzctrl_default::d//load"
    repeats = Repeats(key=key, occurrence="d r", window_s=3600)
    write(Incident(identity="first", bzctrl_conn_id="bzctrl_default", fields={"title": "t"}, repeats=repeats))
    for _ in range(2):
        text = run_command(*command)[1]
        assert "No incident: the incident first is open for the same failure since 2" in text
    stored["variable"] = '[{"dags": "d", "until": "2126-12-01T06:00Z", "comment": "OPS-123"}]'
    text = run_command(*command)[1]
    assert "No incident: silenced until 2126-12-01 06:00:00 UTC (OPS-123)." in text
    with store.transaction() as tx:
        assert problems.find(tx, digest_of("window", key)).count == 1


def test_explain_with_a_faulty_file_shows_its_faults(run_command, routes_file, stored):
    """The exit code is 1, and the output is that of the defaults."""
    path = routes_file('[[route]]\npriority = "URGENT"\n')
    stored["dags"]["d"] = DAG
    code, text = run_command("check", "--explain", "d")
    assert code == 1
    assert f"{path} has faults, so the defaults are used:\n- route 1, priority: must be" in text
    assert run_command("check", "--explain", "d", "--json")[1]["ok"] is False
