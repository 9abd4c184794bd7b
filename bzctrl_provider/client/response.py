"""Turn a response, or the lack of one, into a result or into one error, without secrets.

The place where statuses, bodies, and the errors of requests and urllib3 become our own errors.
"""

from __future__ import annotations

import html
import json
import logging
import re
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import SecretStr
from requests.exceptions import InvalidSchema, InvalidURL
from urllib3 import exceptions as urllib3_errors

from bzctrl_provider.client.config import is_loopback
from bzctrl_provider.client.retry import SendFailure, parse_retry_after
from bzctrl_provider.client.todo import CreatedTodo
from bzctrl_provider.exceptions import (
    BzCtrlAPIError,
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)
from bzctrl_provider.text import LINE_CHARS, NAME_CHARS, one_line, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import requests

    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.retry import RequestKind

log = logging.getLogger(__name__)

EXCERPT_CHARS = 500

UNKNOWN_ADVICE = "The todo may exist in BzCtrl all the same: look for it there before you create it again."

# Of the address or of a proxy, such as socks5:// without PySocks.
_UNSENDABLE = (InvalidURL, InvalidSchema, urllib3_errors.LocationValueError)

_GUESSED_CHARS = 8
"""Shorter secrets are words of any text: they are not searched for in the fields of a created todo."""

RESPONSE_MAX_BYTES = 1024 * 1024

_OF_A_TODO = ("title", "taskType", "description", "taskLink", "tags")
"""The keys of a created todo; a response has at least one of them."""

_NOTHING_CREATED = "Nothing was created."


class UntrustedError(urllib3_errors.NewConnectionError):
    """A server's certificate that was refused, or a CA file that cannot be used: nothing was sent."""


class RequestInfo(NamedTuple):
    """The request that a response or an error belongs to.

    :param what: ``token`` or ``create``.
    :param url: where it was sent.
    :param config: the settings of the client.
    :param secrets: the texts that must not be in a message about it.
    """

    what: RequestKind
    url: str
    config: BzCtrlConfig
    secrets: Sequence[SecretStr]

    def __str__(self) -> str:
        return f"The {'token' if self.what == 'token' else 'todo'} request to BzCtrl at {self.url}"

    def quote(self, text: str) -> str:
        """Return the beginning of another system's text as one line without secrets."""
        # Redacted before it is cut: half a secret would not be recognised.
        return one_line(redact(text, self.secrets), max_chars=EXCERPT_CHARS)

    def repeats_secret(self, text: str) -> bool:
        """Return whether a text that came out of JSON holds a secret, as it is."""
        values = [secret.get_secret_value() for secret in self.secrets]
        return any(len(value) >= _GUESSED_CHARS and value in text for value in values)


class Answer(NamedTuple):
    """A response that was read up to ``RESPONSE_MAX_BYTES``.

    :param request: the request that it answers.
    :param body: one byte more than ``RESPONSE_MAX_BYTES`` or longer if the response was.
    """

    request: RequestInfo
    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray

    @classmethod
    def read(cls, response: requests.Response, request: RequestInfo) -> Answer:
        """Read a response up to ``RESPONSE_MAX_BYTES``."""
        answer = cls(request, response.status_code, response.headers, body := bytearray())
        # None was asked for, and 1 KB can become 4 GiB when it is decoded; and after an interim response comes another one.
        if not answer.is_encoded() and answer.status >= HTTPStatus.OK:
            raw = response.raw
            while len(body) <= RESPONSE_MAX_BYTES and (chunk := raw.read(65_536, decode_content=False)):
                body += chunk
        # Closes the connection, unless the response was read to its end.
        response.close()
        return answer

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"  # the body may repeat a secret

    def is_encoded(self) -> bool:
        """Return whether the body has a ``Content-Encoding`` other than ``identity``."""
        return self.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")

    def json_object(self) -> dict[str, Any] | None:
        """Return the body if it is a JSON object."""
        if len(self.body) > RESPONSE_MAX_BYTES:
            return None
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def facts(self) -> dict[str, Any]:
        """Return what an error has of it."""
        return {"status_code": self.status, "body_excerpt": self.excerpt()}

    def excerpt(self) -> str:
        """Return what BzCtrl says, as an error may show it."""
        if self.request.what == "create":
            return self.request.quote(self._readable_body())
        # Anything else may be a token; RFC 6749, section 5.2, names these two.
        error = self.json_object() or {}
        said = [error.get(name) for name in ("error", "error_description")]
        return self.request.quote(": ".join(part for part in said if isinstance(part, str)))

    def _readable_body(self) -> str:
        """Return the body, of an object with its long values last: Spring writes the trace before the message."""
        error = self.json_object() or {}
        parts = sorted(error.items(), key=lambda part: max(len(json.dumps(part[1])), NAME_CHARS))
        if parts != list(error.items()):
            return json.dumps(dict(parts), ensure_ascii=False)
        return self.body.decode("utf-8", "replace")


