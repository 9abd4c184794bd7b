from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.cli import main as command_line
from bzctrl_provider.cli.commands import COMMANDS, RUN_TYPES, Command, Group
from bzctrl_provider.cli.provider import get_commands
from bzctrl_provider.routes import parser
from bzctrl_provider.routes.route import current_run_type

LOADED_MODULES = """
import json, sys
from bzctrl_provider.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""


def flat(commands, prefix=()):
    """Yield the words of each command, with the command."""
    for command in commands:
        if isinstance(command, Group):
            yield from flat(command.commands, (*prefix, command.name))
        else:
            yield (*prefix, command.name), command


@pytest.fixture
def called(monkeypatch):
    """Return the arguments of each command that is run, which prints one line and ends with code 1."""
    calls = []

    def run(command, arguments, out):
        calls.append((command.name, vars(arguments)))
        sys.stdout.write("noise\n")
        out.write("report ü\n")
        return 1

    monkeypatch.setattr(Command, "run", run)
    return calls


def test_help_loads_neither_airflow_nor_an_http_library():
    """The help is printed without the import of Airflow, requests or pydantic."""
    result = subprocess.run(
        [sys.executable, "-c", LOADED_MODULES], check=True, capture_output=True, text=True
    )
    names = {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}
    assert "bzctrl_provider" in names
    assert names.isdisjoint({"airflow", "requests", "pydantic", "sqlalchemy"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required"),
        (["chek"], "invalid choice"),
        (["spool"], "required"),
        (["spool", "list", "--limit", "0"], "must be a whole number from 1 to 10000"),
        (["spool", "list", "--limit", "9" * 5000], "must be a whole number from 1 to 10000"),
        (["check", "--jsno"], "bzctrl check: error: unrecognized arguments: --jsno: did you mean --json?"),
        (
            ["spool", "deliver", "--limit", "3"],
            "bzctrl spool deliver: error: unrecognized arguments: --limit 3\n",
        ),
        (["check", "--explain", " "], "must not be empty"),
        (["check", "--explain", "d", "--run-type", "backfil"], "invalid choice: 'backfil'"),
        (["variables", "prune", "--older-than-days", "0"], "must be a whole number from 1 to 3650"),
    ],
)
def test_main_with_an_invalid_argument_ends_with_code_2(argv, message, capsys):
    """An invalid argument is explained on standard error, before anything is loaded."""
    with pytest.raises(SystemExit) as ended:
        command_line.main(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_main_keeps_standard_output_for_the_report(called, capfd):
    """Output of other code goes to standard error, also during the command, and afterwards standard output is as before."""
    assert command_line.main(["check", "--json", "--explain", "d", "--task", "a", "--task", "b"]) == 1
    sys.stdout.write("after\n")
    captured = capfd.readouterr()
    assert captured.out == "report ü\nafter\n"
    assert captured.err == "noise\n"
    [(name, arguments)] = called
    assert (name, arguments["json"], arguments["task"]) == ("check", True, ["a", "b"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--task", "t", "--run-type", "manual"],
            "--task, --run-type has no effect without --explain DAG_ID",
        ),
        (["--file", "a.py", "--tag", "x"], "--tag has no effect without --explain DAG_ID"),
        (["--explain", "d", "--file", "a.py"], "not both"),
        (["--explain", "d", "--conn-id", "c"], "--conn-id has no effect"),
    ],
)
def test_main_with_arguments_that_do_not_fit_runs_nothing(argv, message, called, capsys):
    """An argument that would be ignored is an error, so that nobody relies on it."""
    assert command_line.main(["check", *argv]) == 2
    assert message in capsys.readouterr().err
    assert called == []


def test_run_types_of_the_command_are_those_of_a_routes_file():
    """The command line knows each type that a matcher knows."""
    assert {current_run_type(name) for name in RUN_TYPES} == set(parser._RUN_TYPES)


def test_main_into_a_closed_pipe_ends_without_a_traceback(monkeypatch, capfd):
    """A reader that ends early, such as head, is no error to report."""

    def run(command, arguments, out):
        raise BrokenPipeError

    monkeypatch.setattr(Command, "run", run)
    assert command_line.main(["check"]) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(VERSION < (3, 2), reason="Airflow reads the commands of providers from 3.2 on")
@pytest.mark.parametrize(("words", "command"), list(flat(COMMANDS)), ids=str)
def test_airflow_has_the_same_commands_and_arguments(words, command):
    """Each command and each of its arguments exists as `airflow bzctrl …`."""
    [group] = get_commands()
    assert group.name == "bzctrl"
    for word in words:
        [group] = [child for child in group.subcommands if child.name == word]
    assert [arg.flags for arg in group.args] == [(argument.flag,) for argument in command.arguments]


@pytest.mark.skipif(VERSION < (3, 2), reason="Airflow reads the commands of providers from 3.2 on")
def test_airflow_command_with_a_fault_ends_with_its_code(called, capfd):
    """Airflow ignores the result of a command, so the exit code is raised."""
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(["bzctrl", "spool", "list", "--limit", "3"])
    with pytest.raises(SystemExit) as ended:
        arguments.func(arguments)
    assert ended.value.code == 1
    assert capfd.readouterr().out == "report ü\n"
    assert called[0][1]["limit"] == 3
