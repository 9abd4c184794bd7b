"""Find the lines of a TOML document's keys, which ``tomllib`` does not report.

A statement of TOML (a table's header, or a key with its value) is a whole document by itself. So each statement is parsed
by ``tomllib``: this module knows nothing of strings, escapes and comments.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

_VALUE_CAN_END = re.compile(r"\"\"\"|'''|\]")
"""A value of several lines ends in a line that has one of these."""

_READINGS = 5
"""How often a document is parsed at most, counted in characters, to find its lines."""

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


@dataclass(frozen=True)
class TableLines:
    """Hold where a table is.

    :param line: the line of its header, from 1; 0 for the top of the document.
    :param keys: the line of each of its own keys.
    """

    line: int
    keys: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DocumentLines:
    """Hold where the keys of a document are.

    :param top: the keys of the document itself, tables included.
    :param tables: for each element of an array of tables, by the array's name and its position.
    """

    top: TableLines = field(default_factory=lambda: TableLines(0))
    tables: dict[str, list[TableLines]] = field(default_factory=dict)


def find_lines(text: str) -> DocumentLines:
    """Return the lines of the keys of a valid document.

    The rest of a document is left out if it takes too long, such as 10,000 lines of brackets in one text. Keys of nested tables count for the outermost one: ``[route.x]`` gives the line of ``x``.

    :param text: the document, which ``tomllib`` has accepted.
    """
    document = DocumentLines()
    current = document.top
    for line, statement, value in _statements(text):
        name = next(iter(value))
        if not statement.startswith("["):
            current.keys.setdefault(name, line)
            continue
        document.top.keys.setdefault(name, line)
        elements = document.tables.setdefault(name, [])
        if statement.startswith("[[") and isinstance(value[name], list) and value[name] == [{}]:
            current = TableLines(line)
            elements.append(current)
        else:
            current = _nested(value[name], line, elements[-1] if elements else TableLines(line))
    return document


def _nested(value: object, line: int, outer: TableLines) -> TableLines:
    inner = value[0] if isinstance(value, list) else value
    for name in inner if isinstance(inner, dict) else ():
        outer.keys.setdefault(name, line)
    # The keys of a nested table are not those of the outer one.
    return TableLines(line)


def _statements(text: str) -> list[tuple[int, str, dict[str, object]]]:
    found = []
    pending: list[str] = []
    budget = _READINGS * len(text) + 10_000
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not pending and line.strip(" \t")[:1] in ("", "#"):
            continue
        pending.append(line)
        if len(pending) > 1 and not _VALUE_CAN_END.search(line):
            continue
        statement = "\n".join(pending)
        budget -= len(statement)
        if budget < 0:
            break
        try:
            value = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        found.append((number - len(pending) + 1, statement.lstrip(), value))
        pending = []
    return found


def parse_toml_error(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """Return the line and the text of an error, whose message has both."""
    message = str(error)
    position = _POSITION.search(message)
    if not position:
        return 0, message
    line = int(position[1]) if position[1] else text.rstrip().count("\n") + 1
    return line, message[: position.start()]
