"""Create many todos with several threads."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlBulkError, BzCtrlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bzctrl_provider.client.todo import AnyTodo, CreatedTodo


def create_all(
    create_one: Callable[[AnyTodo], CreatedTodo],
    todos: Iterable[AnyTodo],
    *,
    max_workers: int,
    stopped: threading.Event,
) -> list[CreatedTodo | BzCtrlError]:
    """Create all todos and return their results in the order of the todos.

    :param create_one: creates one todo.
    :param todos: read one by one, each when a thread is free for it.
    :param stopped: set when the caller is stopped: ends the waits of ``create_one``.
    :raises BzCtrlBulkError: the todos could not be read to their end.
    """
    refused: list[BzCtrlAuthError] = []
    free = threading.Semaphore(max_workers)

    def create(todo: AnyTodo) -> CreatedTodo | BzCtrlError:
        try:
            return copy.copy(refused[0]) if refused else create_one(todo)
        except BzCtrlError as exc:
            if isinstance(exc, BzCtrlAuthError):
                refused.append(exc)
            return exc
        finally:
            free.release()

    futures: list[Future[CreatedTodo | BzCtrlError]] = []
    unreadable: Exception | None = None
    source = iter(todos)
    with ThreadPoolExecutor(max_workers, thread_name_prefix="bzctrl") as pool:
        try:
            while free.acquire():
                try:
                    todo = next(source)
                except StopIteration:
                    break
                except Exception as exc:  # noqa: BLE001 - raised with the results when all threads are done
                    unreadable = exc
                    break
                futures.append(pool.submit(create, todo))
            results = [future.result() for future in futures]
        except BaseException:  # the task is stopped: no new todo, no new attempt, no wait
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if unreadable:
        raise _unreadable_error(unreadable, results) from unreadable
    return results


def _unreadable_error(exc: Exception, results: list[CreatedTodo | BzCtrlError]) -> BzCtrlBulkError:
    failed = sum(isinstance(result, BzCtrlError) for result in results)
    return BzCtrlBulkError(
        f"The todos could not be read to their end: after {len(results)} of them, {type(exc).__name__} was raised. "
        f"Created: {len(results) - failed}, failed: {failed}; each result is in the attribute results.",
        results=results,
    )
