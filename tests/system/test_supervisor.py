from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import supervisor
from support.cluster import wait_for
from support.supervisor import Service, Supervised

PARENT = """
import json, signal, sys, time
from pathlib import Path
# A job in the background of a script inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {support!r})
from supervisor import Service, Supervised
Supervised(Path({folder!r})).start(Service(**json.loads({line!r})))
time.sleep(600)
"""

# Like a Celery worker: a child in another session, which does not get its parent's signals.
SERVICE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
print(subprocess.Popen([sys.executable, "-c", child], start_new_session=True).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_supervisor_with_an_ended_parent_leaves_nothing(tmp_path, ended_by):
    """No service, orphan or folder is left after any signal that ends the parent."""
    folder, logs = tmp_path / "home", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    service = Service(
        name="service",
        command=[sys.executable, "-c", SERVICE],
        env=dict(os.environ),
        folder=str(logs),
        stop_s=2,
    )
    code = PARENT.format(
        support=str(Path(supervisor.__file__).parent), folder=str(folder), line=service.as_line()
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log = logs / "service.log"
    wait_for("the service", lambda: log.exists() and log.read_text().endswith("\n"), seconds=30)
    pids = [int((logs / "service.pid").read_text()), int(log.read_text())]
    assert all(psutil.pid_exists(pid) for pid in pids)

    try:
        parent.send_signal(ended_by)
        parent.wait(timeout=10)
    finally:
        parent.kill()
    wait_for("the end of all", lambda: not any(psutil.pid_exists(pid) for pid in pids), seconds=30)
    wait_for("the folder's end", lambda: not folder.exists(), seconds=10)


def test_service_that_died_is_restarted(tmp_path):
    """A service with `restart` gets a new process."""
    service = Service(
        name="service",
        command=[sys.executable, "-c", "import time; time.sleep(600)"],
        env=dict(os.environ),
        folder=str(tmp_path),
        restart=True,
    )
    supervised = Supervised()
    supervised.start(service)
    file = tmp_path / "service.pid"
    try:
        wait_for("the service", file.exists, seconds=30)
        first = int(file.read_text())
        os.kill(first, signal.SIGKILL)
        wait_for("the next one", lambda: file.read_text() not in ("", str(first)), seconds=30)
        assert psutil.pid_exists(int(file.read_text()))
    finally:
        supervised.stop()
    assert not psutil.pid_exists(int(file.read_text()))
