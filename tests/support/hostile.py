"""Objects in a DAG's data whose `str` and `repr` must not be called."""

from __future__ import annotations


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
