"""A broken DAG file as an occurrence, from its trace. Nothing here looks anything up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bzctrl_provider.failure import Failure
from bzctrl_provider.failure_lookup import find_airflow_url
from bzctrl_provider.incidents.fields import Wishes
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.limits import LINE_CHARS, NAME_CHARS, TEXT_CHARS
from bzctrl_provider.notifications.rendering import new_renderer
from bzctrl_provider.outbox.incident import format_time
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from bzctrl_provider.import_errors.dag_files import DagFile
    from bzctrl_provider.store.broken_files import BrokenFile

_TRACE_CHARS = 20_000

_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)', re.MULTILINE)

_LIBRARY = re.compile(r"<frozen |/lib/python\d|/(?:site|dist)-packages/")

_CREDENTIALS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")


def describe_import_error(dag_file: DagFile, stacktrace: str, broken: BrokenFile) -> Failure:
    """Return the failure of a DAG file."""
    return Failure(
        kind="import",
        dag_id="",
        run_id="",
        file=one_line(dag_file.path, max_chars=TEXT_CHARS),
        bundle=dag_file.bundle,
        reason=last_line(stacktrace),
        line=find_line(stacktrace),
        run_url=find_airflow_url(),
        broken_since=format_time(broken.since),
        broken_for_s=int(broken.seen - broken.since),
    )


def last_line(stacktrace: str) -> str:
    """Return the last line of a trace, redacted and bounded."""
    lines = [line for line in stacktrace[-_TRACE_CHARS:].splitlines() if line.strip()]
    # The DAG processor did not read the secrets of the DAG file, so Airflow masks fewer of them here than in a task.
    text = _CREDENTIALS.sub(r"\1:***@", lines[-1]) if lines else ""
    return one_line(exception_text(text) or "", max_chars=LINE_CHARS)


def find_line(stacktrace: str) -> str | None:
    """Return the innermost line of a trace that is not in a library, such as ``orders.py, line 3``."""
    for path, number in reversed(_FRAME.findall(stacktrace[-_TRACE_CHARS:])):
        if not _LIBRARY.search(path):
            return f"{one_line(path.rpartition('/')[2], max_chars=NAME_CHARS)}, line {number}"
    return None


def read_broken_file(failure: Failure, broken: BrokenFile) -> Occurrence:
    """Return the occurrence of a DAG file that has been broken for too long."""
    return Occurrence(failure=failure, occasion=(broken.file, broken.since))


def wish_nothing(failure: Failure) -> Wishes:
    """Return wishes without any field: no DAG has set one. Templates have ``failure`` as their only variable."""
    return Wishes(render=new_renderer({"failure": failure}))
