"""What the Airflow that the tests run on does not do under ``dag.test()``."""

from __future__ import annotations

import airflow

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])

TELLS_CALLBACKS_THE_EXCEPTION = not (3, 0) <= VERSION <= (3, 2)
"""Real workers do on every version."""
