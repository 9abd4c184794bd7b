"""The cost of a line of a task's log, with ``include_log_lines`` and without: all that a task that succeeds pays for it."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk.log import configure_logging

from bench.figures import ratios
from bench.worker import forked_rounds, run
from bzctrl_provider.failure.reasons import KeepLogLines

if TYPE_CHECKING:
    from collections.abc import Callable

_LINES = 2000
_KEPT = 50


def _log(new_logger: Callable[[str], Any], *, keeps: bool) -> float:
    """Return the CPU microseconds of a line, which is written as a worker does, and thrown away."""
    stream = Path(os.devnull).open("wb", buffering=0)  # noqa: SIM115 - until the process ends
    configure_logging(json_output=True, output=stream, sending_to_supervisor=True)
    if keeps:
        KeepLogLines(_KEPT)({})
    log = new_logger("airflow.task.hooks.airflow.providers.standard.hooks.subprocess.SubprocessHook")
    log.info("%s", "the first line")
    began = time.process_time()
    for number in range(_LINES):
        log.info("%s", f"row {number} of the declarations of today was read from the source")
    return (time.process_time() - began) / _LINES * 1e6


def main(rounds: int) -> dict[str, list[float]]:
    """Return the ratios of CPU, and the CPU microseconds of a line that is kept."""
    contestants = {
        f"{name}{keeps}": partial(_log, new_logger, keeps=keeps)
        for name, new_logger in {"structlog": structlog.get_logger, "python": logging.getLogger}.items()
        for keeps in (False, True)
    }
    measured = forked_rounds(contestants, rounds)
    return {
        "log.structlog": ratios(measured["structlogTrue"], measured["structlogFalse"]),
        "log.python": ratios(measured["pythonTrue"], measured["pythonFalse"]),
        "log.line": measured["structlogTrue"],
    }


if __name__ == "__main__":
    run(main)
