from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import mask_secret

from bzctrl_provider import policy
from bzctrl_provider.settings import settings

FILE = Path(__file__).parent / "files" / "log_lines.py"
LOG = [
    *(f"line {number} red" for number in range(1, 97)),
    "line 97 ***",
    *(f"line {number} red" for number in range(98, 101)),
    "Command exited with return code 1",
]


@pytest.fixture
def set_options(monkeypatch):
    """Return what sets options of the [bzctrl] section."""

    def set_options(**options):
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__BZCTRL__{name.upper()}", str(value))
        settings.cache_clear()

    yield set_options
    settings.cache_clear()


@pytest.fixture
def run_with_policy(run):
    """Return what runs a DAG to which the policy was applied, as Airflow does when it loads a file."""

    def run_dag(name):
        dag = runpy.run_path(str(FILE))[name]
        for task in dag.tasks:
            policy.task_policy(task)
        policy.dag_policy(dag)
        dag.test()

    return run_dag


def find_logs(todo):
    """Return the lines of each log in a description."""
    logs = []
    for line in todo["description"].splitlines():
        if line.endswith(
            " Last lines of its log:"
        ):  # behind the index of an instance, if it is the first line
            logs.append([])
        elif line.startswith("  | "):
            logs[-1].append(line[4:])
    return logs


def test_roll_up_incident_has_the_last_lines_of_each_command(run, bzctrl_sandbox):
    """The operator's parameter is the only setup: as many lines for each failed task."""
    run(FILE, "rolled_up")
    (todo,) = bzctrl_sandbox.todos
    assert find_logs(todo) == [LOG[-5:], LOG[-5:]]


def test_roll_up_incident_has_the_lines_of_each_mapped_instance(run, bzctrl_sandbox):
    """Each instance that failed has its own."""
    run(FILE, "mapped_lines")
    (todo,) = bzctrl_sandbox.todos
    assert find_logs(todo) == [
        ["late", "Command exited with return code 1"],
        ["lost", "Command exited with return code 2"],
    ]


@pytest.mark.security
@pytest.mark.parametrize(
    ("dag_id", "options", "lines"),
    [
        ("rolled_up", {}, 5),
        ("rolled_up", {"include_log_lines": 20}, 5),
        ("rolled_up_by_option", {"include_log_lines": 50}, 50),
        ("rolled_up_by_option", {}, 0),
        ("rolled_up_by_option", {"include_log_lines": 50, "remember_exceptions": False}, 0),
        ("rolled_up_without", {"include_log_lines": 50, "remember_exceptions": True}, 0),
        ("notified_of_task", {"include_log_lines": 3}, 3),
        ("notified_of_task", {}, 0),
        ("notified_of_task", {"include_log_lines": 51}, 0),
    ],
)
def test_incident_has_as_many_lines_as_its_own_setting_says(
    run_with_policy, set_options, bzctrl_sandbox, dag_id, options, lines
):
    """The parameter, otherwise the option, counts for each incident, however many lines the tasks keep; none has a secret."""
    set_options(**options)
    run_with_policy(dag_id)
    (todo,) = bzctrl_sandbox.todos
    for log in find_logs(todo) or [[]]:
        assert log == (LOG[-lines:] if lines else [])
    assert bool(find_logs(todo)) == bool(lines)
    assert "s3cret" not in str(todo)


@pytest.mark.security
def test_python_task_lines_are_those_of_its_loggers(run, bzctrl_sandbox):
    """Of any logger, without what Airflow logs around the task; a long line is redacted before it is cut."""
    mask_secret("s3cret-of-a-command")
    run(FILE, "python")
    (todo,) = bzctrl_sandbox.todos
    ((first, *lines),) = find_logs(todo)
    assert first.startswith("…")
    assert first.endswith("a line *** of 7000 characters")
    assert lines == ["read 7 rows", "of two lines", "100 %s", "3 rows are late\ufffd\u202e"]
    assert len("\n".join([first, *lines])) == 2000
