from __future__ import annotations

import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bzctrl_provider.client.response import RequestInfo, redacted


@given(st.text(min_size=4).filter(str.isprintable), st.text(max_size=20))
def test_no_spelling_of_a_secret_survives(secret, around):
    """Plain, in a form, in an address, in JSON and in HTML, a secret is blotted out."""
    for spelled in (secret, quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], html.escape(secret)):
        assert spelled not in redacted(f"{around} {spelled} {around}", [SecretStr(secret)]).replace(
            "***", ""
        )[len(around) :] or (spelled in around)


@pytest.mark.parametrize(
    "spelled", [r"tok\/abc==", r"tok/abc\u003d\u003d", "tok%2fabc%3D%3d", "tok&#47;abc&#x3d;="]
)
def test_a_secret_is_known_in_any_spelling(spelled):
    """As PHP and Gson write JSON, with small letters after a percent sign, and as numbers in HTML."""
    assert redacted(f"you sent {spelled}!", [SecretStr("tok/abc==")]) == "you sent ***!"


def test_a_long_text_ends_before_half_a_secret():
    """Only its beginning is looked through, and a secret that is cut there is not left over."""
    secret = "s3cret" * 100
    request_info = RequestInfo("create", "https://x", 1, [SecretStr("short"), SecretStr(secret)])
    told = request_info.redact_beginning(secret * 1000)
    assert "s3cret" not in told
    assert request_info.redact_beginning(f"a {secret} b") == "a *** b"
    assert request_info.redact_beginning("x" * 100_000).startswith("x" * 500)


@pytest.mark.parametrize("secrets", [[], [""], ["absent"]])
def test_a_text_without_secrets_stays_as_it_is(secrets):
    """An empty secret blots out nothing."""
    assert redacted("a text", map(SecretStr, secrets)) == "a text"
