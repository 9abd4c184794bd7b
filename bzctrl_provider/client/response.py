"""What an answer means: the one place where requests' errors, statuses and bodies become our own errors."""

from __future__ import annotations

import html
import json
import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote_plus, unquote, urlsplit

import requests
from pydantic import SecretStr
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    ProtocolError,
    ProxyError,
)

from bzctrl_provider.client.endpoints import is_loopback
from bzctrl_provider.client.retry import parse_retry_after
from bzctrl_provider.client.todo import CreatedTodo
from bzctrl_provider.client.transport import ANSWER_MAX_BYTES
from bzctrl_provider.exceptions import (
    BzCtrlAPIError,
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)
from bzctrl_provider.text import one_line, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from requests import Response

log = logging.getLogger(__name__)

_Error = TypeVar("_Error", bound=BaseException)

_EXCERPT_CHARS = 500

_TOKEN_CHARS = 8192
"""The longest token that is taken: servers take no longer header, and each error would be searched for it."""

_KEY_CHARS = 200

_GUESSED_CHARS = 8
"""Shorter secrets are words that stand in any text: what BzCtrl says of a created todo is not searched for them."""

_REDACTED_CHARS = 50_000
"""How much of an answer is looked through for secrets: a hostile one could take seconds."""

_NOTHING_CREATED = "Nothing was created."
_UNKNOWN_ADVICE = "The todo may exist in BzCtrl all the same: look for it there before you create it again."


@dataclass(frozen=True)
class RequestInfo:
    """Which request it is that an answer belongs to.

    :param what: ``token`` or ``create``.
    :param url: where it was sent.
    :param attempts: how often it was sent at the most.
    :param secrets: what must not be told of it.
    :param connection: what the place of the address and the credentials is called in a message.
    """

    what: str
    url: str
    attempts: int
    secrets: Sequence[SecretStr]
    connection: str = "the connection"

    def __str__(self) -> str:
        return f"The {'token' if self.what == 'token' else 'todo'} request to BzCtrl at {self.url}"

    def redact(self, text: str) -> str:
        """Blot the secrets out of a text, also as they look in a form, in JSON and in HTML."""
        return redacted(text, self.secrets)

    def repeats_secret(self, text: str) -> bool:
        """Tell whether a text that came out of JSON holds a secret, as it is."""
        values = [secret.get_secret_value() for secret in self.secrets]
        return any(len(value) >= _GUESSED_CHARS and value in text for value in values)

    def redact_beginning(self, text: str) -> str:
        """Do the same with the beginning of a text that may be long, and never leave half a secret at its end."""
        if len(text) <= _REDACTED_CHARS:
            return self.redact(text)
        longest = max(len(secret.get_secret_value()) for secret in self.secrets)
        # `&#x10ffff;` is the longest that one character can be written.
        return self.redact(text[:_REDACTED_CHARS])[: -10 * longest or None]


def redacted(text: str, secrets: Iterable[SecretStr]) -> str:
    """Blot each secret out of a text, however its characters are written in forms, JSON and HTML."""
    for secret in secrets:
        value = secret.get_secret_value()
        if value:
            text = re.sub("".join(map(_any_spelling, value)), "***", text, flags=re.IGNORECASE)
    return text


def _any_spelling(char: str) -> str:
    """Return a pattern for a character as it is, or as an address, JSON or HTML may write it."""
    utf16 = char.encode("utf-16-be", "surrogatepass").hex()
    spellings = {
        char,
        quote_plus(char, errors="replace"),
        "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass")),
        json.dumps(char)[1:-1],
        "".join(f"\\u{utf16[start : start + 4]}" for start in range(0, len(utf16), 4)),
        f"\\{char}",
        html.escape(char),
        f"&#{ord(char)};",
        f"&#x{ord(char):x};",
    }
    return (
        "(?:" + "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True)) + ")"
    )