def parse_token(answer: Answer) -> tuple[SecretStr, object]:
    """Return the token of a response, and its ``expires_in``.

    :raises BzCtrlAuthError: the credentials were refused.
    :raises BzCtrlAPIError: any other response without a token.
    """
    status, connection = answer.status, answer.request.config.connection
    if status < HTTPStatus.MULTIPLE_CHOICES:  # an interim response without a final one, too
        if (granted := _granted(answer)) is not None:
            return granted
        # Without an excerpt: it may hold a token in a place where we do not look for it.
        raise BzCtrlBadAnswerError(
            f"{answer.request} was answered with {status}, but without a usable access_token: what came is {_what_it_is(answer)}. "
            f"Check that the host or the environment of {connection} is BzCtrl's.",
            status_code=status,
        )
    if status == HTTPStatus.UNAUTHORIZED or _is_refusal(answer, "invalid_grant"):
        raise BzCtrlAuthError(
            f"{_came(answer, ': BzCtrl refused the username or the password')}. "
            f"Check Login and Password of {connection}, and that they belong to its host or environment."
        )
    raise _status_error(answer)


def _granted(answer: Answer) -> tuple[SecretStr, object] | None:
    """Return the token; not in its caller, which raises errors: tracebacks with local variables would show the content."""
    content = answer.json_object() or {}
    token = content.get("access_token")
    # Servers take no longer header, and each error would be searched for it.
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,8192}", token):
        return None
    return SecretStr(token), content.get("expires_in")


def refuses_token(answer: Answer) -> bool:
    """Return whether BzCtrl refused the token of a request: with a 401, or as some servers do with a 400."""
    return answer.status == HTTPStatus.UNAUTHORIZED or _is_refusal(answer, "invalid_token")


def _is_refusal(answer: Answer, code: str) -> bool:
    """Return whether a response is a 400 with a code of RFC 6749, section 5.2, or of RFC 6750, section 3.1."""
    if answer.status != HTTPStatus.BAD_REQUEST:
        return False
    in_header = f'error="{code}"' in answer.headers.get("WWW-Authenticate", "")
    return in_header or (answer.json_object() or {}).get("error") == code


def parse_created(answer: Answer, message: Mapping[str, Any]) -> CreatedTodo:
    """Return the created todo.

    :param message: the message that was sent, for values that the response leaves out.
    :raises BzCtrlAPIError: any response that is not a created todo.
    """
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise _status_error(answer)
    created = answer.json_object() or {}
    # An error may come with 200, too.
    if all(created.get(name) is None for name in _OF_A_TODO):
        what_came = f", but with {_what_it_is(answer)} instead of the created todo"
        text = f"{_came(answer, what_came)}. {UNKNOWN_ADVICE}"
        raise BzCtrlBadAnswerError(text, outcome_unknown=True, **answer.facts())

    def show(text: str) -> str:
        # The texts that were sent are the DAG's own; those that BzCtrl adds go into an XCom as well.
        is_secret = text not in message.values() and answer.request.repeats_secret(text)
        return REDACTED if is_secret else plain_text(text)

    def read(key: str, sent: str) -> str:
        text = created.get(key)
        return show(text if isinstance(text, str) else sent)

    link = _usable_link(created, answer.request, title=message["title"])
    return CreatedTodo(
        key=_parse_key(link),
        link=link,
        title=read("title", message["title"]),
        todo_type=one_line(read("taskType", message["todoType"]), max_chars=NAME_CHARS),
        description=read("description", message["description"]),
        tags=[show(tag) for tag in _texts_of(created.get("tags"))],
    )


