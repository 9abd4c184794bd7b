"""The settings of a client, checked once and handed down as one object; the addresses of BzCtrl are part of them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from bzctrl_provider.text import LINE_CHARS, TEXT_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import SecretStr

MessageFormat = Literal["add-task", "predefined"]

_TOKEN_PATH = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path, no secret
_CREATE_PATH = "/bzctrl-core-api/api/v1/task/add-task"

_LABEL = r"\w[\w-]{0,62}"
_NETLOC = rf"(.*@)?({_LABEL}(\.{_LABEL})*\.?|\[[0-9a-fA-F:.]+\])(:\d+)?"
_NO_ADDRESS = "is no address: give a host name or a base URL such as https://bzctrl.example.com"


class Endpoints(NamedTuple):
    """The addresses of the two calls."""

    token_url: str
    """Where a token is asked for."""
    create_url: str
    """Where a todo is created."""

    @classmethod
    def from_host(
        cls, host: str, *, schema: str = "", port: int | None = None, allow_http: bool = False
    ) -> Endpoints:
        """Return the addresses at another BzCtrl: a private installation, or the sandbox.

        :param host: a host name, or a base URL such as ``https://bzctrl.example.com:8443/prefix``.
        :param schema: ``http`` or ``https`` (default), if the host does not contain it.
        :param port: a port, if the host does not contain it.
        :param allow_http: whether clear text is allowed to a host other than this machine.
        :raises ValueError: says what is wrong with the address, without quoting what may be a secret.
        """
        if schema not in ("", "http", "https"):
            # Not quoted: a connection's URI with an unquoted password puts a part of it here.
            raise ValueError(
                "cannot have this Schema: give http or https, or nothing. In a connection's URI, percent-encode the password"
            )
        url = _with_scheme(host.strip(), schema or "https")
        try:
            parts = urlsplit(url)
            own_port = parts.port
        except ValueError:
            raise ValueError(_NO_ADDRESS) from None
        errors = list(_find_errors(url, parts, allow_http=allow_http))
        if schema not in ("", parts.scheme):
            errors.append(f"starts with {parts.scheme}, but Schema is {schema}: give the scheme once")
        if port and own_port not in (None, port):
            errors.append(f"has port {own_port}, but Port is {port}: give the port once")
        if errors:
            raise ValueError("; ".join(errors))
        netloc = f"{parts.netloc}:{port}" if port and not own_port else parts.netloc
        base = f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"
        return cls(base + _TOKEN_PATH, base + _CREATE_PATH)

    @property
    def is_production(self) -> bool:
        """Return whether one of the addresses is on a host of PROD."""
        hosts = {urlsplit(url).hostname for url in ENVIRONMENTS["PROD"]}
        return any((urlsplit(url).hostname or "").rstrip(".") in hosts for url in self)


ENVIRONMENTS = {
    "ACC": Endpoints(f"https://acc.bzctrl.com{_TOKEN_PATH}", f"https://acc.bzctrl.com{_CREATE_PATH}"),
    "PROD": Endpoints(f"https://bzctrl.com{_TOKEN_PATH}", f"https://www.bzctrl.com{_CREATE_PATH}"),
}
"""The documented addresses; PROD's two calls are documented on two different hosts."""


def _with_scheme(host: str, scheme: str) -> str:
    if "://" in host:
        return host
    # Airflow reads an IPv6 address from a connection's URI without its brackets.
    name = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    return f"{scheme}://{name}"


def _is_address(url: str, netloc: str) -> bool:
    is_short = len(url) <= TEXT_CHARS and len(netloc) <= LINE_CHARS
    # Of other characters, some libraries would read another host.
    return is_short and url.isprintable() and " " not in url and bool(re.fullmatch(_NETLOC, netloc))


def _find_errors(url: str, parts: SplitResult, *, allow_http: bool) -> Iterator[str]:
    """Yield what is wrong with a base URL, without quoting it."""
    if not _is_address(url, parts.netloc):
        yield _NO_ADDRESS
    if parts.scheme not in ("http", "https"):
        yield "must start with https:// (or http://, to this machine only)"
    if "@" in parts.netloc:
        yield "holds credentials: put them into Login and Password"
    if parts.query or parts.fragment or "/bzctrl-core-api" in parts.path:
        yield "must be only the base URL, such as https://bzctrl.example.com, without /bzctrl-core-api and what follows"
    if parts.scheme == "http" and not allow_http and not is_loopback(url):
        yield (
            "is clear-text http, which would show the password to the network: use https, or set the extra allow_http to true "
            "if the network is trusted"
        )


def is_loopback(url: str) -> bool:
    """Return whether the host of a URL is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class BzCtrlConfig:
    """The settings of a client.

    :param endpoints: where BzCtrl is.
    :param username: of the API user.
    :param password: of the API user.
    :param timeout_s: seconds for one attempt of one HTTP request, from connecting to the end of the response.
    :param max_attempts: how often one request is sent at most, if sending it again is safe.
    :param verify: whether the server's certificate is checked, or the path of a CA file to check it with.
    :param message_format: ``add-task``, of the later of BzCtrl's two documents, or ``predefined``, of the earlier one.
    :param in_progress_spelling: ``IN PROGRESS`` or ``INPROGRESS``, on which the documents differ.
    :param defaults: ``domain_workspace``, ``reporter`` and ``assignee`` for todos that have none.
    :param connection: how an error calls the place of these settings.
    """

    endpoints: Endpoints
    username: str
    password: SecretStr
    timeout_s: float = 30.0
    max_attempts: int = 3
    verify: bool | str = True
    message_format: MessageFormat = "add-task"
    in_progress_spelling: Literal["IN PROGRESS", "INPROGRESS"] = "IN PROGRESS"
    defaults: Mapping[str, str] = field(default_factory=dict)
    connection: str = "the connection"
