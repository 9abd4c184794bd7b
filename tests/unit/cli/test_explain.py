from __future__ import annotations

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
DAG = {"tags": ["daily", "impact/tier_1"], "owner": "customs-nl, finance", "team": None}


def test_explain_takes_the_facts_of_the_dag_from_airflow(run_command, routes_file, stored):
    """Each field is there with the number of its route; without a task, a matcher of tasks does not match."""
    path = routes_file(ROUTES)
    stored["dags"]["customs_daily"] = DAG
    code, text = run_command("check", "--explain", "customs_daily")
    assert code == 0
    assert text.splitlines() == [
        "DAG: customs_daily; tags: daily, impact/tier_1; owners: customs-nl, finance; run type: scheduled",
        f"{path}: for each field, the first route that fits and sets it gives the value.",
        "priority = 'HIGH' from route 2",
        "domain_workspace = 'EXA-CON-BUS-WOR' from route 4",
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
    assert report["fields"] == {
        "ignore": {"value": True, "route": 1},
        "priority": {"value": "HIGH", "route": 2},
        "domain_workspace": {"value": "EXA-CUS-TOM-SHQ", "route": 3},
    }
    assert report["facts"]["tasks"] == ["check_totals"]


def test_explain_of_an_unknown_dag_uses_the_facts_given_by_hand(run_command, routes_file):
    """Without the DAG in the database, --tag and --owner are used, and a note says so."""
    routes_file(ROUTES)
    code, report = run_command(
        "check", "--explain", "new", "--tag", "impact/tier_1", "--owner", "a", "--owner", "b", "--json"
    )
    assert code == 0
    assert report["facts"]["owners"] == ["a", "b"]
    assert report["fields"]["priority"]["route"] == 2
    assert "has no such DAG" in report["notes"][0]


def test_explain_given_facts_win_over_the_database(run_command, routes_file, stored):
    """A change of tags can be tried before it is made."""
    routes_file(ROUTES)
    stored["dags"]["d"] = DAG
    _, report = run_command("check", "--explain", "d", "--tag", "other", "--team", "t", "--json")
    assert report["fields"]["priority"]["route"] == 4
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


def test_explain_without_a_routes_file_shows_the_default_of_the_policy(run_command, stored):
    """A backfill raises no incident by default."""
    stored["dags"]["d"] = DAG
    code, text = run_command("check", "--explain", "d", "--run-type", "backfill")
    assert code == 0
    assert "There is no routes file" in text
    assert "ignore = True from the default without routes" in text


def test_explain_with_a_faulty_file_shows_its_faults(run_command, routes_file, stored):
    """The exit code is 1, and the output is that of the defaults."""
    path = routes_file('[[route]]\npriority = "URGENT"\n')
    stored["dags"]["d"] = DAG
    code, text = run_command("check", "--explain", "d")
    assert code == 1
    assert f"{path} has faults, so the defaults are used:\n- route 1, priority: must be" in text
    assert run_command("check", "--explain", "d", "--json")[1]["ok"] is False
