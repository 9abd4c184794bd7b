"""The command ``bzctrl verify``: compare a BzCtrl with the statements of the page on the contract."""

from __future__ import annotations

import re
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import airflow
from airflow.providers.common.compat.sdk import mask_secret
from pydantic import SecretStr

import bzctrl_provider
from bzctrl_provider.cli.check import Finding, Status, describe_error, fail, show
from bzctrl_provider.client.response import Answer, parse_token, refuses_token
from bzctrl_provider.client.todo import FIELDS, TODO_TYPES, Message
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlTransportError
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.settings import settings
from bzctrl_provider.text import json_line, web_address

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TextIO

    from bzctrl_provider.client.api import BzCtrlClient

_VALUES: Mapping[str, Any] = {
    "title": "bzctrl verify: a test, please close (é, €, 検査)",
    "description": "Created by `bzctrl verify`.\nNothing has failed.",
    "result": "None",
    "financial_impact": "1234.5",
    **dict.fromkeys(("impact", "likelihood", "priority"), "LOW"),
    "category": ["Customs"],
    "sub_category": ["IT"],
    "order_id": "ORDER 777",
    "lrn": "0725462",
    "reminder_date": "2099-12-31",
}
"""Those of the documents' sample where a value may have to exist; the connection has the workspace and the persons."""

_TAGS = [_VALUES["order_id"], _VALUES["lrn"]]

_SHOWN_OF_TOKEN = ("token_type", "expires_in", "error", "error_description")
"""Any other value of a token response may be a token."""

_ORDER_ID = re.compile(rb"(?i)order[ _-]?id")


def _find_token(answer: Answer) -> SecretStr | None:
    try:
        return parse_token(answer)[0]
    except BzCtrlError:
        return None


