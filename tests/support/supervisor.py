"""Start services, restart some of them, and end all their processes when the parent process ends.

Run as a separate process, ``supervisor.py FOLDER…``. Each line of standard input is a JSON object with a service to start
(see ``Service``). At the end of the input, which a killed parent closes too, all services end. Orphans of services
(Airflow's and Celery's children leave their process groups) become children of this process and end with it. The folders
are removed at the end.
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
    """A process that runs until the supervisor ends it."""

    name: str
    command: list[str]
    env: dict[str, str]
    folder: str
    """The folder of its log (``NAME.log``, appended to) and its process id (``NAME.pid``)."""
    user: str | None = None
    """The user as whom it runs, if that is another one."""
    restart: bool = False
    """Whether it is restarted if it dies."""
    disk: str | None = None
    """A folder that is empty at each start, as the disk of a pod is."""
    stop_signal: int = signal.SIGTERM
    stop_s: float = 10
    """Seconds until it is killed after ``stop_signal``."""

    def as_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


class Supervised:
    """The parent's side: a supervisor whose services and folders end with ``stop`` or with this process.

    :param folders: to be removed at the end.
    """

    def __init__(self, *folders: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, folders)],
            stdin=subprocess.PIPE,
            text=True,
            # Not in the process group of the terminal, so that Ctrl-C reaches only this process.
            start_new_session=True,
        )

    def start(self, service: Service) -> None:
        self._process.stdin.write(service.as_line())
        self._process.stdin.flush()

    def stop(self) -> None:
        """End all services, and wait for the supervisor."""
        self._process.stdin.close()
        self._process.wait(timeout=120)


def start(service: Service) -> int:
    folder = Path(service.folder)
    if service.disk:
        shutil.rmtree(service.disk, ignore_errors=True)
        Path(service.disk).mkdir(parents=True)
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
    # `buried` waits for it together with the orphans; this object must not.
    process.returncode = 0
    (folder / f"{service.name}.pid").write_text(str(process.pid))
    return process.pid


def buried() -> set[int]:
    """Return the children that have died since the last call."""
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
    """Yield the new services of the input, repeatedly until it ends."""
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
    # Ctrl-C is for the parent; when the parent ends, so does the input.
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
