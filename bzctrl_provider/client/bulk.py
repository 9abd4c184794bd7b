"""Create many todos with several threads."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlBulkError, BzCtrlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bzctrl_provider.client.todo import CreatedTodo, Todo

    AnyTodo = Todo | Mapping[str, Any]


class Bulk:
    """Hold the state that the threads of one run over many todos share.

    :param create: creates one todo.
    :param todos: read one by one, as the work goes on.
    :param stopped: set when the caller is stopped: ends the waits of ``create``.
    """

    def __init__(
        self, create: Callable[[AnyTodo], CreatedTodo], todos: Iterable[AnyTodo], *, stopped: threading.Event
    ) -> None:
        self._create_one = create
        self._todos = iter(todos)
        self._lock = threading.Lock()
        self._ended = False
        self._refused: BzCtrlAuthError | None = None
        self._unreadable: Exception | None = None
        self._stopped = stopped
        self._results: list[Any] = []

    def run(self, *, max_workers: int) -> list[CreatedTodo | BzCtrlError]:
        """Create all todos and return their results in the order of the todos.

        :raises BzCtrlBulkError: the todos could not be read to their end.
        """
        with ThreadPoolExecutor(max_workers, thread_name_prefix="bzctrl") as pool:
            workers = [pool.submit(self._work) for _ in range(max_workers)]
            try:
                for worker in workers:
                    worker.result()
            except BaseException:  # the task is stopped: no new todo, no new attempt, no wait
                self._ended = True
                self._stopped.set()
                raise
        if self._unreadable:
            raise _unreadable_error(self._unreadable, self._results) from self._unreadable
        return self._results

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            index, todo = taken
            self._results[index] = self._create(todo)

    def _take(self) -> tuple[int, AnyTodo] | None:
        with self._lock:
            if self._ended:
                return None
            try:
                todo = next(self._todos)
            except StopIteration:
                self._ended = True
                return None
            except Exception as exc:  # noqa: BLE001 - raised with the results when all threads are done
                self._ended = True
                self._unreadable = exc
                return None
            except BaseException:
                self._ended = True
                self._stopped.set()
                raise
            self._results.append(None)
            return len(self._results) - 1, todo

    def _create(self, todo: AnyTodo) -> CreatedTodo | BzCtrlError:
        if self._refused:
            return copy.copy(self._refused)
        try:
            return self._create_one(todo)
        except BzCtrlAuthError as exc:
            self._refused = exc
            return exc
        except BzCtrlError as exc:
            return exc


def _unreadable_error(exc: Exception, results: list[Any]) -> BzCtrlBulkError:
    failed = sum(isinstance(result, BzCtrlError) for result in results)
    return BzCtrlBulkError(
        f"The todos could not be read to their end: after {len(results)} of them, {type(exc).__name__} was raised. "
        f"Created: {len(results) - failed}, failed: {failed}; each result is in the attribute results.",
        results=results,
    )
