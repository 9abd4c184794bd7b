from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.cli import main as command_line

LOADED_MODULES = """
import json, sys
from bzctrl_provider.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def called(monkeypatch):
    """Return the arguments of each command that is run, which prints one line and ends with code 1."""
    calls = []

    def run(arguments, out):
        calls.append((arguments.function, vars(arguments)))
        sys.stdout.write("noise\n")
        out.write("report ü\n")
        return 1

    monkeypatch.setattr(command_line, "run", run)
    return calls


def test_help_loads_neither_airflow_nor_an_http_library():
    """The help is printed without the import of Airflow, requests or pydantic."""
    result = subprocess.run(
        [sys.executable, "-c", LOADED_MODULES], check=True, capture_output=True, text=True
    )
    names = {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}
    assert "bzctrl_provider" in names
    assert names.isdisjoint({"airflow", "requests", "pydantic", "sqlalchemy"})


INVALID = [
    ("", "required"),
    ("chek", "invalid choice"),
    ("outbox", "required"),
    ("outbox list --limit x", "invalid int value: 'x'"),
    ("check --jsno", "bzctrl: error: unrecognized arguments: --jsno\n"),
    ("outbox deliver --limit 3", "bzctrl: error: unrecognized arguments: --limit 3\n"),
    ("outbox discard", "the following arguments are required: IDENTITY"),
    # An argument that would be ignored is an error, so that nobody relies on it.
    ("check --task t --run-type manual", "--task, --run-type has no effect without --explain DAG_ID"),
    ("check --file a.py --tag x", "--tag has no effect without --explain DAG_ID"),
    ("check --explain d --file a.py", "not allowed with argument --explain"),
    ("check --explain d --conn-id c", "not allowed with argument --explain"),
]


def test_main_with_an_invalid_argument_ends_with_code_2(called, capsys):
    """An invalid argument, or one without an effect, is explained on standard error, before anything is run."""
    for line, message in INVALID:
        with pytest.raises(SystemExit) as ended:
            command_line.main(line.split())
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    assert called == []


def test_main_keeps_standard_output_for_the_report(called, capfd):
    """Output of other code goes to standard error, also during the command, and afterwards standard output is as before."""
    assert command_line.main(["check", "--json", "--explain", "d", "--task", "a", "--task", "b"]) == 1
    sys.stdout.write("after\n")
    captured = capfd.readouterr()
    assert captured.out == "report ü\nafter\n"
    assert captured.err == "noise\n"
    [(name, arguments)] = called
    assert (name, arguments["json"], arguments["task"]) == ("check.run", True, ["a", "b"])


def test_main_into_a_closed_pipe_ends_without_a_traceback(monkeypatch, capfd):
    """A reader that ends early, such as head, is no error to report."""

    def run(arguments, out):
        raise BrokenPipeError

    monkeypatch.setattr(command_line, "run", run)
    assert command_line.main(["check"]) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(VERSION < (3, 2), reason="Airflow reads the commands of providers from 3.2 on")
def test_airflow_passes_the_arguments_through(called, capfd):
    """`airflow bzctrl …` has the same parser, and its exit code, which Airflow would ignore, is raised."""
    from airflow.cli.cli_parser import get_parser

    def run(line):
        arguments = get_parser().parse_args(["bzctrl", *line.split()])
        with pytest.raises(SystemExit) as ended:
            arguments.func(arguments)
        return ended.value.code, capfd.readouterr()

    code, output = run("outbox list --limit 3 --json")
    assert (code, output.out) == (1, "report ü\n")
    [(name, arguments)] = called
    assert (name, arguments["limit"], arguments["json"]) == ("outbox.run_list", 3, True)
    code, output = run("check --task a")
    assert (code, "airflow bzctrl check: error: --task has no effect" in output.err) == (2, True)
    code, output = run("outbox discard --help")
    assert (code, "IDENTITY" in output.out) == (0, True)
