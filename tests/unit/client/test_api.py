from __future__ import annotations

import json
import logging
import os
import pickle
import traceback
from urllib.parse import parse_qs

import pytest
import requests
from support.bzctrl import ACC, LINK, PASSWORD, TOKEN, new_client, register_bzctrl
from support.clock import Clock

from bzctrl_provider.client import api
from bzctrl_provider.client.auth import TokenSource
from bzctrl_provider.client.config import ENVIRONMENTS, Endpoints
from bzctrl_provider.client.todo import CreatedTodo, Todo
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)


@pytest.fixture
def bzctrl(requests_mock):
    """Return a BzCtrl that grants tokens and creates todos; a test changes what it answers."""
    return register_bzctrl(requests_mock, create=created_answer())


def created_answer(**changes):
    return {
        "title": "Potential Customs claim",
        "taskType": "INCIDENT",
        "description": "Operation started without proper approvals",
        "taskLink": LINK,
        "tags": ["ORDER 777"],
        **changes,
    }


def sent(bzctrl, url):
    return [request for request in bzctrl.request_history if request.url == url]


def test_token_request_any_grant_is_as_documented(bzctrl, fields):
    """A form-encoded password grant, percent-encoded, without any other credentials."""
    new_client().create_todo(fields)
    (request,) = sent(bzctrl, ACC.token_url)
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.text == "grant_type=password&username=user%40example.com&password=Ex%40mpl3%21+%26+more"
    assert parse_qs(request.text)["password"] == [PASSWORD]
    assert "Authorization" not in request.headers


def test_create_request_any_todo_is_as_documented(bzctrl, fields):
    """JSON in UTF-8 with the token as a Bearer, to the address of the environment."""
    new_client().create_todo(fields, title="Zollanmeldung für 橙 🍊")
    (request,) = sent(bzctrl, ACC.create_url)
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["User-Agent"].startswith("airflow-provider-bzctrl/")
    assert json.loads(request.body)["title"] == "Zollanmeldung für 橙 🍊"
    assert "Cookie" not in request.headers


def test_create_todo_in_production_uses_both_hosts(requests_mock, fields):
    """The token comes from the host without www, the todo goes to the one with www."""
    prod = ENVIRONMENTS["PROD"]
    requests_mock.post(prod.token_url, json={"access_token": TOKEN})
    requests_mock.post(prod.create_url, json=created_answer())
    client = new_client(prod)
    client.create_todo(fields)
    assert [request.hostname for request in requests_mock.request_history] == ["bzctrl.com", "www.bzctrl.com"]


def test_create_todo_predefined_format_is_put(bzctrl, fields):
    """`predefined` goes out with PUT, in its own shape, to the same path."""
    bzctrl.put(ACC.create_url, json=created_answer())
    new_client(message_format="predefined", in_progress_spelling="INPROGRESS").create_todo(fields)
    (request,) = sent(bzctrl, ACC.create_url)
    assert request.method == "PUT"
    assert request.json()["domain"] == "EXA-CON-BUS-WOR"
    assert request.json()["workspace"] == "WOR"
    assert request.json()["status"] == "INPROGRESS"


def test_create_todo_success_returns_fields_of_the_response(bzctrl, fields):
    """The key is the last part of the link."""
    assert new_client().create_todo(fields) == CreatedTodo(
        key="EXA-CON-BUS-WOR-03",
        link=LINK,
        title="Potential Customs claim",
        todo_type="INCIDENT",
        description="Operation started without proper approvals",
        tags=["ORDER 777"],
    )


def test_create_todo_sparse_response_is_filled_from_the_request(bzctrl, fields):
    """Title, type and description are those of the request where the answer has none; strange tags are dropped."""
    bzctrl.post(ACC.create_url, json={"taskLink": LINK, "title": 5, "tags": ["a", 5, None]})
    created = new_client().create_todo(fields)
    assert (created.title, created.todo_type) == (fields["title"], "INCIDENT")
    assert created.tags == ["a"]
    bzctrl.post(ACC.create_url, json={"tags": "a"})
    assert new_client().create_todo(fields).tags == []


def test_create_todo_invalid_sends_nothing(bzctrl):
    """Not even a token is asked for."""
    with pytest.raises(BzCtrlValidationError):
        new_client().create_todo(title="only a title")
    assert bzctrl.request_history == []


