from __future__ import annotations

from datetime import UTC, datetime, timedelta

import airflow
import pytest
from support.bzctrl import ACC, PASSWORD, TOKEN, register_bzctrl, sent_todos, set_connection

from bzctrl_provider.cli import check
from bzctrl_provider.spool import spool_todo

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHECKS = ["airflow", "options", "connection", "token", "routes", "silences", "spool"]
SILENCE = '[{"dags": "customs_*", "until": "2999-12-01T06:00Z"}, {"until": "2001-01-01T00:00Z"}]'
FIELDS = {"todo_type": "INCIDENT", "title": "T", "description": "D", "order_id": "1"}


def statuses(report):
    return {one["check"]: one["status"] for one in report["checks"]}


def finding(report, name):
    [found] = [one for one in report["checks"] if one["check"] == name]
    return found


def test_check_of_a_sound_deployment_is_ok_and_creates_nothing(
    connection, bzctrl, run_command, routes_file, stored, configure, tmp_path
):
    """Each check prints one line with ok, the exit code is 0, and the only request is that for a token."""
    configure(spool_path=str(tmp_path / "spool"), priority="HIGH")
    routes_file('[[route]]\ndomain_workspace = "EXA"\n')
    stored["variable"] = SILENCE
    code, text = run_command("check")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()] == [["ok", name] for name in CHECKS]
    assert "changed: priority, routes_path, spool_path." in text
    assert "1 route." in text
    assert "1 active, 1 ended" in text
    assert "0 waiting, 0 rejected" in text
    assert not (tmp_path / "spool").exists()
    assert [request.url for request in bzctrl.request_history] == [ACC.token_url]
    assert sent_todos(bzctrl) == []


def test_check_without_options_says_what_is_not_set(connection, bzctrl, run_command):
    """Without routes, silences and a spool there is no fault."""
    code, report = run_command("check", "--json")
    assert code == 0
    assert report["ok"] is True
    assert set(statuses(report).values()) == {"ok"}
    assert "There is no routes file" in finding(report, "routes")["message"]
    assert "is off" in finding(report, "spool")["message"]


def test_check_of_an_invalid_connection_names_all_faults_and_requests_no_token(
    monkeypatch, requests_mock, run_command
):
    """All faults of the connection are there at once with their remedies, and the token is skipped."""
    set_connection(monkeypatch, login=None, extra={"environment": "TEST", "timeout_s": -1})
    code, report = run_command("check", "--json")
    assert code == 1
    assert report["ok"] is False
    found = finding(report, "connection")
    assert found["status"] == "fault"
    assert [detail.partition(":")[0] for detail in found["details"]] == [
        "extra.environment",
        "extra.timeout_s",
        "login",
    ]
    assert statuses(report)["token"] == "skipped"
    assert requests_mock.request_history == []


@pytest.mark.parametrize(
    ("login", "extra", "lacks"),
    [
        ("airflow@example.com", {}, []),
        ("api-user", {}, ["reporter"]),
        ("airflow@example.com", {"domain_workspace": None}, ["domain_workspace"]),
        ("api-user", {"domain_workspace": None}, ["domain_workspace", "reporter"]),
    ],
)
def test_check_says_what_the_connection_does_not_supply(
    monkeypatch, requests_mock, run_command, login, extra, lacks
):
    """It is no fault, because todos may have both, but those of the policy usually have neither."""
    register_bzctrl(requests_mock)
    set_connection(monkeypatch, login=login, extra=extra)
    code, report = run_command("check", "--json")
    assert code == 0
    assert [detail.split()[3].rstrip(":") for detail in finding(report, "connection")["details"]] == lacks


def test_check_of_a_missing_connection_says_how_to_create_it(run_command):
    """The id of the option or of --conn-id is looked up, and the message has the remedy."""
    code, text = run_command("check", "--conn-id", "elsewhere")
    assert code == 1
    assert "Airflow has no connection 'elsewhere' here. Create it" in text


def test_check_uses_the_connection_of_the_options(monkeypatch, requests_mock, run_command, configure):
    """Without --conn-id the connection is that of conn_id in the section [bzctrl]."""
    register_bzctrl(requests_mock)
    set_connection(monkeypatch, "bzctrl_other")
    configure(conn_id="bzctrl_other", spool_path="off")
    code, report = run_command("check", "--json")
    assert code == 0
    assert finding(report, "connection")["facts"]["conn_id"] == "bzctrl_other"


def test_check_with_refused_credentials_shows_the_refusal(connection, requests_mock, run_command):
    """A refused password is a fault of the token, and the checks after it are made."""
    requests_mock.post(ACC.token_url, status_code=401, text=f"bad password {PASSWORD}")
    code, report = run_command("check", "--json")
    assert code == 1
    assert statuses(report)["token"] == "fault"
    assert list(statuses(report)) == CHECKS


@pytest.mark.security
@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("status_code", [200, 401])
def test_check_output_holds_no_secret(connection, requests_mock, run_command, caplog, json, status_code):
    """Neither the password nor the token is in the output or the log, also if BzCtrl repeats the password."""
    register_bzctrl(requests_mock)
    if status_code != 200:
        requests_mock.post(ACC.token_url, status_code=status_code, text=f"{PASSWORD} {TOKEN}")
    caplog.set_level("DEBUG")
    _, output = run_command("check", *(["--json"] if json else []))
    assert len(requests_mock.request_history) == 1
    for text in (str(output), caplog.text):
        assert PASSWORD not in text
    assert status_code != 200 or TOKEN not in f"{output}{caplog.text}"


