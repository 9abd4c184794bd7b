"""``@task.bzctrl_todo``: a function whose return value becomes todos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from bzctrl_provider.operators.bzctrl import CreateTodoOperator, CreateTodosOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar, Unpack

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from bzctrl_provider.fields import TodoFields

    Returned = TypeVar("Returned", bound=Mapping[str, Any] | Sequence[Mapping[str, Any]] | None)

    class _Arguments(TodoFields, total=False):
        task_id: str
        bzctrl_conn_id: str
        max_workers: int
        link_to_run: bool
        retries: int
        trigger_rule: str


class BzCtrlTodoDecoratedOperator(DecoratedOperator, CreateTodosOperator):
    """Call a function and create the todos that it returns."""

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
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        returned = self.python_callable(*self.op_args, **arguments)
        if not isinstance(returned, Mapping):
            return self._create_all(context, returned)
        (created,) = self._create_all(context, [returned])
        return created


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

    :param python_callable: the function, if the decorator is used without brackets.
    :param kwargs: the fields of a todo, for those that the function leaves out; ``bzctrl_conn_id``; ``max_workers``;
        ``link_to_run``; and what every task takes, such as ``task_id`` and ``retries``.
    :return: to XCom, what was created: a mapping, or a list of them in the same order.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=BzCtrlTodoDecoratedOperator, **kwargs
    )
