"""The memory of a task, so that a retry does not create a todo again; and the list of todos of one task.

BzCtrl has no idempotency key and no search, so the memory is kept in Airflow: from 3.3 on in the task's own state
store, before that in a Variable. It holds for the tries of a task between two clears; ``generation`` names them.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, Variable

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlOutcomeUnknownError
from bzctrl_provider.fields import PLACE, add_duplicate_note, is_missing
from bzctrl_provider.incidents.occurrence import TryState
from bzctrl_provider.text import LIST_ITEMS, NAME_CHARS, digest_of, list_names, one_line, safe_repr

if TYPE_CHECKING:
    from bzctrl_provider.client.todo import CreatedTodo

    Todos = Mapping[str, Mapping[str, Any]]
    Errors = dict[str, BzCtrlError]
    Result = dict[str, Any] | BzCtrlError
    CreateAll = Callable[[list[dict[str, Any]]], list[CreatedTodo | BzCtrlError]]

log = logging.getLogger(__name__)

OnUnknownOutcome = Literal["retry", "fail"]

_UNKEPT = "the memory of this attempt: a retry of this task may create a duplicate"


class VariableStore:
    """The state store of a task before Airflow 3.3: a Variable for each task and map index, so that parallel ones do not meet.

    :param name: of the Variable.
    :param run_id: the run, which has an entry of its own.
    """

    def __init__(self, name: str, run_id: str) -> None:
        self._name = name
        self._run_id = run_id

    def get(self, key: str) -> Any:
        """Return what was kept under a key; None if there is nothing."""
        return _as_object(self._read().get(self._run_id)).get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep plain JSON, and forget the oldest run if there are too many."""
        runs = self._read()
        # Removed and added again, so that the one in use is the youngest.
        kept = _as_object(runs.pop(self._run_id, None))
        runs[self._run_id] = {**kept, key: value}
        # Variables must not grow with the runs.
        for oldest in list(runs)[:-LIST_ITEMS]:
            del runs[oldest]
        Variable.set(self._name, json.dumps(runs))

    def _read(self) -> dict[str, Any]:
        # By position: the parameter's name changed with Airflow 3.
        text = Variable.get(self._name, None)
        try:
            return _as_object(json.loads(text or "{}"))
        except (ValueError, RecursionError):
            return {}


