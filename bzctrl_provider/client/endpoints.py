"""Where BzCtrl is: its two documented environments, or another host with the same paths."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

Environment = Literal["ACC", "PROD"]

_TOKEN_PATH = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path, no secret
_NO_ADDRESS = "is no address: give a host name or a base URL such as https://bzctrl.example.com"
_CLEAR_TEXT = (
    "is clear-text http, which would show the password to the network: use https, "
    "or set the extra allow_http to true if the network is trusted"
)
_NO_HOST = "has no name that a host can have: letters, digits, dots and hyphens, or an IP address"
_HOST_CHARS = 253
_BASE_CHARS = 2000
_PORT_MAX = 65_535
_NETLOC = r"(.*@)?(\[[^\[\]]*\]|[^\[\]:@]*)(:\d*)?"
"""A host, and at most a port behind it: Python before 3.11.9 reads ``[::1]elsewhere`` as ``::1``."""
_NO_SCHEMA = "cannot have this Schema: give http or https, or nothing. In a connection's URI, percent-encode the password"
_CREATE_PATH = "/bzctrl-core-api/api/v1/task/add-task"


class Endpoints(NamedTuple):
    """Hold the addresses of the two calls."""

    token_url: str
    """Where a token is asked for."""
    create_url: str
    """Where a todo is created."""

    @property
    def is_clear_text_to_this_machine(self) -> bool:
        """Return whether http is spoken, to a loopback address."""
        parts = urlsplit(self.create_url)
        return parts.scheme == "http" and is_loopback(parts.hostname or "")

    @classmethod
    def from_environment(cls, environment: Environment) -> Endpoints:
        """Return the documented addresses; PROD's two calls are documented on two different hosts."""
        token_host, create_host = {
            "ACC": ("https://acc.bzctrl.com", "https://acc.bzctrl.com"),
            "PROD": ("https://bzctrl.com", "https://www.bzctrl.com"),
        }[environment]
        return cls(token_host + _TOKEN_PATH, create_host + _CREATE_PATH)

    @classmethod
    def from_host(
        cls, host: str, *, schema: str | None = None, port: int | None = None, allow_http: bool = False
    ) -> Endpoints:
        """Return the addresses at another BzCtrl: a private installation, or the sandbox.

        :param host: a host name, or a base URL such as ``https://bzctrl.example.com:8443/prefix``.
        :param schema: ``http`` or ``https`` (default), if the host does not contain it.
        :param port: a port, if the host does not contain it.
        :param allow_http: whether clear text is allowed to a host other than this machine.
        :raises ValueError: says what is wrong with the address, without quoting what may be a secret.
        """
        base = host.strip()
        if len(base) > _BASE_CHARS or re.match(r"https?:(?!//)", base, re.IGNORECASE):
            raise ValueError(_NO_ADDRESS)  # https:/host would be the host "https"
        if schema and schema.lower() not in ("http", "https"):
            # Not quoted: a connection's URI with an unquoted password puts a part of it here.
            raise ValueError(_NO_SCHEMA)
        if port and not 0 < port <= _PORT_MAX:
            raise ValueError(f"cannot have this Port: give a number from 1 to {_PORT_MAX}")
        if "://" not in base:
            bracketed = f"[{base}]" if _is_ipv6(base) else base
            base = f"{schema or 'https'}://{bracketed}"
        try:
            parts = urlsplit(base)
            own_port = parts.port
        except ValueError:
            raise ValueError(_NO_ADDRESS) from None
        scheme = parts.scheme.lower()
        wrong = {
            "must start with https:// (or http://, to this machine only)": scheme not in ("http", "https"),
            f"starts with {scheme}, but Schema is {(schema or '').lower()}: give the scheme once": schema
            and schema.lower() != scheme,
            f"has port {own_port}, but Port is {port}: give the port once": port
            and own_port
            and port != own_port,
            "holds credentials: put them into Login and Password": "@" in parts.netloc,
            _NO_ADDRESS: not parts.hostname or any(char.isspace() for char in base),
            _NO_HOST: not _is_host(parts.hostname or "localhost")
            or not base.isprintable()
            or not re.fullmatch(_NETLOC, parts.netloc),
            "must be only the base URL, such as https://bzctrl.example.com, without /bzctrl-core-api and what follows": parts.query
            or parts.fragment
            or "/bzctrl-core-api" in parts.path,
            _CLEAR_TEXT: scheme == "http"
            and not allow_http
            and not is_loopback(parts.hostname or "localhost"),
        }
        problems = [problem for problem, is_wrong in wrong.items() if is_wrong]
        if problems:
            raise ValueError("; ".join(problems))
        netloc = parts.netloc if own_port or not port else f"{parts.netloc.rstrip(':')}:{port}"
        base = f"{scheme}://{netloc}{parts.path.rstrip('/')}"
        return cls(base + _TOKEN_PATH, base + _CREATE_PATH)


ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6  # noqa: PLR2004 - the name of the protocol
    except ValueError:
        return False


def _is_host(name: str) -> bool:
    """Return whether it is a name or an address that each library on the way reads in the same way."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode() if len(name) <= _HOST_CHARS else ""
    except UnicodeError:
        return False
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    is_name = all(
        re.fullmatch(label, part, re.IGNORECASE) for part in ascii_name.removesuffix(".").split(".")
    )
    return is_name and (name.isascii() or _is_for_requests(name))


def _is_for_requests(name: str) -> bool:
    """Return whether requests takes a name of other letters: it knows IDNA 2008, Python only IDNA 2003."""
    import requests

    try:
        requests.Request("POST", f"https://{name}").prepare()
    except (requests.RequestException, UnicodeError):
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
