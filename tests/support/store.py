"""The content of a store, for the tests that write and read it."""

from __future__ import annotations

from bzctrl_provider.store import deliveries, incidents
from bzctrl_provider.store.incidents import Incident

STATES = ("waiting", "sending", "delivered", "rejected")
FIELDS = {"todo_type": "INCIDENT", "title": "T", "description": "D", "order_id": "1"}


def read(store, *states):
    """Return the incidents in some states, by default those that wait, the oldest first."""
    with store.transaction() as tx:
        return incidents.list_of(tx, *(states or ("waiting",)))


def add(store, identity, *, age_s=0.0, conn_id="bzctrl_default", **values):
    """Write an incident that is so many seconds old; further values are attributes of it, or fields of its todo."""
    given = {name: values.pop(name) for name in list(values) if name in Incident.__dataclass_fields__}
    with store.transaction() as tx:
        incident = Incident(
            identity=identity,
            bzctrl_conn_id=conn_id,
            fields=FIELDS | values,
            written_at=tx.now - age_s,
            **given,
        )
        assert incidents.add(tx, incident) is None


def begin_delivery(store, *, ago_s=0.0, scheduled=False):
    """Note that a delivery, or one of the delivery DAG, began so many seconds ago."""
    with store.transaction() as tx:
        past = tx._replace(now=tx.now - ago_s)
        deliveries.take_lease(past, "another process", for_s=1)
        deliveries.give_lease_back(past, "another process")
        if scheduled:
            deliveries.note_scheduled(past)


def hold_lease(store):
    """Be the only deliverer for a minute, as another process."""
    with store.transaction() as tx:
        assert deliveries.take_lease(tx, "another process", for_s=60)
