"""Run the DAG of README.md and the data-quality example in a real Airflow, and show their incidents in the sandbox."""

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

from local_airflow import DAGS_FOLDER, environment, fill_warehouse, write_readme_dag

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


def run_dag(file: Path) -> Any:
    """Run the DAG of a file in this process; return the run."""
    with step(f"Running the DAG {file.stem}"):
        found = runpy.run_path(str(file))
        return found["dag"].test() if "dag" in found else find_dag(found).test()


def find_dag(names: dict[str, Any]) -> Any:
    """Return the DAG to which a task of a file belongs."""
    return next(value.dag for value in names.values() if hasattr(value, "task_id"))


def paint(state: str) -> str:
    """Return a state, in red if it is a failure and a person reads it."""
    return f"\033[31m{state}\033[0m" if state == "failed" and terminal.isatty() else state


def show(run: Any, todos: list[dict[str, Any]]) -> bool:
    """Print the states of a run and its incident; return whether it is as expected."""
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    width = max(map(len, states))
    for name, state in {"the run": str(run.state), **dict(sorted(states.items()))}.items():
        say(f"  {name:<{width}}  {paint(state)}")
    if len(todos) != 1 or str(run.state) != "failed":
        say(f"Expected one incident and a failed run, but the sandbox has {len(todos)} todos:\n")
        return False
    (todo,) = todos
    say(f"  The incident, as the sandbox has it: {todo['taskLink']}")
    known = {
        "EUR": todo.get("financialImpact"),
        "priority": todo.get("priority"),
        "assigned to": todo["assignee"],
    }
    say(f"  {todo['todoType']} {todo['key']}: {todo['title']}")
    say(f"  {', '.join(f'{name} {value}' for name, value in known.items() if value)}")
    for line in todo["description"].splitlines():
        say(f"  | {line}")
    return True


def main() -> int:
    """Return 0 if both failed runs became an incident each."""
    with tempfile.TemporaryDirectory(prefix="bzctrl-demo-") as folder, Sandbox() as sandbox:
        home = Path(folder)
        log = home / "airflow.log"
        divert_output(log)
        os.environ.update(environment(home, sandbox_url=sandbox.url))
        files = {
            write_readme_dag(home / "readme"): "the first code of README.md, with its default texts",
            DAGS_FOLDER / "sea_ports_quality.py": "an example on real data, with the amount at stake",
        }
        fill_warehouse(home / "dwh.db")
        try:
            from airflow.utils.db import upgradedb

            with step("Preparing a separate Airflow (SQLite, one process)"):
                upgradedb()
            for file, about in files.items():
                say(f"\n{file.stem}: {about}")
                before = len(sandbox.todos)
                if not show(run_dag(file), sandbox.todos[before:]):
                    say(log.read_text()[-4000:])
                    return 1
        except Exception:  # noqa: BLE001 - the user at the terminal has to see any error
            say(f"{log.read_text()[-4000:]}\n{traceback.format_exc()}")
            return 1
        if sys.stdin.isatty():
            say(
                "\nOpen the address of an incident (those of Airflow respond only with `make ui`); Enter ends the sandbox. ",
                end="",
            )
            sys.stdin.readline()
            say("The addresses above no longer respond.")
        else:
            say(
                "\nThe addresses above no longer respond; `make ui` keeps Airflow and the sandbox running, to click through."
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