def without_frames(exc: _Error) -> _Error:
    """Strip an error and its causes of their frames, some of which hold a request with its secrets.

    Tracebacks with local variables would show them, as Airflow 3.0's console does.
    """
    cause: BaseException | None = exc
    while cause is not None:
        cause.__traceback__ = None
        if isinstance(cause, requests.RequestException):
            cause.request = cause.response = None
        cause = cause.__cause__ or cause.__context__
    return exc


def transport_error(exc: Exception, request_info: RequestInfo) -> BzCtrlTransportError:
    """Say that no answer came, and whether BzCtrl may have acted on the request."""
    reason: object = exc.args[0] if exc.args else exc
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, ProxyError):
        reason = reason.original_error
    why = one_line(request_info.redact(_in_words(reason)), max_chars=_EXCERPT_CHARS)
    if isinstance(exc, requests.exceptions.SSLError):
        return BzCtrlTransportError(
            f"{request_info} was not sent: the server's certificate was refused ({why}). "
            + (
                f"It is another host's: check the host of {request_info.connection}."
                if "mismatch" in why
                else "If it comes from an authority of your own, set the extra ca_bundle of "
                f"{request_info.connection} to its file."
            )
        )
    if isinstance(reason, ConnectTimeoutError):
        return BzCtrlTransportError(
            f"{request_info} was not sent: no connection (attempts: {request_info.attempts}; {why}). "
            + _why_no_connection(reason, why, request_info)
        )
    if isinstance(exc, requests.exceptions.InvalidURL | requests.exceptions.InvalidProxyURL):
        return BzCtrlTransportError(
            f"{request_info} was not sent: {why}. Check the host of {request_info.connection}, and the proxy."
        )
    unknown = request_info.what == "create"
    advice = f"Nothing was created: try again, or raise the extra timeout_s of {request_info.connection}."
    if request_info.url.startswith("http:") and "timed out" not in why:
        advice = (
            "Nothing was created: try again. If the server speaks https only, write https:// before the host of "
            f"{request_info.connection}."
        )
    return BzCtrlTransportError(
        f"{request_info} was sent, but no whole answer came ({why}). {_UNKNOWN_ADVICE if unknown else advice}",
        outcome_unknown=unknown,
    )


def _in_words(reason: object) -> str:
    """Return what went wrong without the objects, tuples and numbers that urllib3 and OpenSSL put around it."""
    if isinstance(reason, ProtocolError) and len(reason.args) > 1:
        reason = f"{str(reason.args[0]).rstrip('.')}: {reason.args[1]}"
    text = re.sub(r"^\w+\(host=.*?\): ", "", str(reason))
    text = re.sub(
        r"\. \(read timeout=([\d.]+)\)", lambda match: f": nothing came for {float(match[1]):.3g} s", text
    )
    return re.sub(r" \(_ssl\.c:\d+\)|_ssl\.c:\d+: ", "", text)


def _why_no_connection(reason: ConnectTimeoutError, why: str, request_info: RequestInfo) -> str:
    if isinstance(reason, NameResolutionError):
        return f"Check the host of {request_info.connection}, and that this machine can look names up."
    if "WRONG_VERSION_NUMBER" in why:
        return (
            "The server speaks no TLS there: if it is meant to, write http:// before the host of "
            f"{request_info.connection}."
        )
    if "Tunnel connection failed" in why:
        return (
            "The proxy of this machine's environment (HTTPS_PROXY) refused: correct it there, or name BzCtrl's host in "
            "NO_PROXY."
        )
    if is_loopback(urlsplit(request_info.url).hostname or "") and "refused" in why:
        return (
            "Nothing listens there. That address is this machine itself, or in a container the container: start the "
            f"sandbox (bzctrl-sandbox), or correct the host of {request_info.connection}."
        )
    return "Check that BzCtrl is up, and that this machine may reach it, directly or through its proxy."