def test_create_todo_with_fields_replaces_those_of_the_todo(bzctrl, fields):
    """A mapping or a Todo can be given, and single fields beside it."""
    client = new_client(defaults={"assignee": "boss@example.com"})
    client.create_todo(Todo(**fields), title="Another title")
    client.create_todo(fields, title="Another title")
    first, second = (request.json() for request in sent(bzctrl, ACC.create_url))
    assert first == second
    assert first["title"] == "Another title"
    assert first["assignee"] == "boss@example.com"


def test_create_todo_several_share_a_token_until_its_renewal(bzctrl, fields, monkeypatch):
    """Three todos cost four requests; after the lead time's beginning there is a second token."""
    clock = Clock()
    source = TokenSource(clock)
    monkeypatch.setattr(api, "shared_source", lambda _: source)
    client = new_client()
    for _ in range(3):
        client.create_todo(fields)
    assert len(sent(bzctrl, ACC.token_url)) == 1
    clock.now += 3600 - 59
    client.create_todo(fields)
    assert len(sent(bzctrl, ACC.token_url)) == 2


@pytest.mark.parametrize(
    "refused",
    [
        {"status_code": 401},
        {"status_code": 400, "json": {"error": "invalid_token", "error_description": "expired"}},
        {"status_code": 400, "headers": {"WWW-Authenticate": 'Bearer realm="x", error="invalid_token"'}},
    ],
)
def test_create_todo_refused_token_is_sent_again_with_a_fresh_one(bzctrl, fields, refused):
    """After a 401 or a 400 with ``invalid_token`` a fresh token is asked for once, and the same body goes out again."""
    tokens = iter(["old", "new", "newest"])
    bzctrl.post(ACC.token_url, json=lambda *_: {"access_token": next(tokens), "expires_in": 3600})
    bzctrl.post(ACC.create_url, [refused, {"json": created_answer()}, refused])
    client = new_client()
    assert client.create_todo(fields).key == "EXA-CON-BUS-WOR-03"
    first, second = sent(bzctrl, ACC.create_url)
    assert [r.headers["Authorization"] for r in (first, second)] == ["Bearer old", "Bearer new"]
    assert first.body == second.body
    with pytest.raises(BzCtrlAuthError, match="again with a fresh token"):
        client.create_todo(fields)
    assert len(sent(bzctrl, ACC.create_url)) == 4


@pytest.mark.security
def test_create_todo_error_body_is_quoted_in_one_line(bzctrl, fields):
    """One line of at most 500 characters, without control characters."""
    bzctrl.post(ACC.create_url, status_code=400, text="impact:\r\n\x1b[31m must be HIGH " + "x" * 1000)
    with pytest.raises(BzCtrlRejectedError) as caught:
        new_client().create_todo(fields)
    assert caught.value.body_excerpt.startswith("impact: [31m must be HIGH xxx")
    assert len(caught.value.body_excerpt) == 500
    assert caught.value.body_excerpt in str(caught.value)


def test_create_todo_error_with_a_long_trace_quotes_its_message(bzctrl, fields):
    """Of an error of Spring with its stack before the message, the message is quoted; a secret in either is redacted."""
    trace = "java.lang.NullPointerException\r\n" + f"\tat com.bzctrl.Task.add(Task.java:1) {TOKEN}\r\n" * 9000
    error = {"timestamp": "2026-11-30", "status": 500, "error": "Internal Server Error", "trace": trace}
    error["errors"] = [{"codes": ["typeMismatch"] * 100}]
    for message in ("no workspace EXA", "no workspace EXA, but " + "x" * 300):
        bzctrl.post(
            ACC.create_url, status_code=500, json=error | {"message": f"{message} {TOKEN}", "path": "/a"}
        )
        with pytest.raises(BzCtrlServerError) as caught:
            new_client().create_todo(fields)
        assert '"error": "Internal Server Error"' in caught.value.body_excerpt
        assert f'"message": "{message} ***"' in caught.value.body_excerpt
        assert len(caught.value.body_excerpt) == 500
        assert TOKEN[:12] not in all_text(caught.value)


