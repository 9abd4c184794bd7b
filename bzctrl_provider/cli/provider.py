"""Give Airflow 3.2 and newer the command ``airflow bzctrl``: the key ``cli`` of the provider info names this module."""

from __future__ import annotations

import argparse
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg

from bzctrl_provider.cli.main import HELP, main

_make_argument: Any = Arg  # it has no types


def get_commands() -> list[Any]:
    """Return the command in Airflow's classes; every ``airflow`` command calls this."""
    return [
        ActionCommand(
            name="bzctrl",
            help=HELP,
            description=f"{HELP}\n\nThe commands are check, outbox list, outbox deliver, outbox discard and verify.\n"
            "Each has its own help: airflow bzctrl check --help",
            func=_run,
            args=[
                _make_argument(
                    ("arguments",),
                    nargs=argparse.REMAINDER,
                    help="the command with its arguments",
                )
            ],
        )
    ]


def _run(arguments: argparse.Namespace) -> None:
    # Airflow ignores what a command returns.
    if code := main(arguments.arguments, prog="airflow bzctrl"):
        raise SystemExit(code)
