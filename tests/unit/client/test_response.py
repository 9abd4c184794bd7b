"""Responses of BzCtrl that do harm: their effect on a log, an error, an XCom or a link, and their cost."""

from __future__ import annotations

import json
import logging
import pickle
import time

import pytest
from support.bzctrl import ACC, LINK, PASSWORD, TOKEN, new_client, register_bzctrl
from support.errors import get_error

from bzctrl_provider.exceptions import BzCtrlBadAnswerError, BzCtrlRateLimitError, BzCtrlRejectedError

pytestmark = pytest.mark.security

FORGED = "\r\n[2026-11-21] ERROR - forged\x1b[31m\x00\x85\u2028\u202e\ud800"
"""Line breaks of every kind, a colour for terminals, NUL, a turn of direction, half a surrogate pair."""


@pytest.fixture
def client():
    return new_client()


# --- into logs and errors --------------------------------------------------------------------------------------------


def test_created_todo_hostile_field_forges_no_log_line(bzctrl, client, fields, caplog):
    """Type, key and link are in the log line of a created todo; it stays one line of what can be seen."""
    caplog.set_level(logging.INFO)
    hostile = {"taskLink": f"{LINK}%0d%0a%1b%5b31mforged", "taskType": f"INCIDENT{FORGED}"}
    bzctrl.post(ACC.create_url, json=hostile)
    created = client.create_todo(fields)
    assert created.key is None
    (record,) = [record for record in caplog.records if "Created the" in record.getMessage()]
    assert record.getMessage().isprintable()


def test_api_error_hostile_body_forges_no_line(bzctrl, client, fields):
    """BzCtrl's text is one line in the message, for each status and each format of the body."""
    for status in [400, 401, 429, 500, 200]:
        for url in [ACC.token_url, ACC.create_url]:
            bzctrl.reset_mock()
            body = {"error": FORGED, "error_description": f"x{FORGED}"}
            for answer in ({"json": body}, {"content": f"x{FORGED}".encode("utf-8", "surrogatepass")}):
                bzctrl.post(url, status_code=status, **answer)
                error = get_error(client, fields)
                assert str(error).isprintable()
                assert getattr(error, "body_excerpt", "").isprintable()


