"""The environment of a contestant: a log like that of a worker, a clock, and processes forked as Airflow forks them."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def log_at_info() -> None:
    """Write a formatted line for each record from INFO on, as a worker does, and throw it away."""
    stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    logging.basicConfig(level=logging.INFO, stream=stream, format="%(asctime)s %(message)s", force=True)


def timed(create: Callable[[], object], todos: int) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a todo."""
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(todos):
        create()
    return (time.perf_counter() - began) / todos, (time.process_time() - began_cpu) / todos


def cpu_ms(function: Callable[[], object]) -> float:
    """Return the CPU milliseconds of a call."""
    began = time.process_time()
    function()
    return (time.process_time() - began) * 1e3


def forked(measure: Callable[[], Any]) -> Any:
    """Return what a function returns in a process of its own, which shares only what was loaded before."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            json.dump(measure(), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("a forked measurement failed")
    return json.loads(text)


def forked_rounds(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Return what each contestant measures, in turn, each time in a fresh process."""
    for measure in contestants.values():  # writes the bytecode that an installation has
        forked(measure)
    # Out of the garbage collector's sight, as Airflow does before it forks.
    gc.collect()
    gc.freeze()
    measured: dict[str, list[Any]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            measured[name].append(forked(measure))
    return measured


def run(main: Callable[[int], dict[str, list[float]]]) -> None:
    """Measure as many rounds as the command line says, and print the values of each figure."""
    print(json.dumps(main(int(sys.argv[1]))))
