"""Run the data-quality example in a real Airflow, and show the incident that it raises in the sandbox."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from local_airflow import DAGS_FOLDER, environment

from bzctrl_provider.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

terminal: TextIO
"""The terminal; the standard output is redirected to the log file."""


def say(*words: object, end: str = "\n") -> None:
    """Print to the terminal."""
    print(*words, end=end, file=terminal, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Print the description of a step, and its duration at the end."""
    say(f"{what} ", end="")
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1):
            say(".", end="")

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
        say()


def divert_output(to: Path) -> None:
    """Redirect the output of Airflow and its child processes into a file."""
    global terminal  # noqa: PLW0603 - there is one terminal
    terminal = os.fdopen(os.dup(1), "w")
    with to.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def run_dag(dag_id: str) -> Any:
    """Run an example DAG, whose file has the same name, in this process; return the run."""
    from airflow.utils.db import upgradedb

    with step("Preparing a separate Airflow (SQLite, one process)"):
        upgradedb()
    with step(f"Running the DAG {dag_id}"):
        return runpy.run_path(str(DAGS_FOLDER / f"{dag_id}.py"))["dag"].test()


def main() -> int:
    """Return 0 if the failed check became an incident."""
    with tempfile.TemporaryDirectory(prefix="bzctrl-demo-") as folder, Sandbox() as sandbox:
        home = Path(folder)
        log = home / "airflow.log"
        divert_output(log)
        os.environ.update(environment(home, sandbox_url=sandbox.url))
        try:
            run = run_dag("sea_ports_quality")
        except Exception:  # noqa: BLE001 - the user at the terminal has to see any error
            say(f"{log.read_text()[-4000:]}\n{traceback.format_exc()}")
            return 1
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
        checks = {task: state for task, state in states.items() if task.startswith("check_")}
        say(f"Checked: {', '.join(f'{task} {state}' for task, state in sorted(checks.items()))}")
        say(f"The run: {run.state}; publish: {states['publish']}; raise_incident: {states['raise_incident']}")
        if len(sandbox.todos) != 1 or str(run.state) != "failed":
            say(f"Expected one incident and a failed run, but the sandbox has {len(sandbox.todos)} todos:\n")
            say(log.read_text()[-4000:])
            return 1
        todo = sandbox.todos[0]
        say(f"The incident, as the sandbox has it: {todo['taskLink']}")
        say(f"  {todo['todoType']} {todo['key']}: {todo['title']}")
        say(f"  EUR {todo['financialImpact']}, priority {todo['priority']}, assigned to {todo['assignee']}")
        for line in todo["description"].splitlines():
            say(f"  | {line}")
        if sys.stdin.isatty():
            say("Open the link; Enter ends the sandbox. ", end="")
            sys.stdin.readline()
        else:
            say(
                "Both links are closed by now; `make ui` keeps Airflow and the sandbox running, to click through."
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
