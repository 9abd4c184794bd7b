"""The memory of a task, so that a retry does not create a todo again; and the list of todos of one task.

BzCtrl has no idempotency key and no search, so the memory is kept in Airflow: from 3.3 on in the task's own state
store, before that in a Variable. It holds for the tries of a task between two clears; ``generation`` names them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow.providers.common.compat.sdk import AirflowFailException

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlOutcomeUnknownError
from bzctrl_provider.fields import add_duplicate_note, is_missing
from bzctrl_provider.incidents.occurrence import TryState
from bzctrl_provider.text import LINE_CHARS, LIST_ITEMS, NAME_CHARS, one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    CreateAll = Callable[[list[dict[str, Any]]], list[dict[str, Any] | BzCtrlError]]

log = logging.getLogger(__name__)

OnUnknownOutcome = Literal["retry", "fail"]

_UNKEPT = "the memory of this attempt: a retry of this task may create a duplicate"
_INTENT = "%Y-%m-%d %H:%M:%S UTC"


class Memory(Protocol):
    """Keep small JSON objects for the tries of one task between two clears."""

    def get(self, key: str) -> dict[str, Any]:
        """Return the object that was kept under a key; an empty one if there is none."""

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object."""


class TaskStateMemory:
    """Keep them in the task's state store of Airflow 3.3 and newer, which belongs to a run, a task and a map index.

    :param store: ``context["task_state_store"]``.
    :param generation: see ``TryState``.
    """

    def __init__(self, store: Any, generation: str) -> None:
        self._store = store
        self._prefix = f"bzctrl.{generation}."

    def get(self, key: str) -> dict[str, Any]:
        """Return the object that was kept under a key; an empty one if there is none."""
        return _as_object(self._store.get(self._prefix + key))

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object."""
        self._store.set(self._prefix + key, value)


class VariableMemory:
    """Keep them in one Airflow Variable for each task and map index, so that parallel ones do not meet.

    :param name: of the Variable.
    :param generation: see ``TryState``, with the run's id.
    :param now: returns the time, in UTC.
    """

    def __init__(
        self, name: str, generation: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._name = name
        self._generation = generation
        self._now = now

    def get(self, key: str) -> dict[str, Any]:
        """Return the object that was kept under a key; an empty one if there is none."""
        return _as_object(_as_object(read_variable(self._name).get(self._generation)).get(key))

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object, and forget the oldest generation if there are too many."""
        generations = read_variable(self._name)
        # Removed and added again, so that the one in use is the youngest.
        kept = _as_object(generations.pop(self._generation, None))
        generations[self._generation] = {**kept, key: value, "written_at": self._now().isoformat()}
        # Variables must not grow with the runs.
        for oldest in list(generations)[:-LIST_ITEMS]:
            del generations[oldest]
        write_variable(self._name, generations)


def _as_object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read_variable(name: str) -> dict[str, Any]:
    """Return the JSON object in a Variable; an empty one if there is none, or something else."""
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text = Variable.get(name, None)
    try:
        return _as_object(json.loads(text) if text else None)
    except (ValueError, RecursionError):
        return {}


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


def open_memory(context: Mapping[str, Any]) -> Memory | None:
    """Return the memory of the task that has this context; None if it is executed outside Airflow."""
    ti: Any = context.get("ti")
    tries = TryState.from_ti(ti)
    if "task_state_store" in context:
        return TaskStateMemory(context["task_state_store"], tries.generation)
    if airflow_at_least(3, 3) or not all(getattr(ti, name, None) for name in ("dag_id", "task_id", "run_id")):
        return None
    index = getattr(ti, "map_index", None)
    mapped = [] if index is None or index < 0 else [str(index)]
    name = variable_name("memory", ti.dag_id, ti.task_id, *mapped)
    return VariableMemory(name, f"{ti.run_id} {tries.generation}")


def safe_key(created: Mapping[str, Any]) -> str:
    """Return the key of a remembered todo for a log line: Variables can be written by others, too."""
    return one_line(str(created.get("key")), max_chars=NAME_CHARS)


