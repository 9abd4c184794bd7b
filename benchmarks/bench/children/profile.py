"""Where the CPU of a todo goes: a sample of the running line every millisecond of CPU, added up by part.

A tracing profiler would charge the many small functions of Python for its own work.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from bench.children.create import contestants
from bench.children.worker import log_at_info

if TYPE_CHECKING:
    from types import FrameType

_PARTS = {
    "/client/todo.py": "the todo: checks, and its JSON",
    "/json/": "the todo: checks, and its JSON",
    "/bzctrl_provider/": "the rest of the provider",
    "/requests/": "requests",
    "/urllib3/": "urllib3",
    "/http/": "http.client and the answer's headers",
    "/email/": "http.client and the answer's headers",
    "/logging/": "logging",
}
"""A part by what a file's path holds; the first that fits."""
_SYSTEM_CALLS = {
    ("/http/client.py", "send"),
    ("/socket.py", "readinto"),
    ("/client/transport.py", "readinto"),
    ("/util/wait.py", ""),
}
_SYSTEM = "system calls: send, receive, wait"


def _part(frame: FrameType | None) -> str:
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if any(file.endswith(end) and name in ("", function) for end, name in _SYSTEM_CALLS):
            return _SYSTEM
        for mark, part in _PARTS.items():
            if mark in file:
                return part
        # The time of the standard library's small modules belongs to their callers.
        frame = frame.f_back
    return "the rest"


def main(url: str, todos: int) -> dict[str, float]:
    """Return the share of each part."""
    log_at_info()
    create = contestants(url)["ours"]
    create()
    samples: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        samples[_part(frame)] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    for _ in range(todos):
        create()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {part: round(number / samples.total(), 3) for part, number in samples.most_common()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
