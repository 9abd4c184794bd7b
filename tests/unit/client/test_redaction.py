from __future__ import annotations

import html
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bzctrl_provider.client.redaction import proxy_passwords, redact, redact_beginning

SECRET = "tok/abc=='&\"é"


def in_json(text):
    return json.dumps(text)[1:-1]


ENCODERS = {
    "plain": str,
    "quote": lambda text: quote(text, safe=""),
    "quote_plus": quote_plus,
    "json": in_json,
    "php": lambda text: in_json(text).replace("/", r"\/"),
    "html": html.escape,
    "html apos": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
    "html 039": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "html numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "unicode escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
}


@pytest.mark.security
@pytest.mark.parametrize("outer", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("inner", ENCODERS.values(), ids=ENCODERS)
def test_redact_secret_encoded_twice_is_found(inner, outer):
    """In any spelling, and in a spelling of a spelling: JSON within JSON, ``%25xx``, HTML of JSON."""
    assert redact(f"you sent {outer(inner(SECRET))}!", [SecretStr(SECRET)]) == "you sent ***!"


@pytest.mark.security
@given(st.text(min_size=4).filter(str.isprintable), st.sampled_from(sorted(ENCODERS)))
def test_redact_any_secret_leaves_no_spelling(secret, encoder):
    """No usual encoding of any password is left in the text."""
    if "\ud800" <= max(secret) <= "\udfff" or (encoder == "unicode escapes" and max(secret) > "\uffff"):
        return
    shown = redact(f"[{ENCODERS[encoder](secret)}]", [SecretStr(secret)])
    assert ENCODERS[encoder](secret) not in shown.replace("***", "") or len(secret.strip("*[]")) == 0
    assert "***" in shown


@pytest.mark.parametrize(
    "spelled", [r"tok\/abc==", r"tok/abc\u003d\u003d", "tok%2fabc%3D%3d", "tok&#47;abc&#x3d;=", "TOK/abc=="]
)
def test_redact_other_spellings_are_found(spelled):
    """As PHP and Gson write JSON, with small letters after a percent sign, as numbers in HTML, in capitals."""
    assert redact(f"you sent {spelled}!", [SecretStr("tok/abc==")]) == "you sent ***!"


def test_redact_several_secrets_in_several_spellings_are_all_found():
    """One spelling does not hide another."""
    secrets = ["pass/word", "t<oken", 'x"y']
    spelled = [
        quote(secrets[0], safe=""),
        secrets[0],
        html.escape(secrets[1]),
        secrets[1],
        in_json(in_json(secrets[2])),
    ]
    assert redact(" ".join(spelled), map(SecretStr, secrets)).split() == ["***"] * 5


@pytest.mark.parametrize("secrets", [[], [""], ["absent"]])
def test_redact_text_without_secrets_stays_as_it_is(secrets):
    """An empty secret redacts nothing, and what is encoded stays encoded."""
    assert redact(r"a text &amp; 100%25 \n", map(SecretStr, secrets)) == r"a text &amp; 100%25 \n"


def test_redact_beginning_half_a_secret_is_not_left_over():
    """Only the beginning of a long text is searched, and a secret that is cut there is dropped."""
    secrets = [SecretStr("short"), SecretStr("s3cret" * 100)]
    shown = redact_beginning("s3cret" * 100 * 1000, secrets)
    assert "s3cret" not in shown
    assert redact_beginning(f"a {'s3cret' * 100} b", secrets) == "a *** b"
    assert redact_beginning("x" * 100_000, secrets).startswith("x" * 500)


@pytest.mark.parametrize("outer", ENCODERS.values(), ids=ENCODERS)
def test_redact_beginning_long_token_costs_less_than_50_ms(outer):
    """A token of 8 KiB, in each spelling, in a response that is longer than what is searched."""
    token = "a1B-" * 2048
    text = f"Bearer {outer(token)} " * 10
    began = time.process_time()
    shown = redact_beginning(text, [SecretStr(token), SecretStr("the-password")])
    assert time.process_time() - began < 0.05
    assert "a1B-" not in shown


@pytest.mark.parametrize("piece", ["%25", "\\\\", "&amp;", "%26amp%3B\\u0025", "a1B-"])
def test_redact_beginning_hostile_text_is_bounded(piece):
    """A mebibyte of nothing but escapes."""
    began = time.process_time()
    redact_beginning(piece * (1024 * 1024 // len(piece)), [SecretStr("a1B-" * 2048)])
    assert time.process_time() - began < 1


@pytest.mark.security
@pytest.mark.parametrize(
    ("address", "passwords"),
    [
        ("http://proxy.example:3128", []),
        ("http://user@proxy.example:3128", []),
        ("http://user:p%40ss@proxy.example:3128", ["p%40ss", "p@ss"]),
        ("http://user:p@ss@proxy.example:not-a-port", ["p@ss"]),
        ("user:secret@proxy", ["secret"]),
        ("socks5://user:secret@proxy", ["secret"]),
    ],
)
def test_proxy_passwords_any_address_is_read(address, passwords):
    """Also of an address that no library can parse: its error would quote it."""
    assert proxy_passwords({"https": address}) == passwords
