"""Entries, a BzCtrl in memory, and a storage that fails at a chosen step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.spool.delivery import Delivery, Options
from bzctrl_provider.spool.entry import Entry, identify
from bzctrl_provider.spool.ledger import Ledger

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DESCRIPTION = "It failed."
DEFAULTS = {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "reporter@example.com"}


class Killed(BaseException):
    """The end of the process."""


def new_entry(number=1, *, conn_id="a", facts=None, **fields):
    """Return the entry of one incident, written so many minutes after noon."""
    return Entry(
        fields={
            "todo_type": "INCIDENT",
            "title": f"T{number:03}",
            "description": DESCRIPTION,
            "order_id": f"run {number}",
            **fields,
        },
        bzctrl_conn_id=conn_id,
        identity=identify(conn_id, number),
        spooled_at=NOON + number * MINUTE,
        facts=facts if facts is not None else {"dag_id": f"dag_{number}", "run_id": "r", "what": "run"},
    )


class BzCtrlInMemory:
    """Creates todos, or raises the errors that wait in ``errors``, in turn."""

    def __init__(self):
        self.defaults = DEFAULTS
        self.created = []
        self.batches = []
        self.errors = []
        self.before = lambda: None
        self.after = lambda: None
        self.closed = 0
        self.logins = 0
        self.login_error = None

    def authenticate(self):
        self.logins += 1
        if self.login_error:
            raise self.login_error

    def check(self, fields):
        return vars(complete_todo(fields, defaults=self.defaults))

    def create_todos(self, todos):
        self.before()
        self.batches.append(len(todos))
        outcomes = [self._create(todo) for todo in todos]
        self.after()
        return outcomes

    def _create(self, todo):
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            return error
        self.created.append(todo)
        key = f"KEY-{len(self.created):02}"
        link = f"https://bzctrl.example/{key}"
        return SimpleNamespace(key=key, link=link, as_dict=lambda: {"key": key, "link": link})

    def close(self):
        self.closed += 1

    @property
    def titles(self):
        return [todo["title"] for todo in self.created]


class StoreInMemory:
    """Files in a dict; the step number ``dies_at`` ends the process, before or after it is done."""

    def __init__(self):
        self.files = {}
        self.steps = 0
        self.dies_at = None

    def _step(self):
        self.steps += 1
        if self.dies_at is not None and self.steps >= self.dies_at:
            raise Killed

    def address(self, path):
        return f"memory://{path}"

    def create(self, path, content):
        if path in self.files:
            return False
        self.write(path, content)
        return True

    def write(self, path, content):
        self._step()
        self.files[path] = content

    def read(self, path):
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def exists(self, path):
        return path in self.files

    def names(self, folder=""):
        prefix = f"{folder}/" if folder else ""
        rest = (path.removeprefix(prefix) for path in self.files if path.startswith(prefix))
        return [name for name in rest if "/" not in name]

    def modified_at(self, path):
        return NOON

    def remove(self, path):
        self._step()
        self.files.pop(path, None)

    def move(self, path, target):
        self._step()
        self.files[target] = self.files.pop(path)


def deliver_to(store, bzctrl, *, now=NOON + 60 * MINUTE, connect=None, todos=None, **options):
    """Deliver what is in a store to a BzCtrl, for all connections."""
    delivery = Delivery(
        Ledger(store),
        connect=connect or (lambda conn_id: bzctrl),
        clock=lambda: now,
        options=Options(**options),
        todos={} if todos is None else todos,
    )
    return delivery.run()