def test_create_todo_rate_limit_error_has_its_seconds(bzctrl, fields):
    """`retry_after_s` is what BzCtrl asked for, None where it did not say."""
    bzctrl.post(
        ACC.create_url, [{"status_code": 429, "headers": {"Retry-After": "90"}}, {"status_code": 429}]
    )
    client = new_client(max_attempts=1)
    with pytest.raises(BzCtrlRateLimitError) as first:
        client.create_todo(fields)
    with pytest.raises(BzCtrlRateLimitError) as second:
        client.create_todo(fields)
    assert (first.value.retry_after_s, second.value.retry_after_s) == (90.0, None)


def all_text(exc):
    """Return all text that a log, a crash report or another process could get from an exception and its causes."""
    shown = []
    while exc is not None:
        shown += [str(exc), repr(exc), repr(exc.args), repr(vars(exc))]
        shown += [repr(vars(value)) for value in vars(exc).values() if hasattr(value, "__dict__")]
        shown.append("".join(traceback.format_exception(exc)))
        # Some tracebacks show the local variables; those of the tests themselves are left out.
        for frame, _ in traceback.walk_tb(exc.__traceback__):
            if frame.f_code.co_filename != __file__:
                shown.append(repr(frame.f_locals))
        shown.append(repr(vars(pickle.loads(pickle.dumps(exc)))) if isinstance(exc, BzCtrlError) else "")
        exc = exc.__cause__ or exc.__context__
    return "\n".join(shown)


def test_create_todos_some_fail_keeps_order_and_length(bzctrl, fields):
    """Each result has the place of its todo; an invalid and a refused one are errors in their places."""

    def answer(request, context):
        if request.json()["title"] == "refuse me":
            context.status_code = 400
        return created_answer(title=request.json()["title"])

    bzctrl.post(ACC.create_url, json=answer)
    titles = ["a", "refuse me", "b", None, "c"]
    results = new_client().create_todos(({**fields, "title": title} for title in titles), max_workers=3)
    assert [getattr(result, "title", type(result)) for result in results] == [
        "a",
        BzCtrlRejectedError,
        "b",
        BzCtrlValidationError,
        "c",
    ]
    assert len(sent(bzctrl, ACC.token_url)) == 1


@pytest.mark.security
def test_create_todo_clear_text_to_loopback_uses_no_proxy(requests_mock, fields, monkeypatch):
    """A proxy is another machine, and would see the password."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    endpoints = Endpoints.from_host("http://localhost:8137")
    requests_mock.post(endpoints.token_url, json={"access_token": TOKEN})
    requests_mock.post(endpoints.create_url, json=created_answer())
    client = new_client(endpoints)
    client.create_todo(fields)
    assert all(not request.proxies for request in requests_mock.request_history)


def test_create_todos_refused_credentials_requests_one_token(bzctrl, fields):
    """A hundred todos with a wrong password are one refused login, and a hundred errors."""
    bzctrl.post(ACC.token_url, status_code=401)
    results = new_client().create_todos([fields] * 99 + [{}], max_workers=1)
    assert [type(result) for result in results] == [BzCtrlAuthError] * 100
    assert len({id(result) for result in results}) == 100
    assert len(bzctrl.request_history) == 1


def test_check_credentials_requests_only_a_token(bzctrl):
    """No todo is created, and a kept token does not replace the check."""
    client = new_client()
    client.check_credentials()
    client.check_credentials()
    assert [request.url for request in bzctrl.request_history] == [ACC.token_url] * 2


def test_authenticate_twice_requests_one_token_that_creates_share(bzctrl, fields):
    """A kept token is used, by the next call and by the todo after it."""
    client = new_client()
    client.authenticate()
    client.authenticate()
    client.create_todo(fields)
    assert [request.url for request in bzctrl.request_history] == [ACC.token_url, ACC.create_url]


def test_client_new_token_calls_on_new_token(bzctrl, fields):
    """The callback that masks secrets gets each token as soon as it is granted."""
    granted = []
    client = new_client(on_new_token=granted.append)
    client.create_todo(fields)
    client.create_todo(fields)
    assert granted == [TOKEN]


@pytest.mark.security
def test_create_todo_with_netrc_ignores_it(bzctrl, fields, tmp_path, monkeypatch):
    """Credentials of ~/.netrc for the same host get into neither request."""
    (tmp_path / "netrc").write_text("machine acc.bzctrl.com login netrc-user password netrc-password\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    new_client().create_todo(fields)
    headers = [request.headers.get("Authorization") for request in bzctrl.request_history]
    assert headers == [None, f"Bearer {TOKEN}"]


def test_create_todo_proxy_and_ca_of_environment_are_used(bzctrl, fields, monkeypatch):
    """HTTPS_PROXY, NO_PROXY and REQUESTS_CA_BUNDLE work as in requests; the connection's own CA file wins."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company-ca.pem")
    new_client().create_todo(fields)
    new_client(verify="/etc/own-ca.pem").create_todo(fields)
    new_client(verify=False).create_todo(fields)
    monkeypatch.setenv("NO_PROXY", "acc.bzctrl.com")
    new_client().create_todo(fields)
    history = sent(bzctrl, ACC.create_url)
    assert [request.verify for request in history] == [
        "/etc/company-ca.pem",
        "/etc/own-ca.pem",
        False,
        "/etc/company-ca.pem",
    ]
    assert [request.proxies.get("https") for request in history] == ["http://proxy.example:3128"] * 3 + [None]


