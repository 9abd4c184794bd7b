from __future__ import annotations

import airflow
import pytest
from support.bzctrl import ACC, PASSWORD, TOKEN, register_bzctrl, sent_todos, set_connection
from support.store import STATES, add, begin_delivery, read

from bzctrl_provider.cli import check
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.failed_runs import FailedRun

CHECKS = [
    "airflow",
    "options",
    "connection",
    "token",
    "routes",
    "silences",
    "outbox",
    "delivery",
    "failed_runs",
]
SILENCE = '[{"dags": "customs_*", "until": "2999-12-01T06:00Z"}, {"until": "2001-01-01T00:00Z"}]'


def statuses(report):
    return {one["check"]: one["status"] for one in report["checks"]}


def finding(report, name):
    [found] = [one for one in report["checks"] if one["check"] == name]
    return found


def test_check_of_a_sound_deployment_is_ok_and_creates_nothing(
    connection, bzctrl, run_command, routes_file, stored, configure, store
):
    """Each check prints one line with ok, the exit code is 0, and the only request is that for a token."""
    configure(priority="HIGH")
    routes_file('[[route]]\ndomain_workspace = "EXA"\n')
    stored["variable"] = SILENCE
    code, text = run_command("check")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["ok", name] for name in ("database", *CHECKS)
    ]
    assert "changed: priority, routes_path, database." in text
    assert "1 route." in text
    assert "1 active, 1 ended" in text
    assert "0 waiting, 0 rejected" in text
    assert read(store, *STATES) == []
    assert [request.url for request in bzctrl.request_history] == [ACC.token_url]
    assert sent_todos(bzctrl) == []


def test_check_without_options_says_what_is_not_set(connection, bzctrl, run_command):
    """Without routes and silences there is no fault."""
    code, report = run_command("check", "--json")
    assert (code, report["ok"]) == (0, True)
    assert set(statuses(report).values()) == {"ok"}
    assert "There is no routes file" in finding(report, "routes")["message"]
    assert "has no silences" in finding(report, "silences")["message"]


def test_check_of_an_invalid_connection_names_all_faults_and_requests_no_token(
    monkeypatch, requests_mock, run_command
):
    """All faults of the connection are there at once with their remedies, and the token is skipped."""
    set_connection(monkeypatch, login=None, extra={"environment": "TEST", "timeout_s": -1})
    code, report = run_command("check", "--json")
    assert (code, report["ok"]) == (1, False)
    found = finding(report, "connection")
    assert found["status"] == "fault"
    assert [detail.partition(":")[0] for detail in found["details"]] == [
        "extra.environment",
        "extra.timeout_s",
        "login",
    ]
    assert statuses(report)["token"] == "skipped"
    assert requests_mock.request_history == []


def test_check_says_what_the_connection_does_not_supply(monkeypatch, requests_mock, run_command):
    """It is no fault, because todos may have both, but those of the policy usually have neither."""
    register_bzctrl(requests_mock)
    for login, extra, lacks in (
        ("airflow@example.com", {}, []),
        ("api-user", {}, ["reporter"]),
        ("airflow@example.com", {"domain_workspace": None}, ["domain_workspace"]),
        ("api-user", {"domain_workspace": None}, ["domain_workspace", "reporter"]),
    ):
        set_connection(monkeypatch, login=login, extra=extra)
        code, report = run_command("check", "--json")
        assert code == 0
        details = finding(report, "connection")["details"]
        assert [detail.split()[3].rstrip(":") for detail in details] == lacks


def test_check_uses_the_connection_of_the_argument_or_of_the_options(
    monkeypatch, requests_mock, run_command, configure
):
    """Without --conn-id the connection is that of conn_id; for a missing one, the message has the remedy."""
    register_bzctrl(requests_mock)
    set_connection(monkeypatch, "bzctrl_other")
    configure(conn_id="bzctrl_other")
    code, report = run_command("check", "--json")
    assert code == 0
    assert finding(report, "connection")["message"].startswith("bzctrl_other is valid")
    code, text = run_command("check", "--conn-id", "elsewhere")
    assert code == 1
    assert "Airflow has no connection 'elsewhere' here. Create it" in text


