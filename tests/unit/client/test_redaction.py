from __future__ import annotations

import html
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bzctrl_provider.client.requester import proxy_passwords
from bzctrl_provider.client.response import redact


def in_json(text):
    return json.dumps(text)[1:-1]


ENCODERS = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, small letters": lambda text: "".join(
        char if quote(char, safe="") == char else quote(char, safe="").lower() for char in text
    ),
    "form": quote_plus,
    "JSON": in_json,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of PHP": lambda text: in_json(text).replace("/", r"\/"),
    "HTML": html.escape,
    "HTML with &apos;": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
    "HTML with &#039;": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "HTML without quotes": lambda text: html.escape(text, quote=False),
}


PRINTABLE = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" ")


@pytest.mark.security
@given(st.text(PRINTABLE, min_size=4), st.sampled_from(sorted(ENCODERS)))
def test_redact_any_secret_leaves_no_spelling(secret, encoder):
    """No usual encoding of any password is left in the text."""
    shown = redact(f"[{ENCODERS[encoder](secret)}]", [SecretStr(secret)])
    assert ENCODERS[encoder](secret) not in shown.replace("***", "") or len(secret.strip("*[]")) == 0
    assert "***" in shown


@pytest.mark.security
def test_redact_several_secrets_in_several_spellings_are_all_found():
    """One spelling does not hide another; an empty secret redacts nothing, and other text stays as it is."""
    secrets = ["pass/word", "t<oken", "x\"y'z é", ""]
    spelled = [encode(secret) for secret in secrets[:3] for encode in ENCODERS.values()]
    assert redact("|".join(spelled), map(SecretStr, secrets)) == "|".join(["***"] * len(spelled))
    for none in ([], [""], ["absent"]):
        assert redact(r"a text &amp; 100%25 \n", map(SecretStr, none)) == r"a text &amp; 100%25 \n"


@pytest.mark.security
def test_redact_half_a_secret_is_not_left_over():
    """Only the beginning of a long text is searched, and a secret that is cut there is dropped; in bounded time."""
    secrets = [SecretStr("short"), SecretStr("s3cret" * 100)]
    assert "s3cret" not in redact("s3cret" * 100 * 1000, secrets)
    assert redact(f"a {'s3cret' * 100} b", secrets) == "a *** b"
    assert redact("x" * 100_000, secrets).startswith("x" * 500)
    token = "a1B-" * 2048
    for piece in ("%25", "\\\\", "&amp;", "a1B-", token, f"Bearer {token} "):
        began = time.process_time()
        shown = redact(piece * (1024 * 1024 // len(piece)), [SecretStr(token)])
        assert time.process_time() - began < 1
        assert token not in shown


@pytest.mark.security
def test_proxy_passwords_any_address_is_read():
    """Also of an address that no library can parse: its error would quote it."""
    table = {
        "http://proxy.example:3128": [],
        "http://user@proxy.example:3128": [],
        "http://user:p%40ss@proxy.example:3128": ["p%40ss", "p@ss"],
        "http://user:p@ss@proxy.example:not-a-port": ["p@ss"],
        "user:secret@proxy": ["secret"],
        "socks5://user:secret@proxy": ["secret"],
    }
    for address, passwords in table.items():
        assert proxy_passwords({"https": address}) == passwords
