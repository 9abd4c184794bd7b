"""Run a stand-in BzCtrl on this machine: to try the provider out, and for tests.

It responds like BzCtrl as far as BzCtrl's documents describe the responses, refuses requests that they do not allow,
keeps what it was sent, fails on demand, and shows every todo on a page. It knows nothing of the provider's own client:
a mistake that both shared would hide itself.

```python
from bzctrl_provider.sandbox import Sandbox

with Sandbox() as sandbox:
    print(sandbox.url)  # such as http://127.0.0.1:40123
```

Importing this package loads no server, so that the pytest plugin costs nothing unless it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bzctrl_provider.sandbox.server import Sandbox
    from bzctrl_provider.sandbox.state import FaultName, FaultTarget, RecordedRequest

__all__ = ["FaultName", "FaultTarget", "RecordedRequest", "Sandbox"]

_MODULES = {"FaultName": "state", "FaultTarget": "state", "RecordedRequest": "state", "Sandbox": "server"}


def __getattr__(name: str) -> Any:
    """Load the module of a name when the name is first used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