@pytest.mark.security
def test_create_todo_cookies_are_not_sent_back(bzctrl, fields):
    """Cookies of BzCtrl or of a load balancer are not sent back."""
    bzctrl.post(ACC.create_url, json=created_answer(), headers={"Set-Cookie": "session=abc; Path=/"})
    client = new_client()
    client.create_todo(fields)
    client.create_todo(fields)
    assert all("Cookie" not in request.headers for request in bzctrl.request_history)
    client.close()


def test_client_total_s_any_settings_covers_all_attempts():
    """All attempts at full length and all waits at their longest."""
    assert new_client().total_s == 4 * (3 * 30 + 2 * 60)
    assert new_client(timeout_s=5, max_attempts=1).total_s == 4 * 5


def test_create_todo_link_gives_its_last_part_as_key(bzctrl, fields):
    """A link without such a part is kept, and the key is None."""
    for path, key in {
        "app/#/todo/EXA-01/": "EXA-01",
        "app/#/todo/EXA-01?tab=2": "EXA-01",
        "todo/EXA-01": "EXA-01",
        "app/#/todo/EXA%20CON-01": "EXA CON-01",
        "": None,
    }.items():
        link = f"https://bzctrl.example.com/{path}"
        bzctrl.post(ACC.create_url, json=created_answer(taskLink=link))
        created = new_client().create_todo(fields)
        assert (created.link, created.key) == (link, key)


@pytest.mark.security
def test_create_todo_unusable_link_returns_todo_without_link(bzctrl, fields, caplog):
    """The todo exists, so this is a success with a warning; nothing but http and https gets into a button."""
    for link in (
        None, "", 5, [], "javascript:alert(1)", "http://[x/todo/K", "https://?", "ftp://x/y", "/app/#/todo/X",
        "https://a b", "https://a\nb", "https://",
    ):  # fmt: skip
        caplog.clear()
        bzctrl.post(ACC.create_url, json=created_answer(taskLink=link))
        created = new_client().create_todo(fields)
        assert (created.link, created.key) == (None, None)
        assert [r.levelname for r in caplog.records if "no usable link" in r.message] == ["WARNING"]


@pytest.mark.security
def test_create_todo_any_error_has_no_secret(bzctrl, fields, caplog):
    """Password and token are in no message, cause, repr, pickle or log line at DEBUG of any error of both requests."""
    caplog.set_level(logging.DEBUG)
    for answer in (
        {"status_code": 400, "text": f"you sent {PASSWORD} and Ex%40mpl3%21+%26+more"},
        {"status_code": 401, "json": {"password": PASSWORD, "error": PASSWORD}},
        {"status_code": 500, "text": "Ex@mpl3! &amp; more " * 30},
        {"status_code": 500, "json": {"access_token": TOKEN, "error": "broken", "more": TOKEN}},
        {
            "status_code": 302,
            "headers": {"Location": f"https://x.example/?password={PASSWORD}&token={TOKEN}"},
        },
        {"text": f"{TOKEN} {PASSWORD}"},
        {"json": {"access_token": f"{TOKEN}\n", "taskLink": f"javascript:{TOKEN}"}},
        {"exc": requests.exceptions.ReadTimeout},
        {"exc": requests.exceptions.ConnectionError(f"could not send {PASSWORD}")},
        {"exc": KeyboardInterrupt},
        {"exc": SystemExit},
    ):
        for url in ACC:
            register_bzctrl(bzctrl, create=created_answer())
            bzctrl.post(url, **answer)
            client = new_client()
            shown = repr(client)
            try:
                shown += repr(client.create_todo(fields))
            except BaseException as exc:
                shown += all_text(exc)
            shown += caplog.text
            for secret in (PASSWORD, "Ex%40mpl3", "Ex@mpl3", TOKEN[:12]):
                assert secret not in shown, (url, answer)