def _texts_of(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _usable_link(created: Mapping[str, Any], request: RequestInfo, *, title: str) -> str | None:
    link = web_address(created.get("taskLink"))
    if link and not request.repeats_secret(unquote(link)):
        return link
    log.warning(
        "BzCtrl created the todo %s, but its response has no usable link to it (taskLink must be http or https).",
        safe_repr(title, max_chars=LINE_CHARS),
    )
    return None


def refused_fresh_token(answer: Answer) -> BzCtrlAuthError:
    """Make the error for a token that BzCtrl refused a moment after it had granted it."""
    return BzCtrlAuthError(
        f"{_came(answer, ', and again with a fresh token')}. The credentials of {answer.request.config.connection} "
        "are right, so its user may lack the right to create todos: ask BzCtrl's administrator."
    )


def _status_error(answer: Answer) -> BzCtrlAPIError:
    request, status = answer.request, answer.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after_s = parse_retry_after(answer.headers.get("Retry-After", ""))
        asked = "" if retry_after_s is None else f" BzCtrl asks to wait {retry_after_s:.0f} s."
        return BzCtrlRateLimitError(
            f"{_came(answer, ' (too many requests)')}, after up to {request.config.max_attempts} attempts.{asked} "
            f"{_NOTHING_CREATED} Send fewer at a time (max_workers, or a pool of Airflow's), or later.",
            retry_after_s=retry_after_s,
            **answer.facts(),
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # 503 says that BzCtrl did not take the request on; any other failure may have come after the creation.
        unknown = request.what == "create" and status != HTTPStatus.SERVICE_UNAVAILABLE
        advice = UNKNOWN_ADVICE if unknown else f"BzCtrl is out of order: try again later. {_NOTHING_CREATED}"
        return BzCtrlServerError(f"{_came(answer)}. {advice}", outcome_unknown=unknown, **answer.facts())
    return BzCtrlRejectedError(f"{_came(answer)}. {_remedy(answer)}", **answer.facts())


def _remedy(answer: Answer) -> str:
    connection = answer.request.config.connection
    if answer.status < HTTPStatus.BAD_REQUEST:
        target = re.match(r"https?://[\w.-]{1,253}", answer.headers.get("Location", ""))
        to = f" to {target[0]}" if target else ""
        return f"It is a redirect{to}, and none is followed: correct the host or the environment of {connection}."
    if answer.status == HTTPStatus.FORBIDDEN:
        return f"The user of {connection} may lack the right to this, or a proxy is in the way: ask BzCtrl's administrator."
    if answer.status == HTTPStatus.NOT_FOUND:
        return f"BzCtrl is not at this address: check the environment of {connection}, or its host, which is only the base URL."
    return "The same request would be refused again: correct what BzCtrl says."


def _came(answer: Answer, how: str = "") -> str:
    """Return the beginning of a message: the request, its status and what BzCtrl said."""
    said = answer.excerpt()
    if said.startswith("<"):  # of a page what a person reads, the last tag may be cut off
        said = " ".join(re.sub(r"<[^>]*(>|$)", " ", said).split())
    quoted = f' and said "{said}"' if said else ""
    return f"{answer.request} was answered with {answer.status}{how}{quoted}"


def _what_it_is(answer: Answer) -> str:
    if answer.is_encoded():
        return "a compressed body, which was not asked for"
    if len(answer.body) > RESPONSE_MAX_BYTES:
        return "more than 1 MiB"
    if answer.body.lstrip()[:1] == b"<":
        return "a web page"
    return "a JSON object" if answer.json_object() is not None else "no JSON object"


def _parse_key(link: str | None) -> str | None:
    parts = urlsplit(link or "")
    last = (parts.fragment or parts.path).partition("?")[0].rstrip("/").rpartition("/")[2]
    key = unquote(last)
    return key if key.isprintable() and len(key) <= NAME_CHARS and key else None


def _classify(exc: Exception) -> SendFailure:
    """Return how far a request came before an error of requests; if in doubt, that it was sent."""
    reason = _cause(exc)
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


def _cause(exc: BaseException) -> object:
    """Return the error that requests and urllib3 have wrapped."""
    cause: object = exc.args[0] if exc.args else exc
    if isinstance(cause, urllib3_errors.MaxRetryError):
        cause = cause.reason
    if isinstance(cause, urllib3_errors.ProxyError):
        cause = cause.original_error
    return cause


def transport_error(exc: Exception, request: RequestInfo) -> tuple[BzCtrlTransportError, SendFailure]:
    """Make the error that says why no response came, and whether BzCtrl may have acted on the request."""
    failure, reason, connection = _classify(exc), _cause(exc), request.config.connection
    why = request.quote(_in_words(reason)).rstrip(".")
    unknown = failure is SendFailure.NO_RESPONSE and request.what == "create"
    no_token = f"{_NOTHING_CREATED} Try again, or raise the extra timeout_s of {connection}."
    advice = UNKNOWN_ADVICE if unknown else no_token
    what = {
        SendFailure.UNTRUSTED: (
            f"was not sent: the server's certificate was refused ({why}). If it comes from an authority of your own, set the "
            f"extra ca_bundle of {connection} to its file; if it is another host's, correct the host."
        ),
        SendFailure.NOT_CONNECTED: (
            f"was not sent: no connection (attempts: {request.config.max_attempts}; {why}). Check the host of {connection}, "
            "that BzCtrl is up, and that this machine may reach it, directly or through the proxy of its environment "
            "(HTTPS_PROXY, NO_PROXY)."
        ),
        SendFailure.UNSENDABLE: (
            f"was not sent: {why}. Check the host and the extra ca_bundle of {connection}, and the proxy and the CA file of "
            "this machine's environment."
        ),
        SendFailure.NO_RESPONSE: f"was sent, but no whole response came ({why}). {advice}",
    }[failure]
    # The two mistakes of a first connection to the sandbox.
    cause, first_steps = getattr(reason, "__cause__", None), ""
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        first_steps = " The server speaks no TLS there: if that is right, write http:// before the host."
    elif isinstance(cause, ConnectionRefusedError) and is_loopback(request.url):
        first_steps = " That host is this machine itself, or in a container the container: start the sandbox (bzctrl-sandbox) there."
    return BzCtrlTransportError(f"{request} {what}{first_steps}", outcome_unknown=unknown), failure


def _in_words(reason: object) -> str:
    """Return the message of an error without the objects, tuples and numbers that urllib3 and OpenSSL put around it."""
    if isinstance(reason, urllib3_errors.ProtocolError) and len(reason.args) > 1:
        reason = f"{str(reason.args[0]).rstrip('.')}: {reason.args[1]}"
    text = re.sub(r"^\w+\(host=.*?\): ", "", str(reason))
    if timeout := re.search(r"\. \(read timeout=([\d.]+)\)", text):
        text = text.replace(timeout[0], f": nothing came for {float(timeout[1]):.3g} s")
    return re.sub(r" \(_ssl\.c:\d+\)|_ssl\.c:\d+: ", "", text)


REDACTED = "***"

_SEARCHED_CHARS = 20_000
"""How much of a response is searched for secrets, of which an error shows 500 characters."""


def _spellings(secret: str) -> set[str]:
    """Return a secret as it is, and as an address, a form, JSON and HTML write it."""
    percent = [quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")]
    small_percent = [re.sub("%..", lambda match: match[0].lower(), text) for text in percent]
    in_json = [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    in_json_of_php = [text.replace("/", r"\/") for text in in_json]
    apostrophes = ("&#x27;", "&#39;", "&#039;", "&apos;")
    in_html = [html.escape(secret).replace("&#x27;", apostrophe) for apostrophe in apostrophes]
    in_html.append(html.escape(secret, quote=False))
    return {secret, *percent, *small_percent, *in_json, *in_json_of_php, *in_html}


def redact(text: str, secrets: Iterable[SecretStr]) -> str:
    """Return the beginning of a text with ``***`` for each secret, and never with half a secret at its end."""
    spellings = {spelled for secret in secrets for spelled in _spellings(secret.get_secret_value())} - {""}
    is_cut = len(text) > _SEARCHED_CHARS
    text = text[:_SEARCHED_CHARS]
    for spelled in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelled, REDACTED)
    # The end of a text that is cut may be a part of a secret.
    return text[: -max(map(len, spellings))] if is_cut and spellings else text
