"""A BzCtrl with little cost: it responds to both requests immediately, or after the latency in the path.

It runs in a process of its own, so that no contestant's CPU time includes it. The sandbox checks each request against the
contract, which would be the larger part of what is measured here. The response to a path such as
``/latency-50/bzctrl-core-api/…`` follows 50 ms after the request.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

_LATENCY = re.compile(rb"/latency-(\d+)/")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _response(body: dict[str, object]) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


_TOKEN = _response({"access_token": "0123456789abcdef" * 2, "token_type": "Bearer", "expires_in": 3600})
_CREATED = _response(
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

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        path = head.split(b" ", 2)[1]
        response = _TOKEN if path.endswith(b"/oauth/token") else _CREATED
        latency = _LATENCY.search(path)
        if latency:
            loop = asyncio.get_running_loop()
            loop.call_later(int(latency[1]) / 1000, self._transport.write, response)
        else:
            self._transport.write(response)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Until the parent process ends, which closes the input.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
