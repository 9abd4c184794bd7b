"""The environment of a contestant in each process: a log like that of a worker, and a clock."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 10
"""Todos of one contestant before it is the next one's turn: some 5 ms."""


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
