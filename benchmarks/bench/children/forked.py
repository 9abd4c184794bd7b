"""Measure in a forked process, as Airflow parses each file: what was loaded before is there, what it loads is gone after."""

from __future__ import annotations

import gc
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def forked(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a function returns in a process of its own."""
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
    answer: dict[str, Any] = json.loads(text)
    return answer


def settle() -> None:
    """Put what is loaded out of the garbage collector's sight, as Airflow does before it forks."""
    gc.collect()
    gc.freeze()
