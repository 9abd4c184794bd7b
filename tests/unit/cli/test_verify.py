from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import requests
from support.bzctrl import ACC, PASSWORD, TOKEN, USERNAME, new_client, sent_todos, set_connection

from bzctrl_provider.cli.verify import STATEMENTS, make_messages
from bzctrl_provider.client.config import ENVIRONMENTS
from bzctrl_provider.sandbox.contract import MESSAGES

PROD = ENVIRONMENTS["PROD"]
CONTRACT = Path(__file__).parents[3] / "docs" / "contract.md"

GRANTED = {"access_token": TOKEN, "refresh_token": "r3fresh", "token_type": "bearer", "expires_in": 3600}
REFUSED = {"error": "Bad Request", "message": "Order ID is mandatory"}


def answer_as_documented(requests_mock, endpoints=ACC, **deviations):
    """Answer all requests of the command as the page on the contract says, but for the deviations.

    :param deviations: for a request, by its name, its status and its body, or keys of the documented body with other values.
    """

    def respond(name, status, body, context):
        deviation = deviations.get(name, {})
        context.status_code, body = (
            deviation if isinstance(deviation, tuple) else (status, {**body, **deviation})
        )
        return body if isinstance(body, str) else json.dumps(body)

    def create(request, context):
        todo = request.json()
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            return respond("wrong_token", 401, {"error": "invalid_token"}, context)
        if "orderID" not in todo:
            return respond("no_order_id", 400, REFUSED, context)
        created = {
            "title": todo["title"],
            "taskType": todo["todoType"],
            "description": todo["description"],
            "taskLink": "https://acc.bzctrl.com/app/#/todo/EXA-03",
            "tags": [todo["orderID"], todo["lrn"]],
        }
        return respond(todo["todoType"].lower(), 200, created, context)

    requests_mock.post(endpoints.token_url, text=lambda _, context: respond("token", 200, GRANTED, context))
    requests_mock.post(endpoints.create_url, text=create)
    return requests_mock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def statuses(report):
    return {one["check"]: one["status"] for one in report["statements"]}


def test_verify_of_a_bzctrl_as_documented_holds_for_each_statement(connection, requests_mock, run_command):
    """One incident, one task, one todo without its order id and one with a wrong token are sent, and each statement holds."""
    answer_as_documented(requests_mock)
    code, report = run_command("verify", "--yes", "--json")
    assert (code, report["ok"]) == (0, True)
    assert statuses(report) == dict.fromkeys(STATEMENTS, "held")
    incident, task, incomplete, wrong = sent_todos(requests_mock)
    assert (incident["todoType"], task["todoType"], wrong) == ("INCIDENT", "TASK", incident)
    assert {**incomplete, "orderID": incident["orderID"]} == incident
    _, *authorizations = [one.headers.get("Authorization") for one in requests_mock.request_history]
    assert authorizations == [*[f"Bearer {TOKEN}"] * 3, "Bearer a-wrong-token"]


DEVIATIONS = [
    ("T1", {"token": (403, "no")}, "token: 403"),
    ("T1", {"token": {"access_token": None}}, "token: 200"),
    ("T2", {"token": {"token_type": "mac"}}, 'token: 200, token_type "mac"'),
    ("T3", {"token": {"expires_in": "3600"}}, 'token: 200, expires_in "3600"'),
    ("C1", {"incident": (400, {"message": "The category does not exist"})}, "incident: 400"),
    ("C1", {"task": (201, "created")}, "task: 201"),
    ("C2", {"task": {"title": "?"}}, 'task: 200, title "?"'),
    ("C3", {"task": {"taskType": "INCIDENT"}}, 'task: 200, taskType "INCIDENT"'),
    ("C4", {"incident": {"description": None}}, "incident: 200, description null"),
    ("C5", {"incident": {"taskLink": "/app/#/todo/EXA-03"}}, 'incident: 200, taskLink "/app/#/todo/EXA-03"'),
    ("C5", {"task": {"taskLink": "https://b.nl/4711"}}, 'task: 200, taskLink "https://b.nl/4711"'),
    ("C6", {"incident": {"tags": ["0725462"]}}, 'incident: 200, tags ["0725462"]'),
    ("E1", {"no_order_id": (200, {"title": "created"})}, "no-order-id: 200"),
    ("E1", {"no_order_id": (500, {"message": "Order ID is mandatory"})}, "no-order-id: 500"),
    ("E2", {"no_order_id": (422, {"message": "not valid"})}, "no-order-id: 422"),
    ("E3", {"wrong_token": (403, {})}, "wrong-token: 403"),
]


@pytest.mark.parametrize(("name", "deviations", "detail"), DEVIATIONS)
def test_verify_of_a_deviation_prints_the_statement_and_what_came(
    connection, requests_mock, run_command, name, deviations, detail
):
    """The line of the statement says that it differed, and the one below it what came instead; the exit code is 1."""
    answer_as_documented(requests_mock, **deviations)
    code, output = run_command("verify", "--yes")
    assert code == 1
    requests_of, _, text, _ = STATEMENTS[name]
    line = f"differed {name:<11} {', '.join(requests_of)}: {text}"
    assert f"{line}\n           - {detail}\n" in output


def test_deviation_exists_for_each_statement():
    """No statement holds whatever comes."""
    assert {name for name, _, _ in DEVIATIONS} == set(STATEMENTS)


