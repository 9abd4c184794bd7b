"""What a task remembers of the todos that it created, so that a retry does not create them again.

BzCtrl knows no idempotency key and no search, so the memory is kept in Airflow: from 3.3 on in the task's own state
store, before that in a Variable. It belongs to one *generation* of tries: the tries between two clears.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bzctrl_provider.exceptions import BzCtrlError, BzCtrlOutcomeUnknownError
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

OnUnknownOutcome = Literal["retry", "fail"]

_INTENT = "%Y-%m-%d %H:%M:%S UTC"

_GENERATIONS_KEPT = 20
"""Of one task, in a Variable: Variables must not grow with the runs."""


class Memory(Protocol):
    """Keeps small JSON objects for one generation of tries of one task."""

    def get(self, key: str) -> dict[str, Any]:
        """Return what was kept under a key; an empty object where there is nothing."""

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object."""


@dataclass(frozen=True)
class TryState:
    """Where a task stands among its tries.

    :param generation: the same for all tries between two clears, different for others.
    :param is_first: whether nothing can have been remembered yet.
    :param is_last: whether Airflow will not try again by itself.
    """

    generation: str
    is_first: bool
    is_last: bool

    @classmethod
    def from_ti(cls, ti: Any) -> TryState:
        """Tell from a task instance.

        ``max_tries`` stays the same through the retries and changes with every clear of a finished task. One that was
        cleared while it ran with ``retries=0`` keeps it, but then the try is beyond the last one, which no retry is.
        """
        try_number, max_tries = getattr(ti, "try_number", None) or 1, getattr(ti, "max_tries", None) or 0
        beyond = try_number > max_tries + 1
        retries = getattr(getattr(ti, "task", None), "retries", None) or 0
        return cls(
            generation=f"{max_tries}.{try_number}" if beyond else str(max_tries),
            # After a clear, max_tries is the last try so far plus the retries.
            is_first=beyond or try_number <= max(max_tries - retries, 0) + 1,
            is_last=try_number > max_tries,
        )


