"""Hostile data of a DAG: objects whose `str` and `repr` must not be called, texts, links."""

from __future__ import annotations

PASSWORD = 'Ex@"mpl3\\-pass\nword'
"""With characters that JSON writes in another way."""

FORGED = "\n[2026-11-21] ERROR - forged\x1b[31m\x85\u2028\u202e"
"""The beginning of a false line of a log, and characters that control a terminal."""

TEMPLATE = "{{ conn.bzctrl_default.password }} {% raw %} {0.__class__} %s"

LINKS = ["javascript:alert(1)", "data:text/html,x", f"https://x/{FORGED}", 5, None, {"a": "b"}]


class Secretive:
    """Has a secret in its text, as a connection of Airflow has."""

    def __repr__(self):
        return "<Connection password=hunter2>"

    __str__ = __repr__


class Raising:
    """Raises if its text is requested."""

    def __repr__(self):
        raise RuntimeError("hunter2")

    __str__ = __repr__


class RaisingInComparisons(Raising):
    """Raises when it is compared as well."""

    def __eq__(self, other):
        raise RuntimeError("hunter2")

    __hash__ = None


def find_one(records, text):
    """Return the only message of a log that has a text."""
    (record,) = [record for record in records if text in record.getMessage()]
    return record.getMessage()
