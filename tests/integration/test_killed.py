from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

TRY = """
import json, pathlib, sys
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.operators.memory import Journal, TryState

class FileStore:
    file = pathlib.Path(sys.argv[1])
    def read(self):
        return json.loads(self.file.read_text()) if self.file.exists() else {}
    def get(self, key):
        return self.read().get(key, {})
    def set(self, key, value):
        self.file.write_text(json.dumps({**self.read(), key: value}))

fields = {"todo_type": "INCIDENT", "title": "t", "description": "d", "order_id": "o"}
tries = TryState("1", is_first=False, is_last=sys.argv[2] == "last")
journal = Journal(FileStore(), tries, sys.argv[3])
todo = journal.create_one(BzCtrlHook().create_todo, fields)
print(todo["key"])
"""


def start(memory, which, policy="retry"):
    command = [sys.executable, "-W", "ignore", "-c", TRY, str(memory), which, policy]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_in_the_middle(sandbox, memory, policy="retry"):
    """Kill a try after BzCtrl has made its todo, and before the answer has come."""
    sandbox.fail_next("slow", delay_s=60)
    process = start(memory, "first", policy)
    while not sandbox.todos:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_create_todo_process_killed_meanwhile_leaves_a_note(bzctrl_sandbox, tmp_path):
    """The next try finds the intent and creates again, with a note; the try after that creates nothing."""
    memory = tmp_path / "memory.json"
    kill_in_the_middle(bzctrl_sandbox, memory)
    (page,) = json.loads(memory.read_text()).values()
    assert len(page["todo"]) == 1
    said, _ = start(memory, "last").communicate()
    assert said.splitlines()[-1] == "EXA-CON-BUS-WOR-02"
    said, _ = start(memory, "last").communicate()
    assert said.splitlines()[-1] == "EXA-CON-BUS-WOR-02"
    first, second = bzctrl_sandbox.todos
    assert first["description"] == "d"
    assert second["description"].splitlines()[-1].endswith("had no response, so this may be a duplicate.")


def test_create_todo_process_killed_meanwhile_policy_fail_is_not_repeated(bzctrl_sandbox, tmp_path):
    """With `fail` there is one todo, and the error says what to look for."""
    memory = tmp_path / "memory.json"
    kill_in_the_middle(bzctrl_sandbox, memory, "fail")
    _, errors = start(memory, "last", "fail").communicate()
    assert "Look in BzCtrl for the title 't' and the order id 'o'" in errors
    assert len(bzctrl_sandbox.todos) == 1


def test_create_todos_thousand_through_faults_are_created_once_or_reported(bzctrl_sandbox, monkeypatch):
    """A fifth of the requests fails; each todo is there exactly once, or its error says that it may be or is not."""
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    bzctrl_sandbox.fail_randomly(
        0.2, faults=[429, 503, 500, "reset_before", "reset_after"], seed=7, retry_after_s=0
    )
    hook = BzCtrlHook()
    fields = {"todo_type": "TASK", "title": "t", "description": "d"}
    results = hook.create_todos(({**fields, "order_id": f"ORDER {n}"} for n in range(1000)), max_workers=16)
    made = [todo["orderID"] for todo in bzctrl_sandbox.todos]
    assert len(made) == len(set(made)), "no todo is there twice"
    for n, result in enumerate(results):
        exists = f"ORDER {n}" in made
        if isinstance(result, Exception):
            assert result.outcome_unknown or not exists
        else:
            assert exists
            assert result.tags == [f"ORDER {n}"]
    assert sum(isinstance(result, Exception) for result in results) > 50