@pytest.mark.security
def test_create_todo_interrupted_has_no_secret_in_its_traceback(bzctrl, fields):
    """An exception that is not about HTTP, such as a signal handler's, comes out as it is, without frames that hold a secret."""

    class TaskStoppedError(Exception):
        """Raised by a signal handler in the middle of a request."""

    for stop in (KeyboardInterrupt, SystemExit, TaskStoppedError):
        for url in ACC:
            register_bzctrl(bzctrl)
            bzctrl.post(url, exc=stop)
            with pytest.raises(stop) as caught:
                new_client().create_todo(fields)
            shown = all_text(caught.value)
            assert "Ex%40mpl3" not in shown
            assert TOKEN[:12] not in shown


@pytest.mark.security
def test_create_todo_repeated_token_is_redacted(bzctrl, fields):
    """A BzCtrl that repeats the Authorization header in its answer does not get it into a message."""
    for status in (400, 401, 500):
        bzctrl.post(ACC.create_url, status_code=status, text=f'{{"headers": "Bearer {TOKEN}"}}' * 30)
        with pytest.raises(BzCtrlError) as caught:
            new_client().create_todo(fields)
        assert "Bearer ***" in str(caught.value)
        assert TOKEN[:12] not in all_text(caught.value)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_create_todo_in_forked_child_opens_a_connection(bzctrl, fields):
    """Two processes on one socket would read each other's answers."""
    client = new_client()
    client.create_todo(fields)
    parents = client._requester
    child = os.fork()
    if child == 0:
        client.create_todo(fields)
        os._exit(0 if client._requester is not parents else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.create_todo(fields)
    assert client._requester is parents


def test_create_todos_nothing_to_send_sends_nothing(bzctrl, fields):
    """An empty list and a limit that is used up make no request; the number of threads is 1 to 64."""
    assert new_client().create_todos([]) == []
    (error,) = new_client().create_todos([fields], limit_s=0)
    assert (type(error), error.outcome_unknown) == (BzCtrlTransportError, False)
    for max_workers in (0, -1, 65):
        with pytest.raises(ValueError, match="1 to 64"):
            new_client().create_todos([fields], max_workers=max_workers)
    assert bzctrl.request_history == []


def test_create_todos_generator_that_raises_creates_nothing(bzctrl, fields):
    """The todos are read to their end before the first one is sent, and the error of the generator is raised."""

    def read():
        yield fields
        raise RuntimeError("the file ends here")

    with pytest.raises(RuntimeError, match="the file ends here"):
        new_client().create_todos(read())
    assert bzctrl.request_history == []


@pytest.mark.security
def test_check_credentials_any_characters_stay_in_their_field(bzctrl):
    """Credentials with any characters are one value of the form."""
    for text in (
        "a\r\nInjected: header",
        "a&grant_type=client_credentials",
        "ü 橙 %00",
        "\x00\x1b",
        "x" * 100_000,
    ):
        new_client(username=text, password=text).check_credentials()
        request = bzctrl.last_request
        assert (request.text.count("&"), request.text.count("=")) == (2, 3)
        assert "\r" not in request.text
        assert "Injected" not in request.headers


def test_create_todo_transport_error_has_no_causes(bzctrl, fields):
    """It says itself what went wrong; urllib3's errors underneath would bury that in a task's log."""
    bzctrl.post(ACC.create_url, exc=requests.exceptions.ConnectionError("reset by peer"))
    with pytest.raises(BzCtrlTransportError, match="reset by peer") as caught:
        new_client().create_todo(fields)
    assert caught.value.__cause__ is caught.value.__context__ is None
