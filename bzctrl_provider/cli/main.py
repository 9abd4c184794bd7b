"""Run the command ``bzctrl``."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from typing import TYPE_CHECKING

from bzctrl_provider.cli.commands import COMMANDS, HELP, Command, Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

_STDOUT, _STDERR = 1, 2


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="bzctrl", description=HELP)
    _add(parser, COMMANDS)
    return parser


def _add(parser: argparse.ArgumentParser, commands: Sequence[Command | Group]) -> None:
    children = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        child = children.add_parser(command.name, help=command.help, description=command.help)
        if isinstance(command, Group):
            _add(child, command.commands)
            continue
        for argument in command.arguments:
            child.add_argument(argument.flag, **argument.options)
        child.set_defaults(command=command, parser=child)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :param argv: the arguments; by default those of the process.
    :return: 0, or 1 if there is a fault; argparse ends with 2 if an argument is invalid.
    """
    arguments, unknown = make_parser().parse_known_args(argv)
    if unknown:
        arguments.parser.error(_describe_unknown(unknown, arguments.command))
    return run(arguments.command, arguments)


def _describe_unknown(unknown: Sequence[str], command: Command) -> str:
    flags = [argument.flag for argument in command.arguments]
    close = difflib.get_close_matches(unknown[0][:80], flags, n=1)
    remedy = f": did you mean {close[0]}?" if close else ""
    return f"unrecognized arguments: {' '.join(unknown)}{remedy}"


def run(command: Command, arguments: argparse.Namespace) -> int:
    """Run a command whose arguments are parsed.

    :param command: the command.
    :param arguments: its arguments.
    :return: the exit code; 2 if the arguments do not fit together.
    """
    if error := command.find_error(arguments):
        print(f"bzctrl {command.name}: error: {error}", file=sys.stderr)
        return 2
    with _report_stream() as out:
        try:
            return command.run(arguments, out)
        except BrokenPipeError:  # such as in `bzctrl spool list | head`
            return 1


@contextlib.contextmanager
def _report_stream() -> Iterator[TextIO]:
    """Keep standard output for the report: other output of this process goes to standard error.

    Airflow's versions log to different streams, some of which were opened before, so the file descriptor is replaced, too.
    """
    before = sys.stdout
    before.flush()
    saved = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
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
        os.dup2(saved, _STDOUT)
        os.close(saved)
