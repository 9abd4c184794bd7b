"""The failure as templates and callbacks have it.

Importing this package loads none of its modules: the policy needs one of them while a DAG is parsed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bzctrl_provider.failure.model import FailedTask, Failure, LazyFailure
    from bzctrl_provider.failure.reasons import CheckResult, remember_exception

__all__ = ["CheckResult", "FailedTask", "Failure", "LazyFailure", "remember_exception"]


def __getattr__(name: str) -> Any:
    """Load the module of a name when the name is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "reasons" if name in ("CheckResult", "remember_exception") else "model"
    return getattr(import_module(f"{__name__}.{module}"), name)