def test_created_todo_control_characters_are_replaced(bzctrl, client, fields):
    """No NUL, which PostgreSQL takes in no text and no JSON, and nothing that UTF-8 cannot hold gets into the XCom."""
    bzctrl.post(
        ACC.create_url,
        json={
            "taskLink": LINK,
            "title": FORGED,
            "taskType": FORGED,
            "description": f"a{FORGED}",
            "tags": [FORGED],
        },
    )
    kept = client.create_todo(fields).as_dict()
    text = json.dumps(kept, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text
    assert "\x85" not in text
    assert kept["description"].startswith("a\r\n[2026-11-21] ERROR")  # lines are fine in a text


def test_created_todo_sent_text_has_control_characters_replaced(bzctrl, client, fields):
    """A NUL in the data goes to BzCtrl as it was written, and not into the XCom where BzCtrl does not answer the text."""
    bzctrl.post(ACC.create_url, json={"taskLink": LINK})
    created = client.create_todo(fields, description="a\x00b")
    assert bzctrl.last_request.json()["description"] == "a\x00b"
    assert created.description == "a\ufffdb"


def test_created_todo_html_stays_text(bzctrl, client, fields):
    """HTML in a field is kept as text and is not part of a link or key."""
    html = "<img src=x onerror=alert(1)>"
    bzctrl.post(
        ACC.create_url,
        json={
            "title": html,
            "taskType": html,
            "description": html,
            "tags": [html],
            "taskLink": f"https://x/{html}",
        },
    )
    created = client.create_todo(fields)
    assert (created.title, created.description, created.tags) == (html, html, [html])
    assert (created.link, created.key) == (None, None)


def test_created_todo_unusable_key_is_none(bzctrl, client, fields):
    """The link stays usable where its last part is no key."""
    for last, key in [
        ("K" * 200, "K" * 200),
        ("K" * 201, None),
        ("%3Cscript%3E", "<script>"),
        ("%00", None),
        ("%E2%80%AEK", None),
        ("%FF", "\ufffd"),
        ("%0aK", None),
    ]:
        bzctrl.reset_mock()
        bzctrl.post(ACC.create_url, json={"taskLink": f"https://x/todo/{last}"})
        created = client.create_todo(fields)
        assert created.link == f"https://x/todo/{last}"
        assert created.key == key


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_created_todo_repeated_secret_is_redacted(bzctrl, client, fields, caplog):
    """A BzCtrl that answers password or token in a field of the todo does not get it into Airflow."""
    for secret in [PASSWORD, TOKEN]:
        bzctrl.reset_mock()
        caplog.set_level(logging.DEBUG)
        bzctrl.post(
            ACC.create_url,
            json={
                "title": secret,
                "taskType": secret,
                "description": f"you sent {secret}!",
                "tags": [secret, "ORDER 777"],
                "taskLink": f"{LINK}?with={secret.replace('@', '%40')}",
            },
        )
        created = client.create_todo(fields)
        assert created.link is None
        assert created.tags == ["***", "ORDER 777"]
        assert secret not in repr(created) + json.dumps(created.as_dict()) + caplog.text


def test_created_todo_sent_title_equals_password_is_kept(bzctrl, client, fields):
    """A title that holds what happens to be the password stays: it is the DAG's own."""
    bzctrl.post(ACC.create_url, json={"taskLink": LINK, "title": PASSWORD})
    assert client.create_todo(fields, title=PASSWORD).title == PASSWORD


def test_client_pickled_raises(client):
    """It holds the password; nothing of Airflow may carry it to another process by accident."""
    with pytest.raises(TypeError):
        pickle.dumps(client)


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_token_response_token_is_no_header_value_raises(bzctrl, client, fields):
    """No todo is sent, and the error does not quote the token."""
    for token in [
        "with\r\nInjected: header",
        "with\nline",
        "\n",
        "with space",
        "tab\t",
        "ümlaut",
        "\u2028",
        "\x00",
        "\x7f",
        "\ud800",
        "",
        "x" * 8193,
        "x" * 900_000,
        5,
        None,
        ["token"],
        {"token": 1},
        True,
    ]:
        bzctrl.reset_mock()
        bzctrl.post(ACC.token_url, json={"access_token": token})
        began = time.monotonic()
        error = get_error(client, fields)
        assert type(error) is BzCtrlBadAnswerError
        assert not error.outcome_unknown
        assert len(bzctrl.request_history) == 1
        assert time.monotonic() - began < 2
        assert len(str(error)) < 400


def test_api_error_longest_token_is_searched_in_bounded_time(bzctrl, client, fields):
    """An answer of a mebibyte is searched for a token of 8,192 characters in bounded time."""
    bzctrl.post(ACC.token_url, json={"access_token": "a1B-" * 2048})
    bzctrl.post(ACC.create_url, status_code=400, text="a1B-" * 250_000)
    began = time.monotonic()
    assert type(get_error(client, fields)) is BzCtrlRejectedError
    assert time.monotonic() - began < 10


def test_token_response_invalid_expires_in_is_used(bzctrl, client, fields):
    """The token serves all the same."""
    for expires_in in ["NaN", "Infinity", "-5", "1e999", '"soon"', "[]", "true", "1" * 4000, "{}"]:
        bzctrl.reset_mock()
        bzctrl.post(ACC.token_url, text=f'{{"access_token": "{TOKEN}", "expires_in": {expires_in}}}')
        assert client.create_todo(fields).key == "EXA-CON-BUS-WOR-03"


# --- JSON ------------------------------------------------------------------------------------------------------------

NO_JSON_OBJECT = {
    "nested lists": "[" * 500_000,
    "nested objects": '{"taskLink":' * 80_000,
    "nested and closed": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a huge integer": '{"a": ' + "1" * 500_000 + "}",
    "only text": '"taskLink"',
    "only NaN": "NaN",
    "two objects": '{"taskLink": "https://x/K"}{}',
    "a callback": 'callback({"taskLink": "https://x/K"})',
    "a prefix": ")]}',\n" + '{"taskLink": "https://x/K"}',
    "not UTF-8": b'{"title": "\xff\xfe\xfd"}',
}


