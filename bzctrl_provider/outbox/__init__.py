"""The outbox: incidents are written into the store first, and delivered to BzCtrl by one deliverer at a time.

Writing needs no request to BzCtrl and loads no HTTP library. A delivery sends everything that waits; ``docs/outbox.md`` says
what that promises.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bzctrl_provider.outbox.dag import create_delivery_dag as create_delivery_dag
    from bzctrl_provider.outbox.delivery import DeliveryResult as DeliveryResult
    from bzctrl_provider.outbox.runner import deliver as deliver
    from bzctrl_provider.outbox.runner import deliver_soon as deliver_soon
    from bzctrl_provider.outbox.writer import NotRaised as NotRaised
    from bzctrl_provider.outbox.writer import identify as identify
    from bzctrl_provider.outbox.writer import write as write
    from bzctrl_provider.store.incidents import Incident as Incident
    from bzctrl_provider.store.repeats import Repeats as Repeats

_MODULES = {
    "DeliveryResult": "outbox.delivery",
    "Incident": "store.incidents",
    "NotRaised": "outbox.writer",
    "Repeats": "store.repeats",
    "create_delivery_dag": "outbox.dag",
    "deliver": "outbox.runner",
    "deliver_soon": "outbox.runner",
    "identify": "outbox.writer",
    "write": "outbox.writer",
}


def __getattr__(name: str) -> Any:
    """Load the module of a name when the name is first used: a DAG file with the delivery DAG is parsed without the store."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bzctrl_provider.{_MODULES[name]}"), name)
