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

_HELP = {
    "check.run": "Check connection, token, options, routes, silences, outbox and delivery; create nothing. The exit code is 1 on a fault.",
    "outbox.run_list": "List the oldest incidents that wait or were rejected; change nothing.",
    "outbox.run_deliver": "Create all that waits in BzCtrl now. The exit code is 1 if an incident stays or is rejected.",
    "outbox.run_discard": "Delete incidents that wait or were rejected: they are not created. The exit code is 1 if one is not there.",
    "verify.run": "Create an incident and a task in BzCtrl, and print what differs from the documented contract. The exit code is 1 if something does.",
}
"""The commands by their modules and functions."""

_FACTS: dict[str, dict[str, Any]] = {
    "task": {"action": "append", "metavar": "ID", "help": "a failed task; repeatable"},
    "run-type": {"metavar": "TYPE", "help": "the type of the run, as in a routes file (default: scheduled)"},
    "tag": {"action": "append", "metavar": "TAG", "help": "the tag, instead of the DAG's; repeatable"},
    "owner": {"action": "append", "metavar": "OWNER", "help": "the owner, instead of the DAG's; repeatable"},
    "team": {"metavar": "TEAM", "help": "the team, instead of the DAG's"},
}
"""The arguments of check about the failure that is explained."""


def make_parser(prog: str = "bzctrl") -> argparse.ArgumentParser:
    """Return the parser of the command line.

    :param prog: the words before its arguments, in the help and in errors.
    """
    parser = argparse.ArgumentParser(prog=prog, description=HELP)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_check(_add_command(commands, "check", "check.run"))
    text = "Show, deliver or discard the incidents that wait."
    _add_outbox(commands.add_parser("outbox", help=text, description=text))
    verify = _add_command(commands, "verify", "verify.run")
    verify.add_argument("--conn-id", metavar="ID", help="the connection (default: the option conn_id)")
    verify.add_argument("--yes", action="store_true", help="do not ask")
    verify.add_argument("--production", action="store_true", help="also if the connection leads to PROD")
    return parser


def _add_command(commands: Any, name: str, function: str) -> argparse.ArgumentParser:
    text = _HELP[function]
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(function=function, parser=parser)
    return parser


def _add_check(check: argparse.ArgumentParser) -> None:
    what = check.add_mutually_exclusive_group()
    what.add_argument("--conn-id", metavar="ID", help="the connection (default: the option conn_id)")
    text = "only print whether an incident would be raised for a DAG now, why, and where its fields come from"
    what.add_argument("--explain", metavar="DAG_ID", help=text)
    text = "explain the import error of a DAG file, by its path in the DAG folder or bundle"
    what.add_argument("--file", metavar="PATH", help=text)
    facts = check.add_argument_group("with --explain")
    for name, options in _FACTS.items():
        facts.add_argument(f"--{name}", **options)


def _add_outbox(parser: argparse.ArgumentParser) -> None:
    outbox = parser.add_subparsers(metavar="COMMAND", required=True)
    listing = _add_command(outbox, "list", "outbox.run_list")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="list at most N (default: 100)")
    deliver = _add_command(outbox, "deliver", "outbox.run_deliver")
    text = "the connection for all incidents (default: that of each)"
    deliver.add_argument("--conn-id", metavar="ID", help=text)
    discard = _add_command(outbox, "discard", "outbox.run_discard")
    discard.add_argument("identity", nargs="+", metavar="IDENTITY", help="as the list shows it")


def main(argv: Sequence[str] | None = None, *, prog: str = "bzctrl") -> int:
    """Run one command.

    :param argv: the arguments; by default those of the process.
    :param prog: see ``make_parser``.
    :return: 0, or 1 if there is a fault; argparse ends with 2 if an argument is invalid or has no effect.
    """
    arguments = make_parser(prog).parse_args(argv)
    facts = [f"--{name}" for name in _FACTS if getattr(arguments, name.replace("-", "_"), None)]
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
    from bzctrl_provider.airflow_compat import use_metadata_database

    # First: it says where Airflow looks up connections and Variables.
    use_metadata_database()
    module, _, name = arguments.function.partition(".")
    return int(getattr(import_module(f"bzctrl_provider.cli.{module}"), name)(arguments, out))


@contextlib.contextmanager
def _report_stream() -> Iterator[TextIO]:
    """Keep standard output for the report: other output of this process goes to standard error.

    Airflow's versions log to different streams, some of which were opened before, so the file descriptor is replaced, too.
    """
    sys.stdout.flush()
    encoding = sys.stdout.encoding or "utf-8"
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        # Characters that the terminal does not have are written as escapes.
        with (
            open(saved, "w", encoding=encoding, errors="backslashreplace", closefd=False) as out,
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield out
    finally:
        # First: the output of other code is still in a buffer, and goes to standard error.
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def get_commands() -> list[Any]:
    """Return the command in Airflow's classes; every ``airflow`` command calls this."""
    from airflow.cli.cli_config import ActionCommand, Arg

    arguments = Arg(("arguments",), nargs=argparse.REMAINDER, help="the command with its arguments")  # type: ignore[no-untyped-call]  # Airflow's class has no types
    text = f"{HELP}\n\nThe commands are check, outbox list, outbox deliver, outbox discard and verify.\nEach has its own help: airflow bzctrl check --help"
    return [ActionCommand(name="bzctrl", help=HELP, description=text, func=_run, args=[arguments])]


def _run(arguments: argparse.Namespace) -> None:
    # Airflow ignores what a command returns.
    if code := main(arguments.arguments, prog="airflow bzctrl"):
        raise SystemExit(code)