class NoMemory:
    """For a task that is executed by hand, outside of Airflow."""

    def get(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - see Memory
        """Return an empty object."""
        return {}

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Forget."""


class TaskStateMemory:
    """In the task's state store of Airflow 3.3 and newer, which belongs to a run, a task and a map index already.

    :param store: ``context["task_state_store"]``.
    :param generation: see ``TryState``.
    """

    def __init__(self, store: Any, generation: str) -> None:
        self._store = store
        self._prefix = f"bzctrl.{generation}."

    def get(self, key: str) -> dict[str, Any]:
        """Return what was kept under a key; an empty object where there is nothing."""
        value = self._store.get(self._prefix + key)
        return value if isinstance(value, dict) else {}

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object."""
        self._store.set(self._prefix + key, value)


class VariableMemory:
    """In one Airflow Variable for each task, and for each of its map indexes, so that parallel ones do not meet.

    :param name: of the Variable.
    :param generation: see ``TryState``, with the run's id.
    """

    def __init__(self, name: str, generation: str) -> None:
        self._name = name
        self._generation = generation

    def get(self, key: str) -> dict[str, Any]:
        """Return what was kept under a key; an empty object where there is nothing."""
        of_generation = read_variable(self._name).get(self._generation, {})
        value: dict[str, Any] = of_generation.get(key, {})
        return value

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object, and forget the oldest generation where there are too many."""
        generations = read_variable(self._name)
        # Taken out and put back, so that the one in use is the youngest.
        generations[self._generation] = {**generations.pop(self._generation, {}), key: value}
        for oldest in list(generations)[:-_GENERATIONS_KEPT]:
            del generations[oldest]
        write_variable(self._name, generations)


def read_variable(name: str) -> dict[str, Any]:
    """Return the JSON object in a Variable; an empty one where there is none, or something else."""
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text = Variable.get(name, None)
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def write_variable(name: str, value: Mapping[str, Any]) -> None:
    """Put a JSON object into a Variable."""
    from airflow.providers.common.compat.sdk import Variable

    Variable.set(name, json.dumps(value))


def variable_name(kind: str, *parts: str) -> str:
    """Return a name for a Variable: readable, of at most 250 characters, and different for different parts."""
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    # The readable part is not enough: a DAG `a__b` with a task `c` looks like a DAG `a` with a task `b__c`.
    readable = "__".join(parts) if "".join(parts).isascii() else ""
    return f"bzctrl__{kind}__{readable[:150]}__{digest}"


def open_memory(context: Mapping[str, Any]) -> Memory:
    """Return the memory of the task whose context this is."""
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

    ti = context.get("ti")
    tries = TryState.from_ti(ti)
    if "task_state_store" in context:
        return TaskStateMemory(context["task_state_store"], tries.generation)
    if AIRFLOW_V_3_3_PLUS or not all(getattr(ti, name, None) for name in ("dag_id", "task_id", "run_id")):
        return NoMemory()
    return variable_memory(ti, "memory", tries.generation)


def variable_memory(ti: Any, kind: str, generation: str) -> VariableMemory:
    """Return a memory in a Variable for a task instance; also for callbacks, where the state store may hang."""
    index = getattr(ti, "map_index", None)
    index = -1 if index is None else index
    name = variable_name(kind, ti.dag_id, ti.task_id, *([str(index)] if index >= 0 else []))
    return VariableMemory(name, f"{ti.run_id} {generation}")


def safe_key(created: Mapping[str, Any]) -> str:
    """Return the key of a remembered todo for a log line: others than this provider can write Variables, too."""
    return one_line(str(created.get("key")), max_chars=200)


def create_once(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    fields: Mapping[str, Any],
    *,
    memory: Memory,
    key: str,
    tries: TryState,
    on_unknown_outcome: OnUnknownOutcome,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Create a todo unless an earlier try of this generation did.

    An intent is remembered before the request and the result after it, so that a later try knows when the request of
    an earlier one may have gone out without an answer.

    :param create: creates the todo of some fields and returns it.
    :param fields: of the todo.
    :param memory: of the task's generation.
    :param key: of this todo within it.
    :param tries: where the task stands among its tries.
    :param on_unknown_outcome: ``retry`` creates again, and the description's last line says that this may be a
        duplicate; ``fail`` raises without another request.
    :param now: tells the time, in UTC.
    :return: the created todo, of this try or of an earlier one.
    :raises BzCtrlOutcomeUnknownError: see ``on_unknown_outcome``.
    :raises BzCtrlError: whatever ``create`` raised.
    """
    kept = _recalled(memory, key, tries)
    if created := kept.get("created"):
        log.info("An earlier try of this task created %s: nothing is created again.", safe_key(created))
        return dict(created)
    unanswered = [*kept.get("unanswered", []), *([kept["intent"]] if "intent" in kept else [])]
    # The last try of Airflow gets a second attempt, because nobody else would make it.
    attempts = 2 if tries.is_last else 1
    for attempt in range(1, attempts + 1):
        if unanswered and on_unknown_outcome == "fail":
            break
        intent = now().strftime(_INTENT)
        _remember(memory, key, {"intent": intent, "unanswered": unanswered})
        try:
            todo = create(with_note(fields, unanswered))
        except BzCtrlError as exc:
            if exc.outcome_unknown:
                unanswered = [*unanswered, intent]
            _remember(memory, key, {"unanswered": unanswered})
            if not exc.outcome_unknown:
                raise
            if on_unknown_outcome == "retry" and attempt == attempts:
                log.warning(
                    "%s. %s",
                    _where_to_look(fields),
                    "This task sends nothing more."
                    if tries.is_last
                    else "Airflow's next try creates the todo again, and its description says that it may be a duplicate.",
                )
                raise
            log.warning(
                "It is not known whether this attempt created the todo%s: %s",
                ", so one more follows, whose description says so" if on_unknown_outcome == "retry" else "",
                exc,
            )
        else:
            _remember(memory, key, {"created": todo})
            return todo
    raise BzCtrlOutcomeUnknownError(_what_to_look_for(fields, unanswered), outcome_unknown=True)


def create_all_once(
    create_all: Callable[[list[dict[str, Any]]], list[dict[str, Any] | BzCtrlError]],
    todos: Sequence[Mapping[str, Any]],
    *,
    memory: Memory,
    tries: TryState,
    on_unknown_outcome: OnUnknownOutcome,
    batch_size: int,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[dict[str, Any] | BzCtrlError]:
    """Create the todos of a list that no earlier try of this generation created.

    A todo is known again by its content and its position. The memory is read and written once for each batch, so a
    process that is killed leaves at most a batch whose outcome is unknown.

    :param create_all: creates todos, several at a time; returns for each what was created or why it was not.
    :param todos: the fields of each todo.
    :param batch_size: how many todos share a record in the memory.
    :return: for each todo, in the order of the list, what was created, by this try or by an earlier one, or why it
        was not.

    The other parameters are those of ``create_once``.
    """
    results: list[dict[str, Any] | BzCtrlError] = []
    for start in range(0, len(todos), batch_size):
        batch = _Batch(f"todos.{start}", todos[start : start + batch_size], start, memory, tries)
        # As in create_once: the last try of Airflow gets a second attempt for what had no answer.
        for _ in range(2 if tries.is_last and on_unknown_outcome == "retry" else 1):
            batch.attempt(create_all, on_unknown_outcome, now().strftime(_INTENT))
        results += batch.results
        if len(todos) > batch_size:
            log.info("%d of %d todos are done.", len(results), len(todos))
    return results


class _Batch:
    """Some todos of a list, with the record of them in the memory."""

    def __init__(
        self, key: str, todos: Sequence[Mapping[str, Any]], start: int, memory: Memory, tries: TryState
    ) -> None:
        self._key = key
        self._todos = todos
        self._memory = memory
        kept = _recalled(memory, key, tries)
        intent = kept.get("intent")
        self._names = [_content_name(start + offset, todo) for offset, todo in enumerate(todos)]
        self._record: dict[str, dict[str, Any]] = {
            name: kept.get("todos", {}).get(name, {}) for name in self._names
        }
        for name in kept.get("pending", []):
            if name in self._record and "created" not in self._record[name]:
                self._add_unanswered(name, intent)
        self._errors: dict[str, BzCtrlError] = {}
        reused = sum("created" in entry for entry in self._record.values())
        if reused:
            log.info(
                "An earlier try of this task created %d of these todos: they are not created again.", reused
            )

    @property
    def results(self) -> list[dict[str, Any] | BzCtrlError]:
        return [self._record[name].get("created") or self._errors[name] for name in self._names]

    def attempt(
        self,
        create_all: Callable[[list[dict[str, Any]]], list[dict[str, Any] | BzCtrlError]],
        on_unknown_outcome: OnUnknownOutcome,
        intent: str,
    ) -> None:
        """Create what is missing; a second time only what had no answer."""
        pending: dict[str, dict[str, Any]] = {}
        for name, todo in zip(self._names, self._todos, strict=True):
            entry, error = self._record[name], self._errors.get(name)
            if "created" in entry or (error and not error.outcome_unknown):
                continue
            unanswered = entry.get("unanswered", [])
            if unanswered and on_unknown_outcome == "fail":
                self._errors[name] = BzCtrlOutcomeUnknownError(
                    _what_to_look_for(todo, unanswered), outcome_unknown=True
                )
            else:
                pending[name] = with_note(todo, unanswered)
        if not pending:
            return
        _remember(
            self._memory, self._key, {"intent": intent, "pending": list(pending), "todos": self._record}
        )
        for name, result in zip(pending, create_all(list(pending.values())), strict=True):
            if isinstance(result, BzCtrlError):
                self._errors[name] = result
                if result.outcome_unknown:
                    self._add_unanswered(name, intent)
            else:
                self._record[name] = {"created": result}
        _remember(self._memory, self._key, {"todos": self._record})

    def _add_unanswered(self, name: str, intent: str | None) -> None:
        entry = self._record[name]
        self._record[name] = {"unanswered": [*entry.get("unanswered", []), intent or "an unknown time"]}


def _content_name(position: int, todo: Mapping[str, Any]) -> str:
    try:
        content = json.dumps(todo, sort_keys=True, default=str)
    except Exception:  # noqa: BLE001 - keys of several kinds, an object that cannot be read: no such todo is created
        content = ""
    return f"{position}.{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def with_note(fields: Mapping[str, Any], unanswered: list[str]) -> dict[str, Any]:
    """Return the fields with a last line in the description that tells of attempts without an answer."""
    if not unanswered or not fields.get("description"):
        return dict(fields)
    attempts = "An attempt" if len(unanswered) == 1 else "Attempts"
    note = f"{attempts} at {', '.join(unanswered)} had no answer, so this may be a duplicate."
    return {**fields, "description": f"{fields['description']}\n\n{note}"}


def _where_to_look(fields: Mapping[str, Any]) -> str:
    title, order_id = (safe_repr(fields.get(name), max_chars=300) for name in ("title", "order_id"))
    return f"Look in BzCtrl for the title {title} and the order id {order_id}"


def _what_to_look_for(fields: Mapping[str, Any], unanswered: list[str]) -> str:
    return (
        f"BzCtrl gave no answer to the attempt at {', '.join(unanswered)}, and on_unknown_outcome is 'fail', so nothing "
        f"was sent again. {_where_to_look(fields)}. If it is there, mark this task as success; if not, clear the task, which creates it."
    )


def _recalled(memory: Memory, key: str, tries: TryState) -> dict[str, Any]:
    try:
        return memory.get(key)
    except Exception as exc:
        if not tries.is_first:
            raise  # an earlier try may have created it: better fail, and try again, than create twice
        log.warning(
            "Airflow's memory could not be read (%r); this is the first try, so that nothing is in it.", exc
        )
        return {}


def _remember(memory: Memory, key: str, value: dict[str, Any]) -> None:
    try:
        memory.set(key, value)
    except Exception as exc:  # noqa: BLE001 - see below
        # Not raised: before the request that would lose the incident, after it Airflow would create another one.
        log.warning(
            "Airflow's memory could not be written (%r): a retry of this task may create a duplicate.", exc
        )