@pytest.mark.security
def test_check_output_holds_no_secret(connection, requests_mock, run_command, caplog):
    """Neither the password nor the token is in the output or the log, also if BzCtrl repeats the password."""
    caplog.set_level("DEBUG")
    register_bzctrl(requests_mock)
    outputs = [run_command("check", *json)[1] for json in ([], ["--json"])]
    requests_mock.post(ACC.token_url, status_code=401, text=f"bad password {PASSWORD} {TOKEN}")
    refused = [run_command("check", *json) for json in ([], ["--json"])]
    assert TOKEN not in f"{outputs}"
    assert PASSWORD not in f"{outputs}{refused}{caplog.text}"
    assert [code for code, _ in refused] == [1, 1]
    assert list(statuses(refused[1][1])) == ["database", *CHECKS]
    assert statuses(refused[1][1])["token"] == "fault"


def test_check_with_invalid_options_names_each(connection, bzctrl, run_command, configure):
    """An invalid and an unknown option are one fault with two details."""
    configure(priority="urgent", dedup_windows="1")
    code, report = run_command("check", "--json")
    assert code == 1
    found = finding(report, "options")
    assert found["status"] == "fault"
    assert len(found["details"]) == 2
    assert "did you mean dedup_window_s?" in "".join(found["details"])


def test_check_with_a_faulty_routes_file_names_each_fault(connection, bzctrl, run_command, routes_file):
    """All faults of the file are there with route and key; a field behind a route without a matcher is no fault."""
    routes_file('[[route]]\npriority = "URGENT"\n[[route]]\ntag = ["a"]\nignore = true\n')
    code, text = run_command("check")
    assert code == 1
    assert "fault    routes" in text
    assert "- route 1, priority: must be" in text
    assert "- route 2, tag: is unknown: did you mean tags?" in text
    routes_file('[[route]]\npriority = "HIGH"\n[[route]]\ntags = ["a"]\npriority = "LOW"\n')
    code, text = run_command("check")
    assert code == 0
    assert "- route 2, priority: never has an effect" in text


def test_check_with_unreadable_silences_is_a_fault(connection, bzctrl, run_command, stored, monkeypatch):
    """A Variable that silences nothing is a fault; if it cannot be read, the checks after it are made all the same."""
    for variable in ("{", '{"dags": "a"}', '[{"dags": "a"}]', {"dags": "a"}):
        stored["variable"] = variable
        code, report = run_command("check", "--json")
        assert code == 1
        assert statuses(report)["silences"] == "fault"
        assert finding(report, "silences")["details"]

    def fail(name):
        raise RuntimeError("the database is down")

    monkeypatch.setattr("bzctrl_provider.cli.explain.read_server_variable", fail)
    code, report = run_command("check", "--json")
    assert code == 1
    assert finding(report, "silences")["message"] == "RuntimeError: the database is down"
    assert list(statuses(report)) == ["database", *CHECKS]


def test_check_without_airflows_database_says_so_first(
    monkeypatch, requests_mock, run_command, stored, configure
):
    """It is a fault with the remedy, and what it may have is skipped; a warning if the connection is found elsewhere."""
    stored |= {
        "error": "Airflow's database cannot be read: x. Run `airflow db migrate`.",
        "hosts": ["a", "b"],
    }
    register_bzctrl(requests_mock)
    code, text = run_command("check")
    assert code == 1
    assert text.startswith(
        "fault    database    Airflow's database cannot be read: x. Run `airflow db migrate`.\n"
    )
    _, report = run_command("check", "--json")
    skipped = [name for name, status in statuses(report).items() if status == "skipped"]
    assert skipped == ["connection", "token", "silences"]
    assert "create" not in text.lower().partition("connection")[2]
    assert statuses(report)["outbox"] == "ok"
    set_connection(monkeypatch)
    stored["variable"] = SILENCE
    code, report = run_command("check", "--json")
    assert (code, [one["status"] for one in report["checks"]]) == (0, ["warning", *["ok"] * len(CHECKS)])


