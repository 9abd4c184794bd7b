"""How near many todos at a time come to what the server's latency allows."""

from __future__ import annotations

import json
import math
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.figures import Figure, figure
from bench.todo import FIELDS

if TYPE_CHECKING:
    from bench.processes import Bench

LATENCY_MS = 50
_TODOS = 500
_ROUNDS = 9


def bound_s(todos: int, threads: int, *, latency_ms: int = LATENCY_MS) -> float:
    """Return the shortest time in which so many requests can be answered, so many at a time."""
    return math.ceil(todos / threads) * latency_ms / 1000


def measure(bench: Bench) -> list[Figure]:
    """Measure 8 and 32 threads, and bare sockets to see that it is not the server that bounds them."""
    shares: dict[tuple[str, int], list[float]] = {
        (what, threads): [] for threads in (8, 32) for what in ("threads", "sockets")
    }
    for _ in range(bench.rounds(_ROUNDS)):
        for (what, threads), of in shares.items():
            run = bench.new_run(latency_ms=LATENCY_MS)
            if what == "threads":
                took = bench.child("bulk", "seconds", _TODOS, threads, run=run)["seconds"]
            else:
                took = _by_bare_sockets(run, threads)
            of.append(bound_s(_TODOS, threads) / took)
    names = {
        "threads": f"latency bound / time of {_TODOS} todos, {LATENCY_MS} ms latency, {{}} threads",
        "sockets": "the same by {} bare sockets",
    }
    return [
        figure(f"bulk.{what}_{threads}", names[what].format(threads), of)
        for (what, threads), of in shares.items()
    ]


def _by_bare_sockets(run: str, threads: int) -> float:
    """Return the seconds that threads take which do nothing but send and receive."""
    address = urlsplit(run)
    body = json.dumps(FIELDS)
    path = f"{address.path}/bzctrl-core-api/api/v1/task/add-task"
    request = f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    requests = iter([request] * _TODOS)
    assert address.hostname is not None
    assert address.port is not None
    where = address.hostname, address.port

    def work() -> None:
        with socket.create_connection(where) as connection:
            for each in requests:
                connection.sendall(each)
                connection.recv(65536)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for worker in [pool.submit(work) for _ in range(threads)]:
            worker.result()
    return time.perf_counter() - began
