"""Read the results of a tool's checks, and collect everything that is wrong with them."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.limits import LINE_CHARS, LIST_ITEMS
from bzctrl_provider.text import one_line, safe_repr

_GZIP = b"\x1f\x8b"


class Faults:
    """Collect the faults of a tool's results, for one error that names them all.

    A fault is never skipped: results that cannot be read must not look like results without a failure.

    :param tool: the name of the tool, such as ``dbt``.
    """

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, problem: str) -> None:
        """Note a fault.

        :param field: where it is, such as ``run_results.results[3].status``.
        :param problem: the value found there, and the supported ones.
        """
        self._found.append((field, problem))

    def raise_if_any(self) -> None:
        """Raise the error if a fault was noted.

        :raises BzCtrlValidationError: names the first 20 faults, and how many there are.
        """
        if self._found:
            raise self._error()

    def fail(self, field: str, problem: str) -> NoReturn:
        """Note a fault and raise the error, if nothing after the fault can be read."""
        self.add(field, problem)
        raise self._error()

    def _error(self) -> BzCtrlValidationError:
        shown = self._found[:LIST_ITEMS]
        if more := len(self._found) - len(shown):
            shown.append(("and", f"{more} more"))
        return BzCtrlValidationError(
            f"No todo was made of the results of {self._tool}, because they cannot be read:", shown
        )


def mapping(value: object) -> Mapping[Any, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def find_gap(source: object) -> str:
    """Return why a tool left no results, such as ``there is no file target/run_results.json``; empty if it left some.

    :param source: the results as in ``read_mapping``; None for an XCom that was not pushed.
    """
    if source is None:
        return "the result is None"
    if not _is_path(source):
        return ""
    try:
        exists = _as_path(source).exists()
    except (OSError, ValueError, AttributeError):  # an object with ``read_bytes`` may have no ``exists``
        return ""
    return "" if exists else f"there is no file {one_line(str(source), max_chars=LINE_CHARS)}"


def _is_path(source: object) -> bool:
    if isinstance(source, str):
        return bool(source.strip()) and source.lstrip()[0] not in "{["
    return isinstance(source, os.PathLike) or hasattr(source, "read_bytes")


def _as_path(source: Any) -> Any:
    """Return a path as an object with ``read_bytes``."""
    return source if hasattr(source, "read_bytes") else Path(source)


def read_mapping(source: object, *, name: str, faults: Faults) -> Mapping[str, Any]:
    """Return results as a mapping.

    :param source: the mapping itself; JSON as text or bytes; or a path to a file of JSON, as text or as an object with
        ``read_bytes`` (``pathlib.Path``, Airflow's ``ObjectStoragePath``). Content that is compressed with gzip is decompressed.
    :param name: the name of the parameter, for the error.
    :raises BzCtrlValidationError: if it is none of these, cannot be read, or is no JSON object.
    """
    if isinstance(source, str | bytes) or _is_path(source):
        source = _parsed(_content(source, name=name, faults=faults), name=name, faults=faults)
    if not isinstance(source, Mapping):
        faults.fail(name, f"must be a mapping, JSON text or a path, not {safe_repr(source)}")
    return source


def _content(source: Any, *, name: str, faults: Faults) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and not _is_path(source):
        return source.encode(errors="replace")
    try:
        content: bytes = _as_path(source).read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        path = one_line(str(source), max_chars=LINE_CHARS)
        faults.fail(name, f"the file {path} cannot be read ({one_line(str(reason), max_chars=LINE_CHARS)})")
    return content


def _parsed(content: bytes, *, name: str, faults: Faults) -> object:
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as exc:
            faults.fail(name, f"cannot be decompressed ({type(exc).__name__})")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        # Without a quotation: it may be a part of the data.
        found = (
            isinstance(exc, json.JSONDecodeError) and f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
        )
        faults.fail(name, f"is no JSON: {found or type(exc).__name__}")
