"""Starts services, starts those again that may die, and leaves no process behind however its own parent ended.

Run as a process of its own, ``supervisor.py FOLDER…``. It takes one JSON object a line from standard input, each of them a service to start (see
``Service``), and ends everything when its input ends: a parent that was killed closes it as well as one that is done.
Whatever a service leaves behind (Airflow's and Celery's children leave their process groups) becomes a child of this
process, and is ended with it. The folders are removed at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.2


@dataclass(frozen=True)
class Service:
    """A process that is to run until everything ends."""

    name: str
    command: list[str]
    env: dict[str, str]
    folder: str
    """For its log (``NAME.log``, appended to) and its process id (``NAME.pid``)."""
    user: str | None = None
    """Who it runs as, where that is somebody else."""
    restart: bool = False
    """Whether it is started again when it dies."""
    stop_signal: int = signal.SIGTERM
    stop_s: float = 10
    """Seconds that it gets to end by itself."""

    def as_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


class Supervised:
    """The parent's side: a supervisor of its own, whose services and folders end with ``stop`` or with this process.

    :param folders: to be removed at the end.
    """

    def __init__(self, *folders: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, folders)],
            stdin=subprocess.PIPE,
            text=True,
            # Not in the group of the terminal, so that Ctrl-C reaches this process alone.
            start_new_session=True,
        )

    def start(self, service: Service) -> None:
        self._process.stdin.write(service.as_line())
        self._process.stdin.flush()

    def stop(self) -> None:
        """Return when nothing is left."""
        self._process.stdin.close()
        self._process.wait(timeout=120)


def start(service: Service) -> int:
    folder = Path(service.folder)
    with (folder / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.command,
            env=service.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=service.user,
            start_new_session=True,
        )
    # Waited for with all others, orphans included, and not by this object.
    process.returncode = 0
    (folder / f"{service.name}.pid").write_text(str(process.pid))
    return process.pid


def buried() -> set[int]:
    """Return the children that have died since the last look."""
    dead = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead.add(pid)


def stop(pid: int, service: Service) -> None:
    try:
        os.kill(pid, service.stop_signal)
    except ProcessLookupError:
        return
    ends_at = time.monotonic() + service.stop_s
    while time.monotonic() < ends_at and pid not in buried() and psutil.pid_exists(pid):
        time.sleep(_LOOK_S)
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)


def orders() -> Iterator[list[Service]]:
    """Yield, again and again, the services that the input has asked for since the last look, until it ends."""
    os.set_blocking(0, False)
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while True:
            *lines, waiting = waiting.split(b"\n")
            yield [Service(**json.loads(line)) for line in lines]
            if selector.select(_LOOK_S):
                read = os.read(0, 2**16)
                if not read:
                    return
                waiting += read


def end(running: dict[int, Service]) -> None:
    for pid, service in reversed(running.items()):
        stop(pid, service)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=_LOOK_S)
        buried()


def main(folders: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Ctrl-C is for the parent, whose end is the end of the input here.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    running: dict[int, Service] = {}
    try:
        for services in orders():
            dead = [running.pop(pid) for pid in buried() & running.keys()]
            for service in [*services, *(service for service in dead if service.restart)]:
                running[start(service)] = service
    finally:
        end(running)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