MINUTE, HOUR = 60, 3600
NO_DELIVERY = "Create and unpause the delivery DAG, or run `bzctrl outbox deliver` each minute by cron"
TOO_LONG = "`bzctrl outbox list` has the reasons, and `bzctrl outbox deliver` sends all now"


def test_check_outbox_says_why_something_waits(connection, bzctrl, run_command, store):
    """Waiting for the next delivery is no fault; without one for 5 minutes, or longer than an hour, it is."""
    add(store, "i1", age_s=4 * MINUTE)
    for age_s, ago_s, shown, part in (
        (4 * MINUTE, None, "1 waiting (the oldest for 4 min), 0 rejected", None),
        (9 * MINUTE, None, "2 waiting (the oldest for 9 min)", "Z, and no delivery has run. " + NO_DELIVERY),
        (10 * MINUTE, 9 * MINUTE, "3 waiting", "Z, and no delivery has run for 9 min. " + NO_DELIVERY),
        (59 * MINUTE, 2 * MINUTE, "4 waiting (the oldest for 59 min)", None),
        (2 * HOUR, 1 * MINUTE, "5 waiting (the oldest for 2 h)", TOO_LONG),
    ):
        number = len(read(store))
        if age_s > 4 * MINUTE:
            add(store, f"i{number + 1}", age_s=age_s)
            number += 1
        if ago_s is not None:
            begin_delivery(store, ago_s=ago_s)
        code, report = run_command("check", "--json")
        found = finding(report, "outbox")
        assert (code, found["status"]) == ((0, "ok") if part is None else (1, "fault"))
        assert shown in found["message"]
        assert found["facts"]["waiting"] == number
        assert abs(found["facts"]["oldest_s"] - age_s) < 5
        if part is not None:
            (detail,) = found["details"]
            assert detail.startswith(f"{number} wait since 2")
            assert part in detail
    assert len(read(store)) == 5


def test_check_outbox_with_rejected_incidents_is_a_fault(connection, bzctrl, run_command, store):
    """Incidents that nobody will ever send are a fault with the remedy; delivered ones are none."""
    add(store, "i1", state="delivered")
    assert run_command("check")[0] == 0
    add(store, "i2", state="rejected", reason="priority: must be HIGH")
    code, text = run_command("check")
    assert code == 1
    assert "fault    outbox" in text
    assert "0 waiting, 1 rejected." in text
    assert "- Rejected incidents are never sent: `bzctrl outbox list` has the reasons." in text


def test_check_outbox_in_a_file_for_several_machines_is_a_fault(
    connection, bzctrl, run_command, store, stored, monkeypatch
):
    """Hosts of running components, or the executor, show that a file is not enough; the detail has the line to set."""
    for hosts, executor, part in (
        ([], "LocalExecutor", None),
        (["host-a"], "LocalExecutor", None),
        (["host-a", "host-b"], "LocalExecutor", "components run on 2 hosts (host-a, host-b)"),
        ([], "LocalExecutor,team:CeleryExecutor", "the executor CeleryExecutor runs tasks on other machines"),
        (["host-a"], "airflow.providers.cncf.kubernetes.executors.KubernetesExecutor", "the executor Kubern"),
    ):
        stored["hosts"] = hosts
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        _, report = run_command("check", "--json")
        found = finding(report, "outbox")
        assert found["status"] == ("ok" if part is None else "fault")
        if part is not None:
            (detail,) = found["details"]
            assert part in detail
            assert "set database in the section [bzctrl] of Airflow's configuration to the URL of" in detail
            assert "postgresql+psycopg2://user:password@host/bzctrl" in detail
    monkeypatch.setattr(type(store), "is_file", False)
    _, report = run_command("check", "--json")
    assert finding(report, "outbox")["status"] == "ok"


