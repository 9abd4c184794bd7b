"""Todos from the results of other tools' checks, for ``@task.bzctrl_todo``."""

from bzctrl_provider.checks.dbt import checks_from_dbt as checks_from_dbt
from bzctrl_provider.checks.gx import checks_from_gx as checks_from_gx