def parse_token(response: Response, request_info: RequestInfo) -> tuple[SecretStr, object]:
    """Return the token of an answer, and what it says of its life.

    :raises BzCtrlAuthError: the credentials were refused.
    :raises BzCtrlAPIError: any other answer without a token.
    """
    status = response.status_code
    if _is_success(status):
        if (granted := _granted(response)) is not None:
            return granted
        # Without an excerpt: it may hold a token in a place where we do not look for it.
        raise BzCtrlBadAnswerError(
            f"{request_info} was answered with {status}, but without a usable access_token: what came is {_what_it_is(response)}. "
            f"Check that the host or the environment of {request_info.connection} is BzCtrl's.",
            status_code=status,
        )
    if status == HTTPStatus.UNAUTHORIZED or _is_invalid_grant(response):
        raise BzCtrlAuthError(
            f"{request_info} was answered with {status}: BzCtrl refused the username or the password"
            f"{_said(_excerpt(response, request_info))}. "
            f"Check Login and Password of {request_info.connection}, and that they belong to its host or environment."
        )
    raise _status_error(response, request_info)


def _granted(response: Response) -> tuple[SecretStr, object] | None:
    answer = _json_object(response) or {}
    token = answer.get("access_token")
    # Of visible ASCII alone, so that it can be a header.
    if isinstance(token, str) and len(token) <= _TOKEN_CHARS and re.fullmatch(r"[\x21-\x7e]+", token):
        return SecretStr(token), answer.get("expires_in")
    return None


