"""The commands and their arguments, as data: for ``bzctrl`` and for ``airflow bzctrl``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

HELP = "Check the BzCtrl provider of this deployment, deliver its spool, and prune its Variables."

_LIMIT = 100
_LIMIT_MAX = 10_000
_DAYS = 30
_DAYS_MAX = 3650


@dataclass(frozen=True)
class Argument:
    """Hold one argument.

    :param flag: its name, such as ``--json``.
    :param options: the keyword arguments of ``ArgumentParser.add_argument``.
    """

    flag: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """Hold one command.

    :param name: its name.
    :param help: one sentence.
    :param function: the module of this package and the name of the function that runs it.
    :param arguments: its arguments.
    :param find_error: returns why its arguments do not fit together; None if they do.
    """

    name: str
    help: str
    function: tuple[str, str]
    arguments: tuple[Argument, ...]
    find_error: Callable[[argparse.Namespace], str | None] = lambda _: None

    def run(self, arguments: argparse.Namespace, out: TextIO) -> int:
        """Run the command.

        :param arguments: the parsed arguments.
        :param out: gets the report.
        :return: the exit code.
        """
        module, name = self.function
        code: int = getattr(import_module(f"bzctrl_provider.cli.{module}"), name)(arguments, out)
        return code


@dataclass(frozen=True)
class Group:
    """Hold commands with a common name.

    :param name: the name.
    :param help: one sentence.
    :param commands: the commands.
    """

    name: str
    help: str
    commands: tuple[Command, ...]


def _limit(text: str) -> int:
    return _whole_number(text, _LIMIT_MAX)


def _days(text: str) -> int:
    return _whole_number(text, _DAYS_MAX)


def _whole_number(text: str, maximum: int) -> int:
    if not text.isdecimal() or not 1 <= (number := int(text[:9])) <= maximum:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {maximum}")
    return number


def _id(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _find_explanation_error(arguments: argparse.Namespace) -> str | None:
    if arguments.explain and arguments.file:
        return "give --explain DAG_ID or --file PATH, not both: an import error has no DAG"
    if arguments.conn_id and (arguments.explain or arguments.file):
        return "--conn-id has no effect with --explain or --file, which make no request"
    facts = ("task", "run_type", "tag", "owner", "team")
    given = [f"--{name.replace('_', '-')}" for name in facts if getattr(arguments, name)]
    if given and not arguments.explain:
        return f"{', '.join(given)} has no effect without --explain DAG_ID"
    return None


RUN_TYPES = (
    "backfill",
    "scheduled",
    "manual",
    "operator_triggered",
    "asset_triggered",
    "asset_materialization",
    "dataset_triggered",
)
"""Those of the page on routes; here, because the help loads nothing of the provider."""

_JSON = Argument("--json", {"action": "store_true", "help": "print one JSON object instead of lines"})

_OLDER_THAN = Argument(
    "--older-than-days",
    {
        "type": _days,
        "default": _DAYS,
        "metavar": "N",
        "help": f"a Variable is unused if it was last used N days ago or earlier (default: {_DAYS})",
    },
)

_MAXIMUM = Argument(
    "--limit",
    {"type": _limit, "default": _LIMIT, "metavar": "N", "help": f"list at most N (default: {_LIMIT})"},
)

_EXPLANATION = (
    Argument(
        "--explain",
        {
            "type": _id,
            "metavar": "DAG_ID",
            "help": "only print which route gives each field of an incident",
        },
    ),
    Argument(
        "--task", {"action": "append", "metavar": "ID", "help": "with --explain: a failed task; repeatable"}
    ),
    Argument(
        "--run-type",
        {
            "choices": RUN_TYPES,
            "metavar": "TYPE",
            "help": f"with --explain: the type of the run: {', '.join(RUN_TYPES)} (default: scheduled)",
        },
    ),
    Argument(
        "--tag",
        {
            "action": "append",
            "metavar": "TAG",
            "help": "with --explain: a tag, instead of the DAG's; repeatable",
        },
    ),
    Argument(
        "--owner",
        {
            "action": "append",
            "metavar": "OWNER",
            "help": "with --explain: an owner, instead of the DAG's; repeatable",
        },
    ),
    Argument("--team", {"metavar": "TEAM", "help": "with --explain: the team, instead of the DAG's"}),
    Argument(
        "--file",
        {
            "type": _id,
            "metavar": "PATH",
            "help": "explain the import error of a DAG file, by its path in the DAG folder or bundle",
        },
    ),
)

COMMANDS: tuple[Command | Group, ...] = (
    Command(
        "check",
        "Check connection, token, options, routes, silences and spool; create nothing. The exit code is 1 on a fault.",
        ("check", "run"),
        (
            Argument(
                "--conn-id",
                {"metavar": "ID", "help": "the connection (default: the option conn_id)"},
            ),
            _JSON,
            *_EXPLANATION,
        ),
        _find_explanation_error,
    ),
    Group(
        "spool",
        "Show or deliver the incidents that wait in the spool.",
        (
            Command(
                "list",
                "List the oldest entries, one on each line; change nothing.",
                ("spool", "run_list"),
                (
                    _MAXIMUM,
                    _JSON,
                ),
            ),
            Command(
                "deliver",
                "Create all that waits in BzCtrl now. The exit code is 1 if an entry stays or is rejected.",
                ("spool", "run_deliver"),
                (
                    Argument(
                        "--conn-id",
                        {
                            "metavar": "ID",
                            "help": "the connection for all entries (default: that of each entry)",
                        },
                    ),
                    _JSON,
                ),
            ),
        ),
    ),
    Group(
        "variables",
        "Show or remove the Variables in which the provider remembers todos, windows and silenced failures.",
        (
            Command(
                "list",
                "List the Variables of the provider in Airflow's database, the oldest first; change nothing.",
                ("variables", "run_list"),
                (_OLDER_THAN, _MAXIMUM, _JSON),
            ),
            Command(
                "prune",
                "Remove the unused Variables from Airflow's database. The exit code is 1 if that is not possible.",
                ("variables", "run_prune"),
                (
                    _OLDER_THAN,
                    Argument(
                        "--dry-run", {"action": "store_true", "help": "only print what would be removed"}
                    ),
                    _JSON,
                ),
            ),
        ),
    ),
)