@pytest.mark.security
def test_check_output_holds_no_password_of_the_database(connection, bzctrl, run_command, configure, caplog):
    """A database that cannot be used is a fault with its host and the remedy; the password of its URL is nowhere."""
    caplog.set_level("DEBUG")
    for url, part in (
        (
            "postgresql+psycopg2://bzctrl:hunter2-and@127.0.0.1:1/store",
            "The store postgresql://127.0.0.1:1/store cannot",
        ),
        (
            "nonsense+driver://bzctrl:hunter2-and@host/store",
            "The driver of the store's database is not installed",
        ),
        ("hunter2-and@host", "The URL of the store cannot be parsed"),
        ("sqlite:////proc/hunter.db", "The store /proc/hunter.db cannot be used"),
    ):
        configure(database=url)
        for json in ([], ["--json"]):
            code, output = run_command("check", *json)
            assert code == 1
            assert "hunter2" not in f"{output}{caplog.text}"
        assert statuses(output)["outbox"] == "fault"
        assert finding(output, "outbox")["message"].startswith(part)
        assert "orrect the option database in the section [bzctrl]" in finding(output, "outbox")["message"]


def test_check_delivery_warns_if_import_errors_have_no_delivery_dag(
    connection, bzctrl, run_command, configure, store
):
    """Incidents about broken DAG files need a delivery; a warning has the remedy, and is no fault, because cron is not seen."""
    for is_on, status, part in (
        ("False", "ok", "is off"),
        ("True", "warning", "run `bzctrl outbox deliver` each minute by cron"),
    ):
        configure(incident_on_import_error=is_on)
        code, report = run_command("check", "--json")
        assert (code, report["ok"]) == (0, True)
        found = finding(report, "delivery")
        assert found["status"] == status
        assert part in found["message"]
    begin_delivery(store, scheduled=True)
    _, report = run_command("check", "--json")
    assert finding(report, "delivery")["status"] == "ok"


def test_check_airflow_depends_on_its_version(monkeypatch):
    """A version before 2.11 is a fault, one after the newest that was tested is named."""
    for version, status, message in (
        ((2, 10), "fault", "install 2.11 or newer"),
        ((3, 3), "ok", "is supported (2.11 to 3.3)"),
        ((3, 9), "ok", "is newer than 3.3"),
    ):
        monkeypatch.setattr(check, "airflow_version", lambda version=version: version)
        found = check.check_airflow()
        assert (found.status, message in found.message) == (status, True)
        assert airflow.__version__ in found.message


def test_check_failed_runs_needs_the_listener_and_deliveries(
    connection, bzctrl, run_command, store, configure
):
    """With the policy, each of them is a fault if it was not at work in the last 5 minutes; without it, none is."""
    assert finding(run_command("check", "--json")[1], "failed_runs")["status"] == "ok"
    configure(incident_on_failed_run="True")
    no_plugin, no_delivery = "No scheduler has loaded the provider's plugin", "No delivery has run"
    for ago_s, expected in (
        ({}, [f"{no_plugin}: ", f"{no_delivery}: "]),
        ({"scheduler": 60}, [f"{no_delivery}: "]),
        ({"scheduler": 60, "delivery": 60}, []),
        ({"scheduler": 600, "delivery": 60}, [f"{no_plugin} for 10 min: "]),
        ({"scheduler": 60, "delivery": 1200}, [f"{no_delivery} for 20 min: "]),
    ):
        with store.transaction() as tx:
            for part, seconds in ago_s.items():
                failed_runs.note_heartbeat(tx._replace(now=tx.now - seconds), part)
        code, report = run_command("check", "--json")
        found = finding(report, "failed_runs")
        assert (code, found["status"]) == ((1, "fault") if expected else (0, "ok"))
        assert [
            detail[: len(start)] for detail, start in zip(found["details"], expected, strict=True)
        ] == expected


def test_check_failed_runs_shows_how_many_wait(connection, bzctrl, run_command, store, configure):
    """Those that no delivery has decided about, and for how long."""
    configure(incident_on_failed_run="True")
    with store.transaction() as tx:
        failed_runs.add(tx._replace(now=tx.now - 600), FailedRun(dag_id="customs", run_id="r"))
    found = finding(run_command("check", "--json")[1], "failed_runs")
    assert found["message"].endswith("; 1 failed run waits for a delivery (the oldest for 10 min).")
