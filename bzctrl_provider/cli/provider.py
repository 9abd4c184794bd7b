"""Give Airflow 3.2 and newer the commands, as ``airflow bzctrl``: the key ``cli`` of the provider info names this module."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bzctrl_provider.cli.commands import COMMANDS, HELP, Command, Group

if TYPE_CHECKING:
    import argparse


def get_commands() -> list[Any]:
    """Return the commands in Airflow's classes; every ``airflow`` command calls this."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    make_argument: Any = Arg  # it has no types

    def convert(command: Command | Group) -> Any:
        if isinstance(command, Group):
            children = tuple(map(convert, command.commands))
            return GroupCommand(name=command.name, help=command.help, subcommands=children)
        return ActionCommand(
            name=command.name,
            help=command.help,
            func=partial(_run, command),
            args=[make_argument((argument.flag,), **argument.options) for argument in command.arguments],
        )

    return [GroupCommand(name="bzctrl", help=HELP, subcommands=tuple(map(convert, COMMANDS)))]


def _run(command: Command, arguments: argparse.Namespace) -> None:
    from bzctrl_provider.cli.main import run

    # Airflow ignores what a command returns.
    if code := run(command, arguments):
        raise SystemExit(code)
