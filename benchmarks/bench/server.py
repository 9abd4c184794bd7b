"""A BzCtrl with little cost: it responds to both requests immediately, or after the latency in the path.

It runs in a separate process, so that no contestant's CPU time includes it, and serves some 10,000 requests a second.
The sandbox checks every request against the contract, which would be the larger part of what is measured here.

A path such as ``/run-3/latency-50/bzctrl-core-api/…`` is answered after 50 ms; ``GET /run-3/counts`` returns the number of connections,
token requests and create requests of the paths that begin with ``/run-3/``; there is also ``GET /memory``.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter

_LATENCY = re.compile(rb"/latency-(\d+)/")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

_counts: dict[bytes, Counter[str]] = {}


def _answer(body: dict[str, object]) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


_TOKEN = _answer({"access_token": "0123456789abcdef" * 2, "token_type": "Bearer", "expires_in": 3600})
_CREATED = _answer(
    {
        "title": "amounts: 2 of 5 checks failed",
        "taskType": "INCIDENT",
        "description": "In the DAG amounts, 2 of 5 checks failed.",
        "taskLink": "https://www.bzctrl.com/app/#/todo/EXA-CON-BUS-WOR-03",
        "tags": ["ORDER 777"],
    }
)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""
        self._counted: set[bytes] = set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        self._handle(head.split(b" ", 2)[1])

    def _handle(self, path: bytes) -> None:
        run = path.split(b"/", 2)[1]
        counts = _counts.setdefault(run, Counter())
        if path.endswith(b"/counts"):
            self._transport.write(_answer(dict(counts)))
            return
        if run not in self._counted:
            self._counted.add(run)
            counts["connections"] += 1
        is_token = path.endswith(b"/oauth/token")
        counts["token" if is_token else "create"] += 1
        answer = _TOKEN if is_token else _CREATED
        latency = _LATENCY.search(path)
        if latency:
            asyncio.get_running_loop().call_later(int(latency[1]) / 1000, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Until the parent process ends, which closes the input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
