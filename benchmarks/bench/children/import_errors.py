"""The listener for import errors, in fresh forks of a process that has loaded what Airflow has when it loads plugins."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from bench.children.forked import forked, settle

LOADED = (AirflowPlugin, hookimpl)
"""Airflow has loaded them when it loads plugins."""

_CALLS = 20
_TRACE = "Traceback\n  File 'x.py', line 1\nModuleNotFoundError: No module named 'pandas'\n"
_PLUGIN = "bzctrl_provider.plugin"


def _import_plugin() -> dict[str, float]:
    began = time.process_time()
    import_module(_PLUGIN)
    return {"plugin": (time.process_time() - began) * 1e3}


def _call(*, is_on: bool, grace_s: int, spool: Path) -> dict[str, Any]:
    """Return the CPU seconds of the first call for each of many files, and of the second call for each."""
    os.environ["AIRFLOW__BZCTRL__INCIDENT_ON_IMPORT_ERROR"] = str(is_on)
    os.environ["AIRFLOW__BZCTRL__IMPORT_ERROR_GRACE_S"] = str(grace_s)
    os.environ["AIRFLOW__BZCTRL__SPOOL_PATH"] = str(spool)
    import_module(_PLUGIN)
    from bzctrl_provider.import_errors import delivery, listener

    # The start of a process is not repeated within 20 seconds.
    delivery._is_recent = lambda _: True  # type: ignore[assignment]  # noqa: SLF001 - as if one had just been started
    if not is_on:
        listener.on_new_dag_import_error("/dags/other.py", "")  # reads the options

    def measured(listen: Any) -> list[float]:
        times = []
        for number in range(_CALLS):
            began = time.process_time()
            listen(f"/dags/dag_{number}.py", _TRACE)
            times.append(time.process_time() - began)
        return times

    first = measured(listener.on_new_dag_import_error)
    for path in spool.glob("*.json"):
        path.unlink()  # as after the delivery
    return {"first": first, "second": measured(listener.on_existing_dag_import_error)}


def _mean(times: list[float]) -> float:
    return sum(times) / len(times)


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds and microseconds of each figure, round by round."""
    measured: dict[str, list[float]] = {
        name: [] for name in ("plugin", "off", "broken", "first", "incident", "known")
    }
    with tempfile.TemporaryDirectory() as folder:
        warm = partial(_call, is_on=True, grace_s=0, spool=Path(folder) / "warm")
        forked(_import_plugin)
        forked(warm)
        settle()
        for number in range(rounds):
            measured["plugin"].append(forked(_import_plugin)["plugin"])
            place = Path(folder) / str(number)
            off = forked(partial(_call, is_on=False, grace_s=0, spool=place / "off"))
            measured["off"].append(_mean(off["second"]) * 1e6)
            broken = forked(partial(_call, is_on=True, grace_s=300, spool=place / "broken"))
            measured["broken"].append(_mean(broken["second"]) * 1e6)
            written = forked(partial(_call, is_on=True, grace_s=0, spool=place / "written"))
            measured["first"].append(written["first"][0] * 1e3)
            measured["incident"].append(_mean(written["first"][1:]) * 1e3)
            measured["known"].append(_mean(written["second"]) * 1e6)
    return measured


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
