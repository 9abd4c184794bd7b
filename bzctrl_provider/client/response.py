"""Turn a response, or the lack of one, into a result or into one error.

The place where statuses, bodies, and the errors of requests and urllib3 become our own errors.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import requests
from pydantic import SecretStr
from urllib3 import exceptions as urllib3_errors

from bzctrl_provider.client.endpoints import is_loopback
from bzctrl_provider.client.redaction import REDACTED, redact
from bzctrl_provider.client.retry import SendFailure, parse_retry_after
from bzctrl_provider.client.todo import CreatedTodo
from bzctrl_provider.client.transport import UntrustedError
from bzctrl_provider.exceptions import (
    BzCtrlAPIError,
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)
from bzctrl_provider.limits import LINE_CHARS, NAME_CHARS
from bzctrl_provider.text import one_line, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.retry import RequestKind

log = logging.getLogger(__name__)

EXCERPT_CHARS = 500

UNKNOWN_ADVICE = "The todo may exist in BzCtrl all the same: look for it there before you create it again."

HTTP_ERRORS = (requests.RequestException, urllib3_errors.HTTPError, http.client.HTTPException, OSError)
"""The errors that are about HTTP. No other one is caught: Airflow ends a task by ``AirflowTaskTimeout``, and 2.11 also by
``AirflowTaskTerminated``, both ``BaseException``. A handler of the user's own that raises an OSError, such as
``TimeoutError``, cannot be distinguished from a socket that does."""

_Error = TypeVar("_Error", bound=BaseException)

_UNSENDABLE = (
    requests.exceptions.InvalidURL,  # also of a proxy
    requests.exceptions.InvalidSchema,  # also of a proxy: socks5:// without PySocks
    requests.exceptions.MissingSchema,
    urllib3_errors.LocationValueError,
)

_GUESSED_CHARS = 8
"""Shorter secrets are words of any text: they are not searched for in the fields of a created todo."""


_TOKEN_CHARS = 8192
"""The longest token that is taken: servers take no longer header, and each error would be searched for it."""

RESPONSE_MAX_BYTES = 1024 * 1024

_NOTHING_CREATED = "Nothing was created."


class RequestInfo(NamedTuple):
    """Say which request a response or an error belongs to.

    :param what: ``token`` or ``create``.
    :param url: where it was sent.
    :param config: the settings of the client.
    :param secrets: the texts that must not be in a message about it.
    """

    what: RequestKind
    url: str
    config: BzCtrlConfig
    secrets: Sequence[SecretStr]

    @property
    def connection(self) -> str:
        """Return how a message calls the place of the address and the credentials."""
        return self.config.connection

    def __str__(self) -> str:
        return f"The {'token' if self.what == 'token' else 'todo'} request to BzCtrl at {self.url}"

    def repeats_secret(self, text: str) -> bool:
        """Return whether a text that came out of JSON holds a secret, as it is."""
        values = [secret.get_secret_value() for secret in self.secrets]
        return any(len(value) >= _GUESSED_CHARS and value in text for value in values)


class Answer(NamedTuple):
    """Hold a response that was read up to ``RESPONSE_MAX_BYTES``.

    :param body: one byte more than ``RESPONSE_MAX_BYTES`` or longer if the response was.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"  # the body may repeat a secret

    @property
    def is_encoded(self) -> bool:
        """Return whether the body has a ``Content-Encoding`` other than ``identity``."""
        return self.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")

    @property
    def is_success(self) -> bool:
        """Return whether the request may have been successful: 2xx, or an interim response without a final one."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES

    def json_object(self) -> dict[str, Any] | None:
        """Return the body if it is a JSON object."""
        if len(self.body) > RESPONSE_MAX_BYTES:
            return None
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None


def parse_token(response: Answer, request_info: RequestInfo) -> tuple[SecretStr, object]:
    """Return the token of a response, and its ``expires_in``.

    :raises BzCtrlAuthError: the credentials were refused.
    :raises BzCtrlAPIError: any other response without a token.
    """
    status = response.status
    if response.is_success:
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


def _granted(response: Answer) -> tuple[SecretStr, object] | None:
    granted = response.json_object() or {}
    token = granted.get("access_token")
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_CHARS:
        return None
    is_header_value = token.isascii() and token.isprintable() and " " not in token
    return (SecretStr(token), granted.get("expires_in")) if is_header_value else None


def parse_created(response: Answer, request_info: RequestInfo, message: Mapping[str, Any]) -> CreatedTodo:
    """Return the created todo.

    :param message: the message that was sent, for values that the response leaves out.
    :raises BzCtrlAPIError: any response that is not a created todo.
    """
    status = response.status
    if not response.is_success:
        raise _status_error(response, request_info)
    created = response.json_object()
    if created is None:
        raise BzCtrlBadAnswerError(
            f"{request_info} was answered with {status}, but with {_what_it_is(response)} instead of the created "
            f"todo{_said(_excerpt(response, request_info))}. {UNKNOWN_ADVICE}",
            status_code=status,
            body_excerpt=_excerpt(response, request_info),
            outcome_unknown=True,
        )

    def fit(text: str) -> str:
        # The texts that were sent are the DAG's own; those that BzCtrl adds go into an XCom as well.
        is_secret = text not in message.values() and request_info.repeats_secret(text)
        return REDACTED if is_secret else plain_text(text)

    names, tags = ("title", "taskType", "description"), created.get("tags")
    texts = {name: fit(value) for name in names if isinstance(value := created.get(name), str)}
    link = _usable_link(created, request_info, title=message["title"])
    return CreatedTodo(
        key=_parse_key(link),
        link=link,
        title=texts.get("title", plain_text(message["title"])),
        todo_type=one_line(texts.get("taskType", message["todoType"]), max_chars=NAME_CHARS),
        description=texts.get("description", plain_text(message["description"])),
        tags=[fit(tag) for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
    )


def _usable_link(created: Mapping[str, Any], request_info: RequestInfo, *, title: str) -> str | None:
    link = web_address(created.get("taskLink"))
    if link and not request_info.repeats_secret(unquote(link)):
        return link
    log.warning(
        "BzCtrl created the todo %s, but its response has no usable link to it (taskLink must be http or https).",
        safe_repr(title, max_chars=LINE_CHARS),
    )
    return None


def refused_fresh_token(response: Answer, request_info: RequestInfo) -> BzCtrlAuthError:
    """Make the error for a token that BzCtrl refused a moment after it had granted it."""
    return BzCtrlAuthError(
        f"{request_info} was answered with 401, and again with a fresh token{_said(_excerpt(response, request_info))}. "
        f"The credentials of {request_info.connection} are right, so its user may lack the right to create todos: ask "
        "BzCtrl's administrator."
    )


def _status_error(response: Answer, request_info: RequestInfo) -> BzCtrlAPIError:
    status, excerpt = response.status, _excerpt(response, request_info)
    came, said = f"{request_info} was answered with {status}", _said(excerpt)
    facts: dict[str, Any] = {"status_code": status, "body_excerpt": excerpt}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
        asked = "" if retry_after_s is None else f" BzCtrl asks to wait {retry_after_s:.0f} s."
        return BzCtrlRateLimitError(
            f"{came} (too many requests){said}, after up to {request_info.config.max_attempts} attempts.{asked} {_NOTHING_CREATED} "
            "Send fewer at a time (max_workers, or a pool of Airflow's), or later.",
            retry_after_s=retry_after_s,
            **facts,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # 503 says that BzCtrl did not take the request on; any other failure may have come after the creation.
        unknown = request_info.what == "create" and status != HTTPStatus.SERVICE_UNAVAILABLE
        advice = UNKNOWN_ADVICE if unknown else f"BzCtrl is out of order: try again later. {_NOTHING_CREATED}"
        return BzCtrlServerError(f"{came}{said}. {advice}", outcome_unknown=unknown, **facts)
    if status < HTTPStatus.BAD_REQUEST:
        target = re.match(r"https?://[\w.-]{1,253}", response.headers.get("Location", ""))
        to = f" to {target[0]}" if target else ""
        advice = f"It is a redirect{to}, and none is followed: correct the host or the environment of {{connection}}."
    else:
        advice = _REMEDIES.get(status, "The same request would be refused again: correct what BzCtrl says.")
    advice = advice.format(connection=request_info.connection)
    return BzCtrlRejectedError(f"{came}{said}. {advice}", **facts)


_REMEDIES: dict[int, str] = {
    HTTPStatus.FORBIDDEN: (
        "The user of {connection} may lack the right to this, or a proxy is in the way: ask BzCtrl's administrator."
    ),
    HTTPStatus.NOT_FOUND: (
        "BzCtrl is not at this address: check the environment of {connection}, or its host, which is only the base URL."
    ),
}


def _is_invalid_grant(response: Answer) -> bool:
    """Return whether credentials were refused as RFC 6749, section 5.2, says: a 400 with this code."""
    error = (response.json_object() or {}).get("error")
    return response.status == HTTPStatus.BAD_REQUEST and error == "invalid_grant"


def _what_it_is(response: Answer) -> str:
    if response.is_encoded:
        return "a compressed body, which was not asked for"
    if len(response.body) > RESPONSE_MAX_BYTES:
        return "more than 1 MiB"
    if response.body.lstrip()[:1] == b"<":
        return "a web page"
    return "a JSON object" if response.json_object() is not None else "no JSON object"


def _excerpt(response: Answer, request_info: RequestInfo) -> str:
    if request_info.what == "token":
        # Anything else may be a token; RFC 6749, section 5.2, names these two.
        error = response.json_object() or {}
        said = [error.get(name) for name in ("error", "error_description")]
        text = ": ".join(part for part in said if isinstance(part, str))
    else:
        text = response.body.decode("utf-8", "replace")
    # Redacted before it is cut: half a secret would not be recognised.
    return one_line(redact(text, request_info.secrets), max_chars=EXCERPT_CHARS)


def _said(excerpt: str) -> str:
    if excerpt.startswith("<"):  # of a page what a person reads, the last tag may be cut off
        excerpt = " ".join(re.sub(r"<[^>]*(>|$)", " ", excerpt).split())
    return f' and said "{excerpt}"' if excerpt else ""


def _parse_key(link: str | None) -> str | None:
    parts = urlsplit(link or "")
    last = (parts.fragment or parts.path).partition("?")[0].rstrip("/").rpartition("/")[2]
    key = unquote(last)
    return key if key.isprintable() and len(key) <= NAME_CHARS and key else None


def without_frames(exc: _Error) -> _Error:
    """Strip an error and its causes of the frames of requests and urllib3, which hold the request with its secrets.

    Tracebacks with local variables would show them, as Airflow 3.0's console does. The frames of the caller are added when
    the error is raised again.
    """
    cause: BaseException | None = exc
    while cause is not None:
        cause.__traceback__ = None
        if isinstance(cause, requests.RequestException):
            cause.request = cause.response = None
        cause = cause.__cause__ or cause.__context__
    return exc


def classify(exc: Exception) -> SendFailure:
    """Return how far a request came before an error of requests; if in doubt, that it was sent."""
    reason = _reason(exc)
    # A connection through SOCKS is not one of ours, and has urllib3's error for a certificate.
    causes = (reason, *getattr(reason, "args", ()))
    if any(isinstance(cause, UntrustedError | ssl.SSLCertVerificationError) for cause in causes):
        return SendFailure.UNTRUSTED
    if isinstance(reason, urllib3_errors.ConnectTimeoutError):
        return SendFailure.NOT_CONNECTED
    # requests checks the CA file before it connects, and says so with a plain OSError.
    if isinstance(exc, _UNSENDABLE) or type(exc) is OSError:
        return SendFailure.UNSENDABLE
    return SendFailure.NO_RESPONSE


def _reason(exc: BaseException) -> object:
    """Return the error that requests and urllib3 have wrapped."""
    reason: object = exc.args[0] if exc.args else exc
    if isinstance(reason, urllib3_errors.MaxRetryError):
        reason = reason.reason
    if isinstance(reason, urllib3_errors.ProxyError):
        reason = reason.original_error
    return reason


_NO_RESPONSE = {
    SendFailure.UNTRUSTED: (
        "was not sent: the server's certificate was refused ({why}). If it comes from an authority of your own, set the "
        "extra ca_bundle of {connection} to its file; if it is another host's, correct the host."
    ),
    SendFailure.NOT_CONNECTED: (
        "was not sent: no connection (attempts: {attempts}; {why}). Check the host of {connection}, that BzCtrl is up, and "
        "that this machine may reach it, directly or through the proxy of its environment (HTTPS_PROXY, NO_PROXY)."
    ),
    SendFailure.UNSENDABLE: (
        "was not sent: {why}. Check the host and the extra ca_bundle of {connection}, and the proxy and the CA file of this "
        "machine's environment."
    ),
    SendFailure.NO_RESPONSE: "was sent, but no whole response came ({why}). {advice}",
}


def transport_error(exc: Exception, request_info: RequestInfo) -> BzCtrlTransportError:
    """Make the error that says why no response came, and whether BzCtrl may have acted on the request."""
    failure = classify(exc)
    why = one_line(redact(_in_words(_reason(exc)), request_info.secrets), max_chars=EXCERPT_CHARS).rstrip(".")
    connection = request_info.connection
    unknown = failure is SendFailure.NO_RESPONSE and request_info.what == "create"
    no_token = f"{_NOTHING_CREATED} Try again, or raise the extra timeout_s of {connection}."
    what = _NO_RESPONSE[failure].format(
        why=why,
        connection=connection,
        attempts=request_info.config.max_attempts,
        advice=UNKNOWN_ADVICE if unknown else no_token,
    )
    return BzCtrlTransportError(
        f"{request_info} {what}{_first_steps(why, request_info)}", outcome_unknown=unknown
    )


def _first_steps(why: str, request_info: RequestInfo) -> str:
    """Return more advice for the two mistakes of a first connection to the sandbox."""
    if "WRONG_VERSION_NUMBER" in why:
        return " The server speaks no TLS there: if that is right, write http:// before the host."
    if "Connection refused" in why and is_loopback(request_info.url):
        return " That host is this machine itself, or in a container the container: start the sandbox (bzctrl-sandbox) there."
    return ""


def _in_words(reason: object) -> str:
    """Return the message of an error without the objects, tuples and numbers that urllib3 and OpenSSL put around it."""
    if isinstance(reason, urllib3_errors.ProtocolError) and len(reason.args) > 1:
        reason = f"{str(reason.args[0]).rstrip('.')}: {reason.args[1]}"
    text = re.sub(r"^\w+\(host=.*?\): ", "", str(reason))
    text = re.sub(
        r"\. \(read timeout=([\d.]+)\)", lambda match: f": nothing came for {float(match[1]):.3g} s", text
    )
    return re.sub(r" \(_ssl\.c:\d+\)|_ssl\.c:\d+: ", "", text)
