"""Many todos at a time: against a latency, or to see what stays in memory."""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

from bench.children.worker import log_at_info
from bench.todo import FIELDS
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

if TYPE_CHECKING:
    from collections.abc import Iterator


def todos(number: int) -> Iterator[dict[str, object]]:
    """Yield todos that are made one by one, each with a text of its own."""
    for index in range(number):
        yield {**FIELDS, "title": f"Order {index}", "description": f"Order {index} has no amount. " * 10}


def seconds(number: int, threads: int) -> dict[str, float]:
    """Return how long so many todos take, after one that brings the token."""
    hook = BzCtrlHook()
    hook.create_todo(FIELDS)
    began = time.perf_counter()
    results = hook.create_todos(todos(number), max_workers=threads)
    took = time.perf_counter() - began
    assert all(hasattr(result, "key") for result in results)
    return {"seconds": took}


def memory(number: int, threads: int) -> dict[str, float]:
    """Return the bytes at the peak, and those that the results hold."""
    hook = BzCtrlHook()
    hook.create_todos(todos(100), max_workers=threads)
    gc.collect()
    tracemalloc.start()
    results = hook.create_todos(todos(number), max_workers=threads)
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    with_results, _ = tracemalloc.get_traced_memory()
    assert len(results) == number
    del results
    gc.collect()
    without, _ = tracemalloc.get_traced_memory()
    return {"peak": peak, "results": with_results - without}


if __name__ == "__main__":
    log_at_info()
    what = {"seconds": seconds, "memory": memory}[sys.argv[1]]
    print(json.dumps(what(int(sys.argv[2]), int(sys.argv[3]))))
