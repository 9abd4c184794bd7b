"""``@task.bzctrl_todo``: a function whose return value becomes todos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, overload

from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.fields import TodoFields, add_note
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, CreateTodosOperator, get_failure, has_none

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    Returned = TypeVar("Returned", bound=Mapping[str, Any] | Sequence[Mapping[str, Any]] | None)

    class _Arguments(TodoFields, total=False):
        task_id: str
        bzctrl_conn_id: str
        max_workers: int
        link_to_run: bool
        retries: int
        trigger_rule: str
        on_failure_callback: Any


log = logging.getLogger(__name__)


class BzCtrlTodoDecoratedOperator(DecoratedOperator, CreateTodosOperator):
    """A task that creates the todos that a function returns; as a teardown, no failure before it is without one."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *CreateTodoOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **CreateTodoOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.bzctrl_todo"

    def __init__(self, **kwargs: Any) -> None:
        # The XCom holds todos, whatever the function returns.
        kwargs.pop("multiple_outputs", None)
        super().__init__(todos=None, **kwargs)

    def execute(self, context: Context) -> Any:
        """Call the function, then create."""
        self._set_links(context, [])
        returned = self._call_after_failure(context) if self.is_teardown else self._call(context)
        if isinstance(returned, Mapping):
            return self._create_all(context, [returned])[0]
        return self._create_all(context, returned)

    def _call(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        return self.python_callable(*self.op_args, **arguments)

    def _call_after_failure(self, context: Context) -> Any:
        """Call the function; if it has no todo for a failure before it, return one that says what failed."""
        from bzctrl_provider.incidents.occurrence import TryState

        failure = get_failure(context)
        if failure.skipped and failure.skipped == failure.checks:
            raise AirflowSkipException("The tasks before this one were skipped.")
        todo = {"title": failure.summary, "description": failure.describe(link_to_run=False)}
        try:
            returned = self._call(context)
        except AirflowSkipException:
            raise
        except Exception as exc:
            if not failure.tasks or not TryState.from_ti(context["ti"]).is_last:
                raise
            log.exception("The todo says only which tasks failed, because %s raised an error.", self.task_id)
            return add_note(todo, f"{self.task_id} raised an error: {exception_text(exc)}")
        return todo if failure.tasks and has_none(returned) else returned


@overload
def bzctrl_todo_task(python_callable: Callable[..., Returned], /) -> Callable[..., Any]: ...
@overload
def bzctrl_todo_task(**kwargs: Unpack[_Arguments]) -> TaskDecorator: ...
def bzctrl_todo_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Make a task of a function that returns one todo as a mapping, a list of them, or None to be skipped.

    ```python
    @task.bzctrl_todo(priority="HIGH", category=["Customs"])
    def faulty_orders(orders):
        return [{"title": f"Order {order} has no amount", "description": "…"} for order in orders]
    ```

    After checks, let it run as a teardown: ``checks >> faulty_orders(…).as_teardown()``. It then runs after a failure, too, and
    leaves the run failed. If a task before it failed and the function returns no todo or raises an error on the last try,
    the todo says which tasks failed. If all tasks before it were skipped, it is skipped.

    :param python_callable: the function, if the decorator is used without brackets.
    :param kwargs: the fields of a todo, for those that the function leaves out; ``bzctrl_conn_id``; ``max_workers``;
        ``link_to_run``; and what every task takes, such as ``task_id`` and ``retries``.
    :return: to XCom, what was created: a mapping, or a list of them in the same order.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=BzCtrlTodoDecoratedOperator, **kwargs
    )
