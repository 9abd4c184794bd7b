"""A stand-in BzCtrl on this machine: for trying the provider out, and for tests.

It answers like BzCtrl as far as BzCtrl's documents say how BzCtrl answers, refuses what they do not allow, keeps
what it was sent, fails on demand, and shows every todo on a page. It knows nothing of the provider's own client:
a mistake both shared would hide itself.

```python
from bzctrl_provider.sandbox import Sandbox

with Sandbox() as sandbox:
    print(sandbox.url)  # such as http://127.0.0.1:40123
```

Importing this package loads neither FastAPI nor uvicorn, so that the pytest plugin costs nothing where it is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bzctrl_provider.sandbox.faults import FaultName, FaultTarget
    from bzctrl_provider.sandbox.server import Sandbox
    from bzctrl_provider.sandbox.state import RecordedRequest

__all__ = ["FaultName", "FaultTarget", "RecordedRequest", "Sandbox"]

_HOMES = {
    "FaultName": "bzctrl_provider.sandbox.faults",
    "FaultTarget": "bzctrl_provider.sandbox.faults",
    "RecordedRequest": "bzctrl_provider.sandbox.state",
    "Sandbox": "bzctrl_provider.sandbox.server",
}


def __getattr__(name: str) -> Any:
    """Load a name's module when the name is first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
