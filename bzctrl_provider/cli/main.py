"""Run the command ``bzctrl``.

The parser imports nothing of Airflow: the module of a command is imported when the command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

HELP = "Check the BzCtrl provider of this deployment, and deliver the incidents that wait."

RUN_TYPES = (
    "backfill",
    "scheduled",
    "manual",
    "operator_triggered",
    "asset_triggered",
    "asset_materialization",
    "dataset_triggered",
)
"""Those of the page on routes, and the one of Airflow 2 that has another name."""

_LISTED_MAX = 10_000

_FACTS = ("task", "run_type", "tag", "owner", "team")


def make_parser(prog: str = "bzctrl") -> argparse.ArgumentParser:
    """Return the parser of the command line.

    :param prog: the words before its arguments, in the help and in errors.
    """
    parser = argparse.ArgumentParser(prog=prog, description=HELP)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_check(commands)
    _add_outbox(commands)
    _add_verify(commands)
    return parser


def _add_command(commands: Any, name: str, text: str, function: str) -> argparse.ArgumentParser:
    """Add a command; its function has a module of this package and a name."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(function=function, parser=parser)
    return parser


def _add_check(commands: Any) -> None:
    check = _add_command(
        commands,
        "check",
        "Check connection, token, options, routes, silences, outbox and delivery; create nothing. The exit code is 1 on a fault.",
        "check.run",
    )
    what = check.add_mutually_exclusive_group()
    what.add_argument("--conn-id", metavar="ID", help="the connection (default: the option conn_id)")
    what.add_argument(
        "--explain",
        type=_id,
        metavar="DAG_ID",
        help="only print whether an incident would be raised for a DAG now, why, and where each field comes from",
    )
    what.add_argument(
        "--file",
        type=_id,
        metavar="PATH",
        help="explain the import error of a DAG file, by its path in the DAG folder or bundle",
    )
    given = "with --explain:"
    check.add_argument("--task", action="append", metavar="ID", help=f"{given} a failed task; repeatable")
    check.add_argument(
        "--run-type",
        choices=RUN_TYPES,
        metavar="TYPE",
        help=f"{given} the type of the run: {', '.join(RUN_TYPES)} (default: scheduled)",
    )
    for name in ("tag", "owner"):
        check.add_argument(
            f"--{name}",
            action="append",
            metavar=name.upper(),
            help=f"{given} the {name}, instead of the DAG's; repeatable",
        )
    check.add_argument("--team", metavar="TEAM", help=f"{given} the team, instead of the DAG's")


def _add_outbox(commands: Any) -> None:
    text = "Show, deliver or discard the incidents that wait."
    group = commands.add_parser("outbox", help=text, description=text)
    outbox = group.add_subparsers(metavar="COMMAND", required=True)
    listing = _add_command(
        outbox,
        "list",
        "List the oldest incidents that wait or were rejected; change nothing.",
        "outbox.run_list",
    )
    listing.add_argument(
        "--limit", type=_limit, default=100, metavar="N", help="list at most N (default: 100)"
    )
    deliver = _add_command(
        outbox,
        "deliver",
        "Create all that waits in BzCtrl now. The exit code is 1 if an incident stays or is rejected.",
        "outbox.run_deliver",
    )
    deliver.add_argument(
        "--conn-id", metavar="ID", help="the connection for all incidents (default: that of each)"
    )
    discard = _add_command(
        outbox,
        "discard",
        "Delete incidents that wait or were rejected: they are not created. The exit code is 1 if one is not there.",
        "outbox.run_discard",
    )
    discard.add_argument("identity", nargs="+", metavar="IDENTITY", help="as the list shows it")


def _add_verify(commands: Any) -> None:
    verify = _add_command(
        commands,
        "verify",
        "Create an incident and a task in BzCtrl, and print what differs from the documented contract. The exit code is 1 if something does.",
        "verify.run",
    )
    verify.add_argument("--conn-id", metavar="ID", help="the connection (default: the option conn_id)")
    verify.add_argument("--yes", action="store_true", help="do not ask")
    verify.add_argument("--production", action="store_true", help="also if the connection leads to PROD")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LISTED_MAX:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_LISTED_MAX}")
    return int(text)


def _id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def main(argv: Sequence[str] | None = None, *, prog: str = "bzctrl") -> int:
    """Run one command.

    :param argv: the arguments; by default those of the process.
    :param prog: see ``make_parser``.
    :return: 0, or 1 if there is a fault; argparse ends with 2 if an argument is invalid or has no effect.
    """
    arguments = make_parser(prog).parse_args(argv)
    facts = [f"--{name.replace('_', '-')}" for name in _FACTS if getattr(arguments, name, None)]
    if facts and not arguments.explain:
        arguments.parser.error(f"{', '.join(facts)} has no effect without --explain DAG_ID")
    with _report_stream() as out:
        try:
            return run(arguments, out)
        except BrokenPipeError:  # such as in `bzctrl outbox list | head`
            return 1


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Run a command whose arguments are parsed.

    :param arguments: its arguments.
    :param out: gets the report.
    :return: the exit code.
    """
    module, _, name = arguments.function.partition(".")
    code: int = getattr(import_module(f"bzctrl_provider.cli.{module}"), name)(arguments, out)
    return code


@contextlib.contextmanager
def _report_stream() -> Iterator[TextIO]:
    """Keep standard output for the report: other output of this process goes to standard error.

    Airflow's versions log to different streams, some of which were opened before, so the file descriptor is replaced, too.
    """
    before = sys.stdout
    before.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        # Characters that the terminal does not have are written as escapes.
        with (
            open(
                saved, "w", encoding=before.encoding or "utf-8", errors="backslashreplace", closefd=False
            ) as out,
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield out
    finally:
        before.flush()
        os.dup2(saved, 1)
        os.close(saved)


def get_commands() -> list[Any]:
    """Return the command in Airflow's classes; every ``airflow`` command calls this."""
    from airflow.cli.cli_config import ActionCommand, Arg

    make_argument: Any = Arg  # it has no types
    return [
        ActionCommand(
            name="bzctrl",
            help=HELP,
            description=f"{HELP}\n\nThe commands are check, outbox list, outbox deliver, outbox discard and verify.\n"
            "Each has its own help: airflow bzctrl check --help",
            func=_run,
            args=[
                make_argument(
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
