"""Turn a response into a result or into one error: the place where statuses and bodies become our own errors."""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from bzctrl_provider.client.redaction import REDACTED, redact_beginning
from bzctrl_provider.client.request import EXCERPT_CHARS, UNKNOWN_ADVICE
from bzctrl_provider.client.retry import parse_retry_after
from bzctrl_provider.client.todo import CreatedTodo
from bzctrl_provider.client.transport import RESPONSE_MAX_BYTES, is_encoded
from bzctrl_provider.exceptions import (
    BzCtrlAPIError,
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
)
from bzctrl_provider.text import one_line, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import Response

    from bzctrl_provider.client.request import RequestInfo

log = logging.getLogger(__name__)

_TOKEN_CHARS = 8192
"""The longest token that is taken: servers take no longer header, and each error would be searched for it."""

_KEY_CHARS = 200

_NOTHING_CREATED = "Nothing was created."


def parse_token(response: Response, request_info: RequestInfo) -> tuple[SecretStr, object]:
    """Return the token of a response, and its ``expires_in``.

    :raises BzCtrlAuthError: the credentials were refused.
    :raises BzCtrlAPIError: any other response without a token.
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
    granted = _json_object(response) or {}
    token = granted.get("access_token")
    if isinstance(token, str) and 0 < len(token) <= _TOKEN_CHARS and _is_header_value(token):
        return SecretStr(token), granted.get("expires_in")
    return None


def _is_header_value(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def parse_created(response: Response, request_info: RequestInfo, message: Mapping[str, Any]) -> CreatedTodo:
    """Return the created todo.

    :param message: the message that was sent, for values that the response leaves out.
    :raises BzCtrlAPIError: any response that is not a created todo.
    """
    status = response.status_code
    if not _is_success(status):
        raise _status_error(response, request_info)
    created = _json_object(response)
    if created is None:
        raise BzCtrlBadAnswerError(
            f"{request_info} was answered with {status}, but with {_what_it_is(response)} instead of the created "
            f"todo{_said(_excerpt(response, request_info))}. {UNKNOWN_ADVICE}",
            status_code=status,
            body_excerpt=_excerpt(response, request_info),
            outcome_unknown=True,
        )
    link = web_address(created.get("taskLink"))
    if link and request_info.repeats_secret(unquote(link)):
        link = None
    if link is None:
        log.warning(
            "BzCtrl created the todo %s, but its response has no usable link to it (taskLink must be http or https).",
            safe_repr(message["title"], max_chars=300),
        )
    tags = created.get("tags")
    sent = {value for value in message.values() if isinstance(value, str)}

    def fit(text: str) -> str:
        # The texts that were sent are the DAG's own; those that BzCtrl adds go into an XCom as well.
        return REDACTED if text not in sent and request_info.repeats_secret(text) else plain_text(text)

    def text(created_key: str, sent_key: str) -> str:
        value = created.get(created_key)
        return fit(value if isinstance(value, str) else str(message[sent_key]))

    return CreatedTodo(
        key=_parse_key(link) if link else None,
        link=link,
        title=text("title", "title"),
        todo_type=one_line(text("taskType", "todoType"), max_chars=_KEY_CHARS),
        description=text("description", "description"),
        tags=[fit(tag) for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
    )


def refused_fresh_token(response: Response, request_info: RequestInfo) -> BzCtrlAuthError:
    """Make the error for a token that BzCtrl refused a moment after it had granted it."""
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
        advice = UNKNOWN_ADVICE if unknown else f"BzCtrl is out of order: try again later. {_NOTHING_CREATED}"
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
            status, "The same request would be refused again: correct what BzCtrl says."
        ).format(connection=request_info.connection)
    return BzCtrlRejectedError(f"{came}{said}. {advice}", status_code=status, body_excerpt=excerpt)


_NOT_THERE = "BzCtrl is not at this address: check the environment of {connection}, or its host, which is only the base URL."

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
    if len(response.content) > RESPONSE_MAX_BYTES:
        return None
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_invalid_grant(response: Response) -> bool:
    """Return whether credentials were refused as RFC 6749, section 5.2, says: a 400 with this code."""
    error = (_json_object(response) or {}).get("error")
    return response.status_code == HTTPStatus.BAD_REQUEST and error == "invalid_grant"


def _what_it_is(response: Response) -> str:
    if is_encoded(response.headers):
        return "a compressed body, which was not asked for"
    if _json_object(response) is not None:
        return "a JSON object"
    if not response.content:
        return "nothing"
    if len(response.content) > RESPONSE_MAX_BYTES:
        return "more than 1 MiB"
    if response.content.lstrip()[:1] == b"<":
        return "a web page"
    return "something that is no JSON object"


def _excerpt(response: Response, request_info: RequestInfo) -> str:
    text = response.content[:RESPONSE_MAX_BYTES].decode("utf-8", "replace")
    if request_info.what == "token":
        # Any other value may be a token; RFC 6749, section 5.2, names these two.
        error = _json_object(response)
        if error is not None:
            said = [error.get(name) for name in ("error", "error_description")]
            text = ": ".join(part for part in said if isinstance(part, str))
    # Redacted before it is cut: half a secret would not be recognised.
    return one_line(redact_beginning(text, request_info.secrets), max_chars=EXCERPT_CHARS)


def _said(excerpt: str) -> str:
    if excerpt.startswith("<"):  # of a page what a person reads, the last tag may be cut off
        excerpt = " ".join(re.sub(r"<[^>]*(>|$)", " ", excerpt).split())
    return f' and said "{excerpt}"' if excerpt else ""


def _parse_key(link: str) -> str | None:
    parts = urlsplit(link)
    last = (parts.fragment or parts.path).partition("?")[0].rstrip("/").rpartition("/")[2]
    key = unquote(last)
    return key if key.isprintable() and len(key) <= _KEY_CHARS and key else None
