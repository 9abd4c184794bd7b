"""Todos from the results of other tools' checks, for ``@task.bzctrl_todo``."""

from __future__ import annotations

from bzctrl_provider.checks.dbt import checks_from_dbt
from bzctrl_provider.checks.gx import checks_from_gx

__all__ = ["checks_from_dbt", "checks_from_gx"]
