"""Incidents, a BzCtrl in memory, deliveries to it, and the end of the process at a chosen step."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

from sqlalchemy import delete, event

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.outbox.delivery import Delivery
from bzctrl_provider.outbox.runner import _deliver
from bzctrl_provider.outbox.writer import identify
from bzctrl_provider.store import incidents, schema
from bzctrl_provider.store.incidents import Incident

START = 1_800_000_000.0
"""The time at which the clock of the tests begins: 2027-01-15T08:00:00Z."""
MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0
DESCRIPTION = "It failed."
DEFAULTS = {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "reporter@example.com"}
STATES = ("waiting", "sending", "delivered", "rejected")


class Killed(BaseException):
    """The end of the process."""


def new_incident(number=1, *, conn_id="a", facts=None, unanswered=(), **fields):
    """Return an incident that was written so many minutes after 07:00."""
    return Incident(
        fields={
            "todo_type": "INCIDENT",
            "title": f"T{number:03}",
            "description": DESCRIPTION,
            "order_id": f"run {number}",
            **fields,
        },
        bzctrl_conn_id=conn_id,
        identity=identify(conn_id, number),
        written_at=START - HOUR + number * MINUTE,
        unanswered=unanswered,
        facts=facts if facts is not None else {"dag_id": f"dag_{number}", "run_id": "r", "what": "run"},
    )


def add(store, *numbers, **values):
    """Write incidents into a store."""
    with store.transaction() as tx:
        for number in numbers:
            incidents.add(tx, new_incident(number, **values))


def read(store, *states):
    """Return the incidents in some states, by default in all."""
    with store.transaction() as tx:
        return incidents.list_of(tx, *(states or STATES))


def wipe(store):
    """Delete all rows but the version of the tables."""
    with store.transaction() as tx:
        for table in schema.METADATA.sorted_tables:
            if table is not schema.schema:
                tx.connection.execute(delete(table))


class BzCtrlInMemory:
    """Creates todos, or returns the errors that wait in ``errors``, in turn."""

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

    def fit(self, fields):
        return dict(fields)

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


def deliver_to(store, bzctrl, *, connect=None, todos=None, holder=None, **options):
    """Deliver what is in a store to a BzCtrl, for all connections, if nobody else has the lease."""
    holder = holder or secrets.token_hex(8)
    delivery = Delivery(store=store, holder=holder, connect=connect or (lambda _: bzctrl), **options)
    try:
        _deliver(delivery)
    finally:
        if todos is not None:
            todos.update(delivery.todos)
    return delivery.result


class Killer:
    """Ends the process at the step ``dies_at``: each statement and commit of a store is one, and what ``step`` is given to."""

    def __init__(self, store):
        self.steps = 0
        self.dies_at = None
        self._engine = store._engine
        event.listen(store._engine, "before_cursor_execute", self._before_statement)
        event.listen(store._engine, "commit", self.step)

    def _before_statement(self, connection, cursor, statement, parameters, context, executemany):
        self.step()

    def step(self, _connection=None):
        self.steps += 1
        # A process that has ended does nothing any more, also in its handlers.
        if self.dies_at is not None and self.steps >= self.dies_at:
            raise Killed

    def kill_at(self, step):
        self.steps, self.dies_at = 0, step

    def bury(self):
        """Close the connections of the process that has ended, and let others live."""
        self.kill_at(None)
        self._engine.dispose()