def test_check_with_invalid_options_names_each(connection, bzctrl, run_command, configure):
    """An invalid and an unknown option are one fault with two details."""
    configure(priority="urgent", dedup_windows="1", spool_path="off")
    code, report = run_command("check", "--json")
    assert code == 1
    found = finding(report, "options")
    assert found["status"] == "fault"
    assert len(found["details"]) == 2
    assert "did you mean dedup_window_s?" in "".join(found["details"])


def test_check_with_a_faulty_routes_file_names_each_line(connection, bzctrl, run_command, routes_file):
    """All faults of the file are there with their lines."""
    routes_file('[[route]]\npriority = "URGENT"\n[[route]]\ntag = ["a"]\nignore = true\n')
    code, text = run_command("check")
    assert code == 1
    assert "fault    routes" in text
    assert "- line 2: priority" in text
    assert "- line 4: tag is unknown: did you mean tags?" in text


def test_check_with_a_field_without_effect_is_ok_and_says_so(connection, bzctrl, run_command, routes_file):
    """A field behind a route without a matcher is no fault."""
    routes_file('[[route]]\npriority = "HIGH"\n[[route]]\ntags = ["a"]\npriority = "LOW"\n')
    code, text = run_command("check")
    assert code == 0
    assert "line 5: priority never has an effect" in text


@pytest.mark.parametrize("variable", ["{", '{"dags": "a"}', '[{"dags": "a"}]', {"dags": "a"}])
def test_check_with_unreadable_silences_is_a_fault(connection, bzctrl, run_command, stored, variable):
    """A Variable that silences nothing is a fault."""
    stored["variable"] = variable
    code, report = run_command("check", "--json")
    assert code == 1
    assert statuses(report)["silences"] == "fault"
    assert finding(report, "silences")["details"]


def test_check_with_an_unexpected_error_goes_on(connection, bzctrl, run_command, monkeypatch):
    """A check that raises is a fault with the error, and the checks after it are made."""

    def fail(name):
        raise RuntimeError("the database is down")

    monkeypatch.setattr(check, "read_server_variable", fail)
    code, report = run_command("check", "--json")
    assert code == 1
    assert finding(report, "silences")["message"] == "RuntimeError: the database is down"
    assert list(statuses(report)) == CHECKS


@pytest.mark.parametrize(
    ("age", "status", "message"),
    [
        (timedelta(minutes=5), "ok", "1 waiting (the oldest for 5 min), 0 rejected"),
        (timedelta(hours=2), "fault", "1 waiting (the oldest for 2 h), 0 rejected"),
    ],
)
def test_check_spool_with_an_entry_depends_on_its_age(configure, tmp_path, age, status, message):
    """An entry waits for the next delivery; one that waits for more than an hour is a fault with the remedy."""
    configure(spool_path=str(tmp_path))
    spool_todo(FIELDS, bzctrl_conn_id="a", reason="down", now=NOW - age)
    found = check.check_spool(NOW)
    assert found.status == status
    assert message in found.message
    assert found.facts["oldest_s"] == age.total_seconds()
    assert len(list(tmp_path.iterdir())) == 1
    assert bool(found.details) is (status == "fault")


def test_check_spool_with_rejected_and_unusable_entries_is_a_fault(configure, tmp_path):
    """Files that nobody will ever send are a fault."""
    configure(spool_path=str(tmp_path))
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("{")
    found = check.check_spool(NOW)
    assert found.status == "fault"
    assert "0 waiting, 1 rejected, 1 unusable" in found.message
    assert len(found.details) == 2


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_check_spool_that_cannot_be_written_is_a_fault(configure, tmp_path, path, monkeypatch):
    """A file in the place of the folder is found, with the remedy."""
    (tmp_path / "file").write_text("")
    configure(spool_path=str(tmp_path / path))
    found = check._guard("spool", lambda: check.check_spool(NOW))
    assert found.status == "fault"
    text = " ".join([found.message, *found.details])
    assert "ot a directory" in text
    assert "Make it a folder" in text
    assert "correct spool_path" in text


def test_check_spool_with_a_relative_path_is_a_fault(configure):
    """The message says that the path must be absolute."""
    configure(spool_path="spool")
    found = check._guard("spool", lambda: check.check_spool(NOW))
    assert (found.status, "not an absolute path" in found.message) == ("fault", True)


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ((2, 10), "fault", "install 2.11 or newer"),
        ((3, 3), "ok", "is supported"),
        ((3, 9), "ok", "is newer than 3.3"),
    ],
)
def test_check_airflow_depends_on_its_version(monkeypatch, version, status, message):
    """A version before 2.11 is a fault, one after the newest that was tested is named."""
    monkeypatch.setattr(check, "airflow_version", lambda: version)
    found = check.check_airflow()
    assert (found.status, message in found.message) == (status, True)
    assert found.facts == {"version": airflow.__version__}