def create_once(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    fields: Mapping[str, Any],
    *,
    memory: Memory | None,
    key: str,
    tries: TryState,
    on_unknown_outcome: OnUnknownOutcome,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Create a todo unless an earlier try since the last clear did; see ``create_all_once``.

    :param create: creates the todo of some fields and returns it.
    :param fields: of the todo. They may differ between the tries.
    :param key: of this todo within the memory.
    :return: the created todo, of this try or of an earlier one.
    :raises BzCtrlOutcomeUnknownError: see ``on_unknown_outcome``.
    :raises BzCtrlError: the error of ``create``.

    The other parameters are those of ``create_all_once``.
    """

    def create_all(todos: list[dict[str, Any]]) -> list[dict[str, Any] | BzCtrlError]:
        try:
            return [create(todo) for todo in todos]
        except BzCtrlError as exc:
            return [exc]

    journal = _Journal(memory, key, tries, on_unknown_outcome, now)
    journal.create(create_all, {key: fields})
    result = journal.get_result(key)
    if not isinstance(result, BzCtrlError):
        return dict(result)
    if result.outcome_unknown and on_unknown_outcome == "retry":
        log.warning(
            "%s. %s",
            _where_to_look(fields),
            "This task sends nothing more."
            if tries.is_last
            else "Airflow's next try creates the todo again, and its description says that it may be a duplicate.",
        )
    raise result


def create_all_once(
    create_all: CreateAll,
    todos: Sequence[Mapping[str, Any]],
    *,
    memory: Memory | None,
    tries: TryState,
    on_unknown_outcome: OnUnknownOutcome,
    batch_size: int,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[dict[str, Any] | BzCtrlError]:
    """Create the todos that no earlier try since the last clear created.

    A todo is identified by its content and by how many with the same content come before it, so that a list may change
    its order between the tries. An intent is remembered before the requests of a batch and the results after them, so
    a later try knows which requests may have been sent without a response.

    :param create_all: creates todos, several at a time; returns for each the created todo or its error.
    :param todos: the fields of each todo.
    :param memory: of the task; None remembers nothing.
    :param tries: which of the task's tries this is.
    :param on_unknown_outcome: ``retry`` creates again a todo whose request had no response, and the description's last
        line says that it may be a duplicate; ``fail`` sends no other request for it.
    :param batch_size: how many todos are created between two writes to the memory. If the process is killed, the
        outcome of at most so many is unknown.
    :param now: returns the time, in UTC.
    :return: for each todo, in the order of the list, the created todo, of this try or of an earlier one, or the error.
    """
    journal = _Journal(memory, "todos", tries, on_unknown_outcome, now)
    named = dict(zip(_name_by_content(todos), todos, strict=True))
    names = list(named)
    for start in range(0, len(names), batch_size):
        batch = {name: named[name] for name in names[start : start + batch_size]}
        journal.create(create_all, batch)
        if len(names) > batch_size:
            log.info("%d of %d todos are done.", min(start + batch_size, len(names)), len(names))
    return [journal.get_result(name) for name in names]


class _Journal:
    """Keep what is known of a task's todos by name in its memory, page by page.

    A page is written twice: before an attempt with the names of its todos, and after it with their results: the created
    todo as plain JSON, or the times of all attempts without a response.
    """

    def __init__(
        self,
        memory: Memory | None,
        key: str,
        tries: TryState,
        on_unknown_outcome: OnUnknownOutcome,
        now: Callable[[], datetime],
    ) -> None:
        self._memory = memory
        self._key = key
        self._may_send_again = on_unknown_outcome == "retry"
        # Airflow makes no attempt after its last try, so that one gets a second attempt for what had no response.
        self._attempts = 2 if tries.is_last and self._may_send_again else 1
        self._now = now
        self._page = 0
        self._created: dict[str, dict[str, Any]] = {}
        self._unanswered: dict[str, list[str]] = {}
        self._errors: dict[str, BzCtrlError] = {}
        self._unsaved: dict[str, None] = {}
        # On the first try nothing can be in it. A later try fails if it cannot be read, and is retried: an earlier one
        # may have created the todo.
        with best_effort("the look-up of earlier tries") if tries.is_first else nullcontext():
            # A page holds its own number: a memory that returns the same for every key has no second page.
            while memory and (page := _as_object(memory.get(self._page_key))).get("page") == self._page:
                self._load(page)
                self._page += 1

    @property
    def _page_key(self) -> str:
        return f"{self._key}.{self._page}"

    def _load(self, page: dict[str, Any]) -> None:
        """Read a page without its invalid parts, because others can write Variables, too."""
        for name, result in _as_object(page.get("todos")).items():
            if created := _as_object(_as_object(result).get("created")):
                self._created[name] = created
            unanswered = _as_object(result).get("unanswered")
            self._unanswered[name] = list(map(str, unanswered)) if isinstance(unanswered, list) else []
        pending, intent = page.get("pending"), page.get("intent")
        for name in pending if isinstance(pending, list) else []:
            if isinstance(name, str) and name not in self._created:
                self._add_unanswered(name, str(intent or "an unknown time"))

    def _add_unanswered(self, name: str, time: str) -> None:
        self._unanswered[name] = [*self.get_unanswered(name), time]

    def get_unanswered(self, name: str) -> Sequence[str]:
        """Return the times of the attempts without a response."""
        return self._unanswered.get(name, [])

    def get_result(self, name: str) -> dict[str, Any] | BzCtrlError:
        """Return the created todo, or the error of the last attempt."""
        return self._created[name] if name in self._created else self._errors[name]

    def create(self, create_all: CreateAll, todos: Mapping[str, Mapping[str, Any]]) -> None:
        """Create the missing ones of some todos; afterwards each has its result."""
        if keys := [safe_key(self._created[name]) for name in todos if name in self._created]:
            log.info(
                "An earlier try of this task created %s: nothing is created again.",
                keys[0] if len(keys) == 1 else f"{len(keys)} of these todos",
            )
        for attempt in range(self._attempts):
            self._refuse_unanswered(todos)
            pending = {name: todo for name, todo in todos.items() if self._is_pending(name)}
            if not pending:
                break
            if attempt:
                log.warning(
                    "It is not known whether this attempt created the todo, so one more follows, and its description says "
                    "so: %s",
                    self._errors[next(iter(pending))],
                )
            self._attempt(create_all, pending, self._now().strftime(_INTENT))
        self._refuse_unanswered(todos)

    def _is_pending(self, name: str) -> bool:
        """Return whether an attempt to create the todo may be made: none was made in this try, or its outcome is unknown."""
        error = self._errors.get(name)
        return name not in self._created and (
            error is None or (self._may_send_again and error.outcome_unknown)
        )

    def _refuse_unanswered(self, todos: Mapping[str, Mapping[str, Any]]) -> None:
        """Let todos whose outcome is unknown fail without another request, if nothing may be sent again."""
        for name, todo in todos.items():
            times = self.get_unanswered(name)
            if times and not self._may_send_again and name not in self._created:
                error = BzCtrlOutcomeUnknownError(_what_to_look_for(todo, times), outcome_unknown=True)
                self._errors[name] = error

    def _attempt(self, create_all: CreateAll, todos: Mapping[str, Mapping[str, Any]], time: str) -> None:
        """Send one request for each todo, and keep the results."""
        self._unsaved |= dict.fromkeys(todos)
        # Not raised: before the request that would lose the incident, after it Airflow would create another one.
        with best_effort(_UNKEPT):
            self._write(intent=time, pending=list(todos))
        noted = [add_duplicate_note(todo, self.get_unanswered(name)) for name, todo in todos.items()]
        for name, result in zip(todos, create_all(noted), strict=True):
            self._errors.pop(name, None)
            if not isinstance(result, BzCtrlError):
                self._created[name] = result
                continue
            self._errors[name] = result
            if result.outcome_unknown:
                self._add_unanswered(name, time)
        with best_effort(_UNKEPT):
            self._write()
            self._unsaved = {}
            self._page += 1

    def _write(self, **intent: Any) -> None:
        results: dict[str, Any] = {}
        for name in self._unsaved:
            if name in self._created:
                results[name] = {"created": self._created[name]}
            elif times := self.get_unanswered(name):
                results[name] = {"unanswered": times}
        if self._memory:
            self._memory.set(self._page_key, {"page": self._page, **intent, "todos": results})


def _name_by_content(todos: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a name for each todo: a digest of its content, and how many with the same content come before it."""
    seen: Counter[str] = Counter()
    names = []
    for todo in todos:
        try:
            content = json.dumps(todo, sort_keys=True, default=str)
        except Exception:  # noqa: BLE001 - the text of an object may raise anything: no such todo is created
            content = ""
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        names.append(f"{digest}.{seen[digest]}")
        seen[digest] += 1
    return names


def _where_to_look(fields: Mapping[str, Any]) -> str:
    title, order_id = (safe_repr(fields.get(name), max_chars=LINE_CHARS) for name in ("title", "order_id"))
    return f"Look in BzCtrl for the title {title} and the order id {order_id}"


def _what_to_look_for(fields: Mapping[str, Any], unanswered: Sequence[str]) -> str:
    return (
        f"BzCtrl gave no response to the attempt at {', '.join(unanswered)}, and on_unknown_outcome is 'fail', so nothing "
        f"was sent again. {_where_to_look(fields)}. If it is there, mark this task as success; otherwise clear the task, "
        "which creates it."
    )


_PLACE = ("domain", "workspace", "domain_workspace")


def parse_todos(todos: Any, *, templated: bool) -> list[Mapping[str, Any]]:
    """Return the todos as a list.

    :param todos: of a task: a list or another iterable of mappings.
    :param templated: whether they come from a template, which may have made text of them.
    :raises AirflowFailException: if they are no list of mappings; the message has an example.
    """
    found = list(todos) if isinstance(todos, Iterable) and not isinstance(todos, str) else [todos]
    wrong = [todo for todo in found if not isinstance(todo, Mapping)]
    if wrong:
        raise AirflowFailException(
            "todos must be a list of mappings such as {'title': '…', 'description': '…'}, one for each todo; found "
            f"{safe_repr(wrong[0])}."
            + (
                " A template gives text unless the DAG has render_template_as_native_obj=True."
                if templated and isinstance(todos, str)
                else ""
            )
        )
    return found


def fill_todo(todo: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a todo with the defaults of the fields that it leaves out; a None or a gap in a table leaves out as well."""
    own = {name: value for name, value in todo.items() if not is_missing(value)}
    if own.keys() & set(_PLACE):
        defaults = {name: value for name, value in defaults.items() if name not in _PLACE}
    return {**defaults, **own}


def format_results(todos: list[dict[str, Any]], results: list[dict[str, Any] | BzCtrlError]) -> str:
    """Return a table of the results for the log: one line for each todo, with its key and link or with the reason."""
    lines = []
    first_lines: dict[str, int] = {}
    for number, (todo, result) in enumerate(zip(todos, results, strict=True), 1):
        if not isinstance(result, BzCtrlError):
            key, link = result.get("key"), result.get("link")
            outcome = f"created, {key or 'without a key'} {link or 'and without a link'}"
        elif (first := first_lines.setdefault(str(result), number)) == number:
            outcome = "not created. " + str(result).replace("\n", "\n   ")
        else:  # a hundred todos have one reason when BzCtrl is away
            outcome = f"not created, for the same reason as {first}"
        lines.append(f"{number}. {_format_title(todo)}: {outcome}")
    return "\n".join(lines)


def _format_title(todo: Mapping[str, Any]) -> str:
    title = todo.get("title", "(no title)")
    return one_line(title, max_chars=NAME_CHARS) if isinstance(title, str) else safe_repr(title)
