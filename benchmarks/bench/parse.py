"""The cost of a file with a hundred operators in the DAG processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure, ratios

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 60
_BASH = "airflow.providers.standard.operators.bash import BashOperator"
_HTTP = "airflow.providers.http.operators.http import HttpOperator"
_OURS = "bzctrl_provider.operators.bzctrl import CreateTodoOperator"
_FILES = {
    "bash": (_BASH, "bash_command='true'"),
    "ours": (_OURS, ""),
    "texts": (_OURS, "title='A title', description='A text'"),
    "http": (_HTTP, ""),
}
"""An operator and what it is values: the least that it can be given, but for the one with texts."""
_TEXT = """\
from airflow.sdk import DAG
from {imported} as Operator

with DAG("bench", schedule=None):
    for number in range(100):
        Operator(task_id=f"task_{{number}}", {given})
"""


def measure(bench: Bench) -> list[Figure]:
    """Measure the CPU of parsing and of serializing, each in a fresh process."""
    files = []
    for name, (imported, given) in _FILES.items():
        files.append(bench.home / f"{name}.py")
        files[-1].write_text(_TEXT.format(imported=imported, given=given))
    rounds = bench.child("parse", bench.rounds(_ROUNDS), *files)["measured"]
    measured = dict(zip(_FILES, zip(*rounds, strict=True), strict=True))

    def beside_bash(key: str, text: str, name: str) -> Figure:
        step = key.rpartition("_")[2].rpartition(".")[2]
        return figure(
            key, text, ratios([of[step] for of in measured[name]], [of[step] for of in measured["bash"]])
        )

    ours = "100 `CreateTodoOperator`s"
    return [
        beside_bash("parse.first", f"CPU of the first parse of {ours} / 100 BashOperators", "ours"),
        beside_bash("parse.serialize", "CPU of their serialization", "ours"),
        beside_bash("parse.texts_first", f"first parse of {ours} with title and description", "texts"),
        beside_bash("parse.texts_serialize", "their serialization", "texts"),
        beside_bash("parse.http_first", "first parse of 100 HttpOperators", "http"),
        beside_bash("parse.http_serialize", "their serialization", "http"),
    ]
