"""The version of the Airflow that is installed."""

from __future__ import annotations

from functools import cache


@cache
def airflow_version() -> tuple[int, int]:
    """Return Airflow's major and minor version, such as ``(3, 1)``; ``3.1.0rc1`` counts as 3.1."""
    from airflow import __version__

    major, minor, *_ = __version__.split(".")
    return int(major), int(minor)


def airflow_at_least(major: int, minor: int) -> bool:
    """Return whether Airflow has this version or a newer one."""
    return airflow_version() >= (major, minor)
