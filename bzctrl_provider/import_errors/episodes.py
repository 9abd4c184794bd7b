"""From one parse of a broken DAG file to the next: what is one episode, and when its incident is due. No storage here.

Airflow says at each parse that a file is broken, and never that it has been repaired. It says "new" instead of
"existing" for the first parse after a repair, because it deletes its own note of the error then.
"""

from __future__ import annotations

from dataclasses import replace

from bzctrl_provider.store.broken_files import BrokenFile

_PARSES_MISSED = 5


def is_due(broken: BrokenFile, grace_s: float) -> bool:
    """Return whether a file has been broken for the grace period and has raised nothing yet."""
    return not broken.outcome and broken.seen - broken.since >= grace_s


def advance(
    previous: BrokenFile | None, *, file: str, is_new: bool, now: float, parse_interval_s: float
) -> BrokenFile:
    """Return the episode after one more parse that failed.

    :param previous: the remembered episode of the file.
    :param is_new: whether Airflow says that the error is new.
    :param parse_interval_s: the seconds between two parses of a file, as they are configured.
    """
    if previous is None:
        return BrokenFile(file=file, since=now, seen=now, is_confirmed=not is_new)
    gap_s = max(0.0, now - previous.seen)
    if is_new and (previous.is_confirmed or gap_s > _longest_gap(previous, parse_interval_s)):
        return BrokenFile(file=file, since=now, seen=now, gap_s=gap_s)
    return replace(
        previous,
        seen=max(now, previous.since),
        gap_s=gap_s,
        is_confirmed=previous.is_confirmed or not is_new,
    )


def _longest_gap(previous: BrokenFile, parse_interval_s: float) -> float:
    """Return after how many seconds a file was clean in between, if Airflow calls each error a new one.

    It does so if it cannot keep its own note of the error.
    """
    return max(_PARSES_MISSED * parse_interval_s, 2 * previous.gap_s)
