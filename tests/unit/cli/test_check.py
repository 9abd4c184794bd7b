from __future__ import annotations

from datetime import UTC, datetime, timedelta

import airflow
import pytest
from support.bzctrl import ACC, PASSWORD, TOKEN, register_bzctrl, sent_todos, set_connection

from bzctrl_provider.cli import check
from bzctrl_provider.spool import spool_todo
from bzctrl_provider.spool.schedule import note_scheduled

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHECKS = ["airflow", "options", "connection", "token", "routes", "silences", "spool", "delivery"]
SILENCE = '[{"dags": "customs_*", "until": "2999-12-01T06:00Z"}, {"until": "2001-01-01T00:00Z"}]'
FIELDS = {"todo_type": "INCIDENT", "title": "T", "description": "D", "order_id": "1"}


def statuses(report):
    return {one["check"]: one["status"] for one in report["checks"]}


def finding(report, name):
    [found] = [one for one in report["checks"] if one["check"] == name]
    return found


def test_check_of_a_sound_deployment_is_ok_and_creates_nothing(
    connection, bzctrl, run_command, routes_file, stored, configure, folder
):
    """Each check prints one line with ok, the exit code is 0, and the only request is that for a token."""
    configure(priority="HIGH")
    routes_file('[[route]]\ndomain_workspace = "EXA"\n')
    stored["variable"] = SILENCE
    code, text = run_command("check")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()] == [["ok", name] for name in CHECKS]
    assert "changed: priority, routes_path, spool_path." in text
    assert "1 route." in text
    assert "1 active, 1 ended" in text
    assert "0 waiting, 0 rejected" in text
    assert not folder.exists()
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
    assert finding(report, "connection")["facts"]["conn_id"] == "bzctrl_other"
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
    assert list(statuses(refused[1][1])) == CHECKS
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

    monkeypatch.setattr(check, "read_server_variable", fail)
    code, report = run_command("check", "--json")
    assert code == 1
    assert finding(report, "silences")["message"] == "RuntimeError: the database is down"
    assert list(statuses(report)) == CHECKS


def test_check_spool_with_an_entry_depends_on_its_age(folder):
    """An entry waits for the next delivery; one that waits for more than an hour is a fault with the remedy."""
    spool_todo(FIELDS, bzctrl_conn_id="a", reason="down", now=NOW)
    for age, status, shown in (
        (timedelta(minutes=5), "ok", "5 min"),
        (timedelta(hours=2), "fault", "2 h"),
    ):
        found = check.check_spool(NOW + age)
        assert found.status == status
        assert f"1 waiting (the oldest for {shown}), 0 rejected" in found.message
        assert found.facts["oldest_s"] == age.total_seconds()
        assert bool(found.details) is (status == "fault")
    assert len(list(folder.iterdir())) == 1


def test_check_spool_with_rejected_and_unusable_entries_is_a_fault(folder):
    """Files that nobody will ever send are a fault."""
    (folder / "rejected").mkdir(parents=True)
    (folder / "rejected" / "a.json").write_text("{")
    (folder / "b.json").write_text("{")
    found = check.check_spool(NOW)
    assert found.status == "fault"
    assert "0 waiting, 1 rejected, 1 unusable" in found.message
    assert len(found.details) == 2


def test_check_spool_that_cannot_be_used_is_a_fault(configure, tmp_path):
    """A file in the place of the folder and a relative path are found, with the remedy."""
    (tmp_path / "file").write_text("")
    for path, reason, remedy in (
        (str(tmp_path / "file"), "ot a directory", "Make it a folder"),
        (str(tmp_path / "file/below"), "ot a directory", "Make it a folder"),
        ("spool", "not an absolute path", "set spool_path"),
    ):
        configure(spool_path=path)
        found = check._guard("spool", lambda: check.check_spool(NOW))
        assert found.status == "fault"
        assert reason in found.message
        assert remedy in found.message


def test_check_delivery_warns_if_import_errors_have_no_delivery_dag(
    connection, bzctrl, run_command, configure, folder
):
    """Incidents about broken DAG files need a delivery; a warning has the remedy, and is no fault, because cron is not seen."""
    folder.mkdir()
    for is_on, status, part in (
        ("False", "ok", "is off"),
        ("True", "warning", "run `bzctrl spool deliver` each minute by cron"),
    ):
        configure(incident_on_import_error=is_on)
        code, report = run_command("check", "--json")
        assert (code, report["ok"]) == (0, True)
        found = finding(report, "delivery")
        assert found["status"] == status
        assert part in found["message"]
    note_scheduled()
    _, report = run_command("check", "--json")
    assert finding(report, "delivery")["status"] == "ok"
    assert finding(report, "delivery")["facts"] == {"needed": True, "scheduled": True}


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
        assert found.facts == {"version": airflow.__version__}