def test_verify_without_a_token_creates_nothing(connection, requests_mock, run_command):
    """The statements about todos are skipped, and the first one says why."""
    answer_as_documented(requests_mock, token=(401, {"error": "invalid_grant"}))
    code, report = run_command("verify", "--yes", "--json")
    expected = {"T1": "differed"}
    assert (code, statuses(report)) == (1, dict.fromkeys(STATEMENTS, "skipped") | expected)
    assert report["facts"]["token"] == '401 {"error": "invalid_grant"}'
    assert sent_todos(requests_mock) == []


def test_verify_without_a_response_keeps_what_came_before(connection, requests_mock, run_command):
    """If a request has no response, the report has the error and the statements that were compared before."""
    answer_as_documented(requests_mock)
    requests_mock.post(ACC.create_url, exc=requests.exceptions.ReadTimeout("read timed out"))
    code, report = run_command("verify", "--yes", "--json")
    held = dict.fromkeys(("T1", "T2", "T3"), "held")
    assert (code, statuses(report)) == (1, dict.fromkeys(STATEMENTS, "skipped") | held)
    assert "was sent, but no whole response came" in report["facts"]["error"]
    assert len(sent_todos(requests_mock)) == 1


@pytest.mark.security
def test_verify_output_holds_no_secret(monkeypatch, requests_mock, run_command, caplog):
    """A BzCtrl that repeats password, tokens and e-mail addresses in each response finds none of them in the report."""
    people = {"reporter": "reporter@example.com", "assignee": "assignee@example.com"}
    set_connection(monkeypatch, extra=people)
    secrets = [PASSWORD, TOKEN, "r3fresh", USERNAME, *people.values()]
    repeated = " ".join(secrets)
    answer_as_documented(
        requests_mock,
        token={"token_type": f"{PASSWORD} {TOKEN} {USERNAME}", "scope": "r3fresh"},
        incident={"title": repeated.replace("r3fresh", "")},
        task={"tags": [TOKEN, PASSWORD], repeated.replace("r3fresh", ""): 1},
        no_order_id=(400, f"{PASSWORD} {TOKEN}"),
        wrong_token=(400, f"{PASSWORD} {TOKEN}"),
    )
    for arguments in ((), ("--json",)):
        code, report = run_command("verify", "--yes", *arguments)
        assert code == 1
        assert [secret for secret in secrets if secret in json.dumps(report) + caplog.text] == []


QUESTIONS = [
    # environment, arguments, what is typed (None: no terminal), whether something is sent, a part of the output
    ("ACC", "", None, False, "There is no terminal to ask at: add --yes."),
    ("ACC", "", "", False, "The answer was not yes."),
    ("ACC", "", "no\n", False, "The answer was not yes."),
    ("ACC", "", "yes\n", True, "held     E3"),
    ("ACC", "--yes", None, True, "held     E3"),
    (
        "PROD",
        "--yes",
        None,
        False,
        f"{PROD.create_url} is PROD: use a connection to ACC, or add --production.",
    ),
    ("PROD", "", "PROD\n", False, "is PROD"),
    ("PROD", "--production", None, False, "There is no terminal to ask at"),
    ("PROD", "--production", "yes\n", False, "The answer was not PROD."),
    ("PROD", "--production", "PROD\n", True, "held     E3"),
    ("PROD", "--production --yes", None, True, "held     E3"),
]


@pytest.mark.security
@pytest.mark.parametrize(("environment", "arguments", "typed", "is_sent", "part"), QUESTIONS)
def test_verify_sends_only_what_was_agreed_to(
    monkeypatch, requests_mock, run_command, capsys, environment, arguments, typed, is_sent, part
):
    """Without an answer or --yes nothing is sent, and to PROD only with --production besides."""
    set_connection(monkeypatch, extra={"environment": environment})
    endpoints = ENVIRONMENTS[environment]
    answer_as_documented(requests_mock, endpoints)
    monkeypatch.setattr("sys.stdin", io.StringIO() if typed is None else Terminal(typed))
    code, output = run_command("verify", *arguments.split())
    assert part in output
    assert (code, requests_mock.called) == ((0, True) if is_sent else (1, False))
    is_asked = endpoints.create_url in capsys.readouterr().err
    assert is_asked == (typed is not None and "is PROD" not in output)


def test_verify_with_an_incomplete_connection_sends_nothing(monkeypatch, requests_mock, run_command):
    """A connection that cannot be used, or lacks what the todos need, is named before anything is asked or sent."""
    for extra, missing in (({"environment": None}, "environment"), ({"domain_workspace": None}, "workspace")):
        set_connection(monkeypatch, extra=extra)
        code, report = run_command("verify", "--yes", "--json")
        assert (code, report["ok"], requests_mock.called) == (1, False, False)
        assert report["error"].startswith("Nothing was sent. ")
        assert missing in report["error"]


@pytest.mark.parametrize(("message_format", "method"), [("add-task", "POST"), ("predefined", "PUT")])
def test_messages_of_verify_have_every_field(message_format, method):
    """Incident and task have every key of the message format that the type of todo has, and the third one lacks only one."""
    defaults = {"domain_workspace": "EXA", "reporter": USERNAME}
    client = new_client(message_format=message_format, defaults=defaults)
    messages = make_messages(client)
    for name in ("incident", "task"):
        keys = {key for key, field in MESSAGES[method].items() if field.only in (None, name.upper())}
        assert set(messages[name]) == keys
    assert set(messages["incident"]) - set(messages["no-order-id"]) == {"orderID"}


def test_statements_of_verify_are_those_of_the_page():
    """The page on the contract has the number, the requests and the text of each statement, and no other one."""
    section = CONTRACT.read_text().partition("## What `bzctrl verify` compares")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z]\d+) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert rows == [
        (name, ", ".join(requests_of), text) for name, (requests_of, _, text, _) in STATEMENTS.items()
    ]