def test_create_response_no_json_object_raises_bad_answer(bzctrl, fields):
    """Bombs as well: quickly, as an error of the tree, of bounded length."""
    for content in NO_JSON_OBJECT.values():
        for url in [ACC.token_url, ACC.create_url]:
            register_bzctrl(bzctrl)
            bzctrl.post(url, content=content if isinstance(content, bytes) else content.encode())
            began = time.monotonic()
            error = get_error(new_client(), fields)
            assert type(error) is BzCtrlBadAnswerError
            assert error.outcome_unknown is (url == ACC.create_url)
            assert len(str(error)) < 1200
            assert time.monotonic() - began < 5


def test_create_response_nested_near_recursion_limit_is_handled(bzctrl, client, fields):
    """Nesting that can be parsed, but not serialized again, ends in an error of the hierarchy or in a todo."""
    for depth in [100, 900, 960, 970, 980, 990, 1000]:
        for status in [200, 400]:
            bzctrl.reset_mock()
            nested = f'{{"error": {"[" * depth}{"]" * depth}, "title": {"[" * depth}{"]" * depth}}}'
            for url in (ACC.create_url, ACC.token_url):
                bzctrl.post(url, status_code=status, text=nested)
                # In a bulk, where an error is a result; any other kind would come out of it.
                (result,) = client.create_todos([fields])
                assert len(str(result)) < 1200


def test_create_response_unusual_object_is_a_created_todo(bzctrl, client, fields):
    """The last of two equal keys counts; what is of another kind is taken from what was sent."""
    for answer in [
        '{"taskLink": "javascript:alert(1)", "taskLink": "LINK"}',
        '{"taskLink": "LINK", "title": NaN, "tags": [NaN, Infinity, -0, 1e999]}',
        '{"taskLink": "LINK", "title": {"a": 1}, "description": ["x"], "tags": {"a": "b"}}',
        '{"taskLink": "LINK", "taskType": null, "title": 5, "description": true, "tags": "a"}',
        '\ufeff{"taskLink": "LINK"}',
    ]:
        bzctrl.reset_mock()
        bzctrl.post(ACC.create_url, content=answer.replace("LINK", LINK).encode())
        created = client.create_todo(fields)
        assert (created.link, created.key) == (LINK, "EXA-CON-BUS-WOR-03")
        assert (created.title, created.todo_type) == (fields["title"], "INCIDENT")
        assert created.tags == []
        json.dumps(created.as_dict(), allow_nan=False)


def test_create_response_other_content_type_is_read_as_json(bzctrl, client, fields):
    """A JSON object is one whatever it is called, and its text is read as JSON says, not as the header does."""
    for content_type in [
        "text/html; charset=utf-7",
        "image/png",
        "application/json; charset=\x00",
        "",
        "a" * 5000,
    ]:
        bzctrl.reset_mock()
        content = json.dumps({"taskLink": LINK, "title": "Zoll für 橙"}, ensure_ascii=False).encode()
        bzctrl.post(ACC.create_url, content=content, headers={"Content-Type": content_type})
        assert client.create_todo(fields).title == "Zoll für 橙"


# --- headers ---------------------------------------------------------------------------------------------------------


def test_create_response_invalid_retry_after_is_ignored(bzctrl, client, fields):
    """The error is the one about too many requests, as without the header."""
    for retry_after in [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2020 00:00:00 +999999999999",
        "1e999",
        "NaN",
        "-1",
        "9" * 5000,
        "\u0663",
        "",
        ";;;",
    ]:
        bzctrl.reset_mock()
        bzctrl.post(ACC.create_url, status_code=429, headers={"Retry-After": retry_after})
        error = get_error(client, fields)
        assert type(error) is BzCtrlRateLimitError
        assert len(str(error)) < 600


def test_create_response_redirect_error_names_only_the_host(bzctrl, client, fields):
    """The error does not quote the path, and the host is bounded in length."""
    bzctrl.post(ACC.create_url, status_code=302, headers={"Location": f"https://{'x' * 5000}/{TOKEN}"})
    error = get_error(client, fields)
    assert len(str(error)) < 600
    assert TOKEN not in str(error)
