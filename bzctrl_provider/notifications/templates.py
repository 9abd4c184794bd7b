"""Templates of routes and options where Airflow gives no context: for a DAG file, and for a failed run in the delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def new_renderer(variables: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that renders a template as a callback without a DAG does.

    :param variables: the variables of the templates.
    """
    notifier = BzCtrlNotifier()
    env = notifier.get_template_env(dag=None)
    # Airflow 2 reads the key while it renders.
    context: Any = {"dag": None, **variables}
    return lambda value: notifier.render_template(value, context, env, set())
