"""Which request it is, and why it has no response: the place where requests' and urllib3's errors become our own."""

from __future__ import annotations

import http.client
import re
import ssl
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    ProtocolError,
    ProxyError,
)

from bzctrl_provider.client.endpoints import is_loopback
from bzctrl_provider.client.redaction import redact
from bzctrl_provider.client.retry import SendFailure
from bzctrl_provider.client.transport import UntrustedError
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from bzctrl_provider.client.retry import RequestKind

EXCERPT_CHARS = 500

UNKNOWN_ADVICE = "The todo may exist in BzCtrl all the same: look for it there before you create it again."

HTTP_ERRORS = (requests.RequestException, HTTPError, http.client.HTTPException, OSError)
"""The errors that are about HTTP. No other one is caught: Airflow ends a task by ``AirflowTaskTimeout``, and 2.11 also by
``AirflowTaskTerminated``, both ``BaseException``. A handler of the user's own that raises an OSError, such as
``TimeoutError``, cannot be distinguished from a socket that does."""

_Error = TypeVar("_Error", bound=BaseException)

_UNSENDABLE = (
    requests.exceptions.InvalidURL,  # also of a proxy
    requests.exceptions.InvalidSchema,  # also of a proxy: socks5:// without PySocks
    requests.exceptions.MissingSchema,
    LocationValueError,
)

_GUESSED_CHARS = 8
"""Shorter secrets are words of any text: they are not searched for in the fields of a created todo."""


class RequestInfo(NamedTuple):
    """Say which request a response or an error belongs to.

    :param what: ``token`` or ``create``.
    :param url: where it was sent.
    :param attempts: how often it is sent at most.
    :param secrets: the texts that must not be in a message about it.
    :param connection: how a message calls the place of the address and the credentials.
    """

    what: RequestKind
    url: str
    attempts: int
    secrets: Sequence[SecretStr]
    connection: str = "the connection"

    def __str__(self) -> str:
        return f"The {'token' if self.what == 'token' else 'todo'} request to BzCtrl at {self.url}"

    def repeats_secret(self, text: str) -> bool:
        """Return whether a text that came out of JSON holds a secret, as it is."""
        values = [secret.get_secret_value() for secret in self.secrets]
        return any(len(value) >= _GUESSED_CHARS and value in text for value in values)


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
    if isinstance(reason, UntrustedError) or _is_refused_certificate(reason):
        return SendFailure.UNTRUSTED
    if isinstance(reason, ConnectTimeoutError):
        return SendFailure.NOT_CONNECTED
    # requests checks the CA file before it connects, and says so with a plain OSError.
    if isinstance(exc, _UNSENDABLE) or type(exc) is OSError:
        return SendFailure.UNSENDABLE
    return SendFailure.NO_RESPONSE


def _reason(exc: BaseException) -> object:
    """Return the error that requests and urllib3 have wrapped."""
    reason: object = exc.args[0] if exc.args else exc
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, ProxyError):
        reason = reason.original_error
    return reason


def _is_refused_certificate(reason: object) -> bool:
    # A connection through SOCKS is not one of ours, and says it in this way.
    args = reason.args if isinstance(reason, Exception) else ()
    return isinstance(reason, ssl.SSLCertVerificationError) or any(
        isinstance(arg, ssl.SSLCertVerificationError) for arg in args
    )


def transport_error(exc: Exception, request_info: RequestInfo) -> BzCtrlTransportError:
    """Make the error that says why no response came, and whether BzCtrl may have acted on the request."""
    reason = _reason(exc)
    why = one_line(redact(_in_words(reason), request_info.secrets), max_chars=EXCERPT_CHARS)
    failure = classify(exc)
    if failure is SendFailure.UNTRUSTED:
        return BzCtrlTransportError(
            f"{request_info} was not sent: the server's certificate was refused ({why}). "
            + _why_untrusted(why, request_info)
        )
    if failure is SendFailure.NOT_CONNECTED:
        return BzCtrlTransportError(
            f"{request_info} was not sent: no connection (attempts: {request_info.attempts}; {why}). "
            + _why_no_connection(reason, why, request_info)
        )
    if failure is SendFailure.UNSENDABLE:
        return BzCtrlTransportError(
            f"{request_info} was not sent: {why.rstrip('.')}. Check the host and the extra ca_bundle of "
            f"{request_info.connection}, and the proxy and the CA file of this machine's environment."
        )
    unknown = request_info.what == "create"
    return BzCtrlTransportError(
        f"{request_info} was sent, but no whole response came ({why}). "
        + (UNKNOWN_ADVICE if unknown else _why_no_token(why, request_info)),
        outcome_unknown=unknown,
    )


def _in_words(reason: object) -> str:
    """Return the message of an error without the objects, tuples and numbers that urllib3 and OpenSSL put around it."""
    if isinstance(reason, ProtocolError) and len(reason.args) > 1:
        reason = f"{str(reason.args[0]).rstrip('.')}: {reason.args[1]}"
    text = re.sub(r"^\w+\(host=.*?\): ", "", str(reason))
    text = re.sub(
        r"\. \(read timeout=([\d.]+)\)", lambda match: f": nothing came for {float(match[1]):.3g} s", text
    )
    return re.sub(r" \(_ssl\.c:\d+\)|_ssl\.c:\d+: ", "", text)


def _why_untrusted(why: str, request_info: RequestInfo) -> str:
    if "mismatch" in why:
        return f"It is another host's: check the host of {request_info.connection}."
    return (
        "If it comes from an authority of your own, set the extra ca_bundle of "
        f"{request_info.connection} to its file."
    )


def _why_no_token(why: str, request_info: RequestInfo) -> str:
    if request_info.url.startswith("http:") and "timed out" not in why:
        return (
            "Nothing was created: try again. If the server speaks https only, write https:// before the host of "
            f"{request_info.connection}."
        )
    return f"Nothing was created: try again, or raise the extra timeout_s of {request_info.connection}."


def _why_no_connection(reason: object, why: str, request_info: RequestInfo) -> str:
    if isinstance(reason, NameResolutionError):
        return f"Check the host of {request_info.connection}, and that this machine can look names up."
    if "WRONG_VERSION_NUMBER" in why:
        return (
            "The server speaks no TLS there: if that is right, write http:// before the host of "
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
