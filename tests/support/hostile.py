"""Objects in a DAG's data whose own text nobody may ask for."""

from __future__ import annotations


class Secretive:
    """Has a text of its own that nobody may see, as a connection of Airflow has."""

    def __repr__(self):
        return "<Connection password=hunter2>"

    __str__ = __repr__


class Raising:
    """Raises whatever it is asked for."""

    def __repr__(self):
        raise RuntimeError("hunter2")

    __str__ = __repr__
