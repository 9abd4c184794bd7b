"""How long something has waited, for people."""

from __future__ import annotations

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def format_age(seconds: float) -> str:
    """Return a time span in its largest unit, such as ``12 min``.

    :param seconds: its length; less than 0 counts as 0.
    """
    for unit, length_s in _UNITS:
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"