def _content(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of a 2xx response, otherwise an empty one."""
    return (answer.json_object() or {}) if answer.status in range(200, 300) else {}


def _is_link(link: object, sent: Message) -> bool:
    workspace = str(sent.get("domainWorkSpace") or sent.get("domain"))
    last = unquote(str(link).rpartition("/")[2])
    return bool(web_address(link) and re.fullmatch(rf"{re.escape(workspace)}-\d+", last))


def _is_refused(answer: Answer) -> bool:
    # Those that the client reports as a refusal of the todo.
    return answer.status in {*range(400, 500)} - {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}


_TOKEN, _TODOS, _INCOMPLETE, _WRONG = ("token",), ("incident", "task"), ("no-order-id",), ("wrong-token",)

STATEMENTS: Mapping[str, tuple[tuple[str, ...], str, str, Callable[[Any, Message], object]]] = {
    "T1": (_TOKEN, "", "2xx and JSON with a usable `access_token`", lambda got, _: _find_token(got)),
    "T2": (_TOKEN, "token_type", "`token_type` is `Bearer`", lambda got, _: str(got).lower() == "bearer"),
    "T3": (_TOKEN, "expires_in", "`expires_in` is a number", lambda got, _: type(got) in (int, float)),
    "C1": (_TODOS, "", "with every field: 2xx and a JSON object", lambda got, _: _content(got)),
    "C2": (_TODOS, "title", "`title` as sent", lambda got, sent: got == sent["title"]),
    "C3": (_TODOS, "taskType", "`taskType` as `todoType` sent", lambda got, sent: got == sent["todoType"]),
    "C4": (_TODOS, "description", "`description` as sent", lambda got, sent: got == sent["description"]),
    "C5": (_TODOS, "taskLink", "`taskLink` is an address that ends with workspace, `-`, number", _is_link),
    "C6": (_TODOS, "tags", "`tags` are the order id and the LRN", lambda got, _: got == _TAGS),
    "E1": (_INCOMPLETE, "", "refused with 4xx, not 401 or 429", lambda got, _: _is_refused(got)),
    "E2": (_INCOMPLETE, "", "the refusal names the field", lambda got, _: _ORDER_ID.search(got.body)),
    "E3": (_WRONG, "", "refused with 401, or 400 and `invalid_token`", lambda got, _: refuses_token(got)),
}
"""The statements of the page that a response can confirm: for which requests; about which key of the JSON object, empty for
the whole response; the text, which a test compares with the page; and whether the value of the key, or the response, fits
the message that was sent."""


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Ask, send the requests, and print what held; return 1 unless every statement did.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    try:
        client = BzCtrlHook(arguments.conn_id or settings().conn_id).get_conn()
        messages = make_messages(client)
        _ask(client, arguments)
    except Exception as exc:  # noqa: BLE001 - no connection, its errors, a secrets backend that is down
        return fail(f"Nothing was sent. {describe_error(exc)}", arguments, out)
    versions = f"provider {bzctrl_provider.__version__}, Airflow {airflow.__version__}"
    sent = f"{client.config.endpoints.create_url}, {client.config.message_format}"
    facts = {"sent": sent, "versions": versions}
    answers: dict[str, Answer] = {}
    try:
        answers.update(send_all(client, messages))
    except BzCtrlTransportError as exc:
        facts["error"] = describe_error(exc)
    findings = [_compare(name, answers, messages) for name in STATEMENTS]
    facts |= {name: _show(answer) for name, answer in answers.items()}
    is_ok = all(finding.status == "held" for finding in findings)
    report = {"ok": is_ok, "statements": [finding._asdict() for finding in findings], "facts": facts}
    return show(report, _lines(findings, facts), arguments, out)


def _lines(findings: Sequence[Finding], facts: Mapping[str, str]) -> Iterator[str]:
    for finding in findings:
        yield from finding.lines()
    yield from (f"{name:<12} {text}" for name, text in facts.items())


def make_messages(client: BzCtrlClient) -> dict[str, Message]:
    """Return the messages of the create requests by the names of the requests.

    :param client: has the connection's defaults and its message format.
    :raises BzCtrlValidationError: the connection lacks a default.
    """
    fields = dict(_VALUES)
    if client.config.message_format == "predefined":
        del fields["sub_category"]
    messages = {}
    for todo_type in TODO_TYPES:
        own = {name: value for name, value in fields.items() if FIELDS[name].only_for in (None, todo_type)}
        messages[todo_type.lower()] = client.make_message({**own, "todo_type": todo_type})
    # If BzCtrl accepts these as well, their title says what they are.
    messages["no-order-id"] = {key: value for key, value in messages["incident"].items() if key != "orderID"}
    messages["wrong-token"] = messages["incident"]
    return messages


def _ask(client: BzCtrlClient, arguments: argparse.Namespace) -> None:
    """Raise ValueError unless the user agrees."""
    url, is_production = client.config.endpoints.create_url, client.config.endpoints.is_production
    # First: --yes answers the question, and does not choose PROD.
    if is_production and not arguments.production:
        raise ValueError(f"{url} is PROD: use a connection to ACC, or add --production.")
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("There is no terminal to ask at: add --yes.")
    word = "PROD" if is_production else "yes"
    question = f"This creates an incident and a task at {url}, and sends two requests that should be refused. Type {word} to go on: "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != word:
        raise ValueError(f"The answer was not {word}.")


def send_all(client: BzCtrlClient, messages: Mapping[str, Message]) -> Iterator[tuple[str, Answer]]:
    """Yield the name of each request and its response; without a token, nothing is created.

    :param client: sends them.
    :param messages: of the create requests.
    :raises BzCtrlTransportError: a request has no response; the next ones are not sent.
    """
    incident = messages["incident"]
    # The report will be published: persons are hidden, too.
    texts = (client.config.username, incident["reporter"], incident["assignee"])
    hidden = [SecretStr(str(text)) for text in texts]
    token: SecretStr | None = None
    for name in ("token", *messages):
        used = SecretStr("a-wrong-token") if name == "wrong-token" else token
        answer = client.send_raw(messages.get(name), token=used)
        if token is None:
            if (token := _find_token(answer)) is None:
                yield name, answer
                return
            mask_secret(token.get_secret_value())
            hidden.append(token)
        request = answer.request
        yield name, answer._replace(request=request._replace(secrets=(*request.secrets, *hidden)))


def _compare(name: str, answers: Mapping[str, Answer], messages: Mapping[str, Message]) -> Finding:
    requests, key, text, holds = STATEMENTS[name]
    differed, compared = [], 0
    for request, answer in answers.items():
        content = _content(answer)
        if request not in requests or (key and not content):
            continue
        compared += 1
        value = content.get(key) if key else answer
        if not holds(value, messages.get(request, {})):
            said = f", {key} {answer.request.quote(json_line(value))}" if key else ""
            differed.append(f"{request}: {answer.status}{said}")
    status: Status = "differed" if differed else "held" if compared == len(requests) else "skipped"
    return Finding(name, status, f"{', '.join(requests)}: {text}", differed)


def _show(answer: Answer) -> str:
    """Return the status and the body of a response without secrets."""
    if answer.request.what == "create":
        return f"{answer.status} {answer.excerpt()}"
    content = answer.json_object() or {}
    shown = {key: value if key in _SHOWN_OF_TOKEN else "***" for key, value in content.items()}
    return f"{answer.status} {answer.request.quote(json_line(shown))}"