def parse_created(response: Response, request_info: RequestInfo, message: Mapping[str, Any]) -> CreatedTodo:
    """Return what was created.

    :param message: what was sent, for what the answer leaves out.
    :raises BzCtrlAPIError: any other answer.
    """
    status = response.status_code
    if not _is_success(status):
        raise _status_error(response, request_info)
    answer = _json_object(response)
    if answer is None:
        raise BzCtrlBadAnswerError(
            f"{request_info} was answered with {status}, but with {_what_it_is(response)} instead of the created "
            f"todo{_said(_excerpt(response, request_info))}. {_UNKNOWN_ADVICE}",
            status_code=status,
            body_excerpt=_excerpt(response, request_info),
            outcome_unknown=True,
        )
    link = web_address(answer.get("taskLink"))
    if link and request_info.repeats_secret(unquote(link)):
        link = None
    if link is None:
        log.warning(
            "BzCtrl created the todo %s, but its answer has no usable link to it (taskLink must be http or https).",
            safe_repr(message["title"], max_chars=300),
        )
    tags = answer.get("tags")
    sent = {value for value in message.values() if isinstance(value, str)}

    def fit(text: str) -> str:
        # What was sent comes from the DAG itself; what BzCtrl adds goes into an XCom as well.
        return "***" if text not in sent and request_info.repeats_secret(text) else plain_text(text)

    def text(answered: str, key: str) -> str:
        return fit(str(answer[answered] if isinstance(answer.get(answered), str) else message[key]))

    return CreatedTodo(
        key=_parse_key(link) if link else None,
        link=link,
        title=text("title", "title"),
        todo_type=one_line(text("taskType", "todoType"), max_chars=_KEY_CHARS),
        description=text("description", "description"),
        tags=[fit(tag) for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
    )


def refused_fresh_token(response: Response, request_info: RequestInfo) -> BzCtrlAuthError:
    """Say that BzCtrl refused a token that it had granted a moment before."""
    return BzCtrlAuthError(
        f"{request_info} was answered with 401, and again with a fresh token{_said(_excerpt(response, request_info))}. "
        f"The credentials of {request_info.connection} are right, so its user may lack the right to create todos: ask "
        "BzCtrl's administrator."
    )


def _status_error(response: Response, request_info: RequestInfo) -> BzCtrlAPIError:
    status = response.status_code
    excerpt = _excerpt(response, request_info)
    came = f"{request_info} was answered with {status}"
    said = _said(excerpt)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
        asked = "" if retry_after_s is None else f" BzCtrl asks to wait {retry_after_s:.0f} s."
        return BzCtrlRateLimitError(
            f"{came} (too many requests){said}, after up to {request_info.attempts} attempts.{asked} {_NOTHING_CREATED} "
            "Send fewer at a time (max_workers, or a pool of Airflow's), or later.",
            status_code=status,
            body_excerpt=excerpt,
            retry_after_s=retry_after_s,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # 503 says that BzCtrl did not take the request on; any other failure may have come after the creation.
        unknown = request_info.what == "create" and status != HTTPStatus.SERVICE_UNAVAILABLE
        advice = (
            _UNKNOWN_ADVICE if unknown else f"BzCtrl is out of order: try again later. {_NOTHING_CREATED}"
        )
        return BzCtrlServerError(
            f"{came}{said}. {advice}", status_code=status, body_excerpt=excerpt, outcome_unknown=unknown
        )
    if status < HTTPStatus.BAD_REQUEST:
        target = re.match(r"https?://[\w.-]{1,253}", response.headers.get("Location", ""))
        to = f" to {target[0]}" if target else ""
        advice = (
            f"It is a redirect{to}, and none is followed: correct the host or the environment of "
            f"{request_info.connection}."
        )
    else:
        advice = _REMEDIES.get(
            status, "The same request would be refused again: mend what BzCtrl says."
        ).format(connection=request_info.connection)
    return BzCtrlRejectedError(f"{came}{said}. {advice}", status_code=status, body_excerpt=excerpt)


_NOT_THERE = "BzCtrl is not at this address: check the environment of {connection}, or its host, which is the base URL alone."

_REMEDIES: dict[int, str] = {
    HTTPStatus.FORBIDDEN: (
        "The user of {connection} may lack the right to this, or a proxy is in the way: ask BzCtrl's administrator."
    ),
    HTTPStatus.NOT_FOUND: _NOT_THERE,
    HTTPStatus.METHOD_NOT_ALLOWED: _NOT_THERE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "The todo is too large for BzCtrl, or for a proxy before it: shorten its texts, the description above all."
    ),
}


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _json_object(response: Response) -> dict[str, Any] | None:
    if len(response.content) > ANSWER_MAX_BYTES:
        return None
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _is_invalid_grant(response: Response) -> bool:
    """RFC 6749, section 5.2: refused credentials are a 400 with this code."""
    answer = _json_object(response) or {}
    return response.status_code == HTTPStatus.BAD_REQUEST and answer.get("error") == "invalid_grant"


def _what_it_is(response: Response) -> str:
    if _json_object(response) is not None:
        return "a JSON object"
    if not response.content:
        return "nothing"
    if len(response.content) > ANSWER_MAX_BYTES:
        return "more than 1 MiB"
    if response.content.lstrip()[:1] == b"<":
        return "a web page"
    return "something that is no JSON object"


def _excerpt(response: Response, request_info: RequestInfo) -> str:
    text = response.content[:ANSWER_MAX_BYTES].decode("utf-8", "replace")
    if request_info.what == "token":
        # Whatever else is in it may be a token; RFC 6749, section 5.2, names these two.
        answer = _json_object(response)
        if answer is not None:
            said = [answer.get(name) for name in ("error", "error_description")]
            text = ": ".join(part for part in said if isinstance(part, str))
    # Blotted out before it is cut: half a secret would not be recognised.
    text = request_info.redact_beginning(text)
    return one_line(text, max_chars=_EXCERPT_CHARS)


def _said(excerpt: str) -> str:
    if excerpt.startswith("<"):  # of a page what a person reads, the last tag may be cut off
        excerpt = " ".join(re.sub(r"<[^>]*(>|$)", " ", excerpt).split())
    return f' and said "{excerpt}"' if excerpt else ""


def _parse_key(link: str) -> str | None:
    parts = urlsplit(link)
    last = (parts.fragment or parts.path).partition("?")[0].rstrip("/").rpartition("/")[2]
    key = unquote(last)
    return key if key.isprintable() and len(key) <= _KEY_CHARS and key else None