def _as_object(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else, because others can write Variables, too."""
    return value if isinstance(value, dict) else {}


def name_variable(*parts: str) -> str:
    """Return a name for a Variable: readable, of at most 250 characters, and different for different parts."""
    # The readable part is not enough: a DAG `a__b` with a task `c` looks like a DAG `a` with a task `b__c`.
    return f"bzctrl__memory__{'__'.join(parts)[:150]}__{digest_of(*parts)[:16]}"


def open_journal(context: Mapping[str, Any], on_unknown_outcome: OnUnknownOutcome) -> Journal:
    """Return the journal of the task that has this context; outside Airflow, one that remembers nothing."""
    ti = context["ti"]
    store = context.get("task_state_store")
    if not airflow_at_least(3, 3) and hasattr(ti, "run_id"):
        store = VariableStore(name_variable(ti.dag_id, ti.task_id, str(ti.map_index)), ti.run_id)
    return Journal(store, TryState.from_ti(ti), on_unknown_outcome)


class Journal:
    """The todos of a task by name: the created ones, and the attempts without a response at the others.

    It is kept page by page. A page is written before the requests for its todos, as if they had no response, and again
    with their results: so a try after one that was killed knows which todos may exist. ``created`` has the created todos as
    plain JSON, ``unanswered`` the times of the attempts.

    :param store: keeps JSON for the tries of the task, by ``get`` and ``set``: Airflow's, or a ``VariableStore``; None for none.
    :param tries: which of the task's tries this is.
    :param on_unknown_outcome: ``retry`` creates again a todo whose request had no response, and the description's last
        line says that it may be a duplicate; ``fail`` sends no other request for it.
    :param now: returns the time, in UTC.
    """

    def __init__(
        self,
        store: Any,
        tries: TryState,
        on_unknown_outcome: OnUnknownOutcome,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.tries = tries
        self._may_send_again = on_unknown_outcome == "retry"
        self._now = now
        self._page = 0
        self._unsaved: list[str] = []
        self.created: dict[str, dict[str, Any]] = {}
        self.unanswered: dict[str, list[str]] = defaultdict(list)
        # On the first try nothing can be in it. A later try fails if it cannot be read, and is retried: an earlier one
        # may have created the todo.
        with best_effort("the look-up of earlier tries") if tries.is_first else nullcontext():
            while store and (page := _as_object(store.get(self._page_key))):
                self._load(page)
                self._page += 1

    @property
    def _page_key(self) -> str:
        return f"bzctrl.{self.tries.generation}.{self._page}"

    def _load(self, page: Mapping[str, Any]) -> None:
        """Read a page without its invalid parts."""
        for name, known in page.items():
            if isinstance(known, dict):
                self.created[name] = known
            elif isinstance(known, list):
                self.unanswered[name] = [str(time) for time in known]

    def create_one(
        self, create: Callable[[dict[str, Any]], CreatedTodo], fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Create the only todo of a task, unless an earlier try since the last clear did.

        :param create: creates the todo of some fields and returns it.
        :param fields: of the todo. They may differ between the tries.
        :return: the created todo, of this try or of an earlier one.
        :raises BzCtrlError: the error of the last attempt.
        """

        def create_all(todos: list[dict[str, Any]]) -> list[CreatedTodo | BzCtrlError]:
            try:
                return [create(todo) for todo in todos]
            except BzCtrlError as exc:
                return [exc]

        (result,) = self._create(create_all, {"todo": fields})
        if not isinstance(result, BzCtrlError):
            return result
        if result.outcome_unknown and self._may_send_again:
            next_try = "Airflow's next try creates the todo again, and its description says that it may be a duplicate."
            what_follows = "This task sends nothing more." if self.tries.is_last else next_try
            log.warning("%s. %s", _where_to_look(fields), what_follows)
        raise result

    def create_many(
        self, create_all: CreateAll, todos: Sequence[Mapping[str, Any]], *, batch_size: int
    ) -> list[Result]:
        """Create the todos that no earlier try since the last clear created.

        A todo is identified by its content and by how many with the same content come before it, so that a list may change
        its order between the tries.

        :param create_all: creates todos, several at a time; returns for each the created todo or its error.
        :param todos: the fields of each todo.
        :param batch_size: how many todos have a page. If the process is killed, the outcome of at most so many is unknown.
        :return: for each todo, in the order of the list, the created todo, of this try or of an earlier one, or the error.
        """
        named = list(zip(_name_by_content(todos), todos, strict=True))
        results: list[Result] = []
        for start in range(0, len(named), batch_size):
            results += self._create(create_all, dict(named[start : start + batch_size]))
        return results

    def _create(self, create_all: CreateAll, todos: Todos) -> list[Result]:
        """Create the missing ones of some todos, and return the result of each."""
        # The keys may come from a Variable, which others can write.
        known = [self.created[name].get("key") for name in todos if name in self.created]
        if known:
            keys = [one_line(str(key), max_chars=NAME_CHARS) for key in known]
            log.info("An earlier try of this task created %s: nothing is created again.", list_names(keys))
        missing = {name: todo for name, todo in todos.items() if name not in self.created}
        attempt = self._attempt_again if self._may_send_again else self._attempt_once
        errors = attempt(create_all, missing)
        return [self.created[name] if name in self.created else errors[name] for name in todos]

    def _attempt_once(self, create_all: CreateAll, todos: Todos) -> Errors:
        """Send a request for each todo that certainly does not exist, and return the errors of all."""
        never_sent = {name: todo for name, todo in todos.items() if not self.unanswered[name]}
        errors = self._attempt(create_all, never_sent)
        return errors | {
            name: _outcome_unknown(todo, self.unanswered[name])
            for name, todo in todos.items()
            if name not in self.created and self.unanswered[name]
        }

    def _attempt_again(self, create_all: CreateAll, todos: Todos) -> Errors:
        """Send a request for each todo; in the last try, after which Airflow makes none, one more for what had no response."""
        errors = self._attempt(create_all, todos)
        unanswered = {name: todos[name] for name, error in errors.items() if error.outcome_unknown}
        if not (unanswered and self.tries.is_last):
            return errors
        log.warning(
            "It is not known whether this attempt created the todo, so one more follows, and its description says so: %s",
            errors[next(iter(unanswered))],
        )
        return errors | self._attempt(create_all, unanswered)

    def _attempt(self, create_all: CreateAll, todos: Todos) -> Errors:
        """Send one request for each todo, keep the results, and return the errors."""
        if not todos:
            return {}
        noted = [add_duplicate_note(todo, self.unanswered[name]) for name, todo in todos.items()]
        time = self._now().strftime("%Y-%m-%d %H:%M:%S UTC")
        for name in todos:
            self.unanswered[name].append(time)
        self._unsaved += todos
        # An error of the memory is not raised: before the requests it would lose the incident, after them Airflow would
        # create another one.
        with best_effort(_UNKEPT):
            self._write()
        errors = {}
        for name, result in zip(todos, create_all(noted), strict=True):
            if not isinstance(result, BzCtrlError):
                self.created[name] = result.as_dict()
                continue
            errors[name] = result
            if not result.outcome_unknown:
                self.unanswered[name].pop()
        # Todos whose results could not be written are written with the next ones, on the same page.
        with best_effort(_UNKEPT):
            self._write()
            self._unsaved = []
            self._page += 1
        return errors

    def _write(self) -> None:
        if self.store:
            page = {name: self.created.get(name) or self.unanswered[name] for name in self._unsaved}
            self.store.set(self._page_key, page)


def _name_by_content(todos: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a name for each todo: a digest of its content, and how many with the same content come before it."""
    seen: Counter[str] = Counter()
    for todo in todos:
        try:
            content = json.dumps(todo, sort_keys=True, default=str)
        except Exception:  # noqa: BLE001 - the text of an object may raise anything: no such todo is created
            content = ""
        digest = digest_of(content)[:16]
        yield f"{digest}.{seen[digest]}"
        seen[digest] += 1


def _where_to_look(fields: Mapping[str, Any]) -> str:
    title, order_id = (safe_repr(fields.get(name)) for name in ("title", "order_id"))
    return f"Look in BzCtrl for the title {title} and the order id {order_id}"


def _outcome_unknown(fields: Mapping[str, Any], unanswered: Sequence[str]) -> BzCtrlError:
    return BzCtrlOutcomeUnknownError(
        f"BzCtrl gave no response to the attempt at {', '.join(unanswered)}, and on_unknown_outcome is 'fail', so nothing "
        f"was sent again. {_where_to_look(fields)}. If it is there, mark this task as success; otherwise clear the task, "
        "which creates it.",
        outcome_unknown=True,
    )


def parse_todos(todos: Any) -> list[Mapping[str, Any]]:
    """Return the todos of a task, an iterable of mappings, as a list.

    :raises AirflowFailException: if they are something else; the message has an example.
    """
    found = list(todos) if isinstance(todos, Iterable) and not isinstance(todos, str) else [todos]
    for todo in found:
        if not isinstance(todo, Mapping):
            hint = " A template gives text unless the DAG has render_template_as_native_obj=True."
            raise AirflowFailException(
                "todos must be a list of mappings such as {'title': '…', 'description': '…'}, one for each todo; found "
                f"{safe_repr(todo)}.{hint if isinstance(todos, str) else ''}"
            )
    return found


def fill_todo(todo: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a todo with the defaults of the fields that it leaves out; a None or a gap in a table leaves out as well."""
    own = {name: value for name, value in todo.items() if not is_missing(value)}
    if own.keys() & set(PLACE):
        defaults = {name: value for name, value in defaults.items() if name not in PLACE}
    return {**defaults, **own}


def summarize(todos: Sequence[Mapping[str, Any]], results: Sequence[Result], *, is_last: bool) -> Exception:
    """Log which todos could not be created, and return the error of the task: one that Airflow retries if that may help."""
    errors = [result for result in results if isinstance(result, BzCtrlError)]
    missing = f"{len(errors)} of {len(results)} todos were not created"
    if len(results) > 1:
        log.error("%s:\n%s", missing, "\n".join(_result_lines(todos, results)))
    curable = [error for error in errors if not error.is_permanent]
    if curable and not is_last:
        return curable[0]
    if len(results) == 1:
        return AirflowFailException(str(errors[0]))
    reason = "The reason" if len(set(map(str, errors))) == 1 else "The first reason"
    return AirflowFailException(f"{missing}; the table above says which and why. {reason}: {errors[0]}")


def _result_lines(todos: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each todo, for the log: with its key and link, or with the reason."""
    first_lines: dict[str, int] = {}
    for number, (todo, result) in enumerate(zip(todos, results, strict=True), 1):
        if not isinstance(result, BzCtrlError):
            key, link = result.get("key"), result.get("link")
            outcome = f"created, {key or 'without a key'} {link or 'and without a link'}"
        elif (first := first_lines.setdefault(str(result), number)) == number:
            outcome = "not created. " + str(result).replace("\n", "\n   ")
        else:  # a hundred todos have one reason when BzCtrl is away
            outcome = f"not created, for the same reason as {first}"
        yield f"{number}. {_format_title(todo)}: {outcome}"


def _format_title(todo: Mapping[str, Any]) -> str:
    title = todo.get("title", "(no title)")
    return one_line(title, max_chars=NAME_CHARS) if isinstance(title, str) else safe_repr(title)
