"""The first todo of a fresh task process: connection, token and create, beside a bare session that does the same.

A task process is forked from one that has Airflow's SDK loaded, and neither `requests` nor this provider.
"""

from __future__ import annotations

from functools import partial

from airflow.sdk import BaseHook, BaseOperator

from bench.figures import ratios
from bench.todo import CREATE, FIELDS, MESSAGE, authorized_by_session
from bench.worker import cpu_ms, forked_rounds, log_at_info, run

BASES = (BaseHook, BaseOperator)
"""Airflow loads them when they are first named."""


def _by_hook() -> None:
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    BzCtrlHook().create_todo(FIELDS)


def _by_session() -> None:
    import requests

    host = BaseHook.get_connection("bzctrl_default").host
    session = requests.Session()
    headers = authorized_by_session(session, host)
    session.post(f"{host}{CREATE}", json=MESSAGE, headers=headers, timeout=30).json()


def main(rounds: int) -> dict[str, list[float]]:
    """Return the ratio of the CPU, and the CPU of this provider in milliseconds."""
    log_at_info()
    measured = forked_rounds(
        {"ours": partial(cpu_ms, _by_hook), "session": partial(cpu_ms, _by_session)}, rounds
    )
    return {"cold.cpu": ratios(measured["ours"], measured["session"]), "cold.ours": measured["ours"]}


if __name__ == "__main__":
    run(main)
