"""Differences between the Airflow versions under ``dag.test()``."""

from __future__ import annotations

import airflow

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])

CALLBACKS_HAVE_THE_EXCEPTION = not (3, 0) <= VERSION <= (3, 2)
"""Whether the context of a callback has the exception; that of a real worker has it on every version."""
