"""Templates in a DAG with ``render_template_as_native_obj=True``: their text stays text.

Airflow reads the text of such a template as a literal of Python, and makes 20260117 of the order id ``2026_0117``.
"""

from __future__ import annotations

from collections import ChainMap
from functools import partial
from typing import TYPE_CHECKING, Any

from bzctrl_provider.fields import TODO_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

_LIST_FIELDS = {"category", "sub_category", "todos"}
_FIELDS = {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key", "todos"}


class TextTemplates:
    """A base of operators and of the notifier, in front of Airflow's, that renders with the environments of ``keep_text``."""

    def render_template(
        self, content: Any, context: Any, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Render a value, which may be a list or a mapping with templates."""
        is_template = isinstance(content, str) and id(content) not in (seen_oids or ())
        if not (is_template and jinja_env and jinja_env.overlayed):
            render: Any = super()
            return render.render_template(content, context, jinja_env, seen_oids)
        template = jinja_env.from_string(content)
        # As Airflow does it: a copy of its context would look up what no template uses.
        variables = template.new_context(ChainMap(context, template.globals), shared=True)
        return jinja_env.concat(list(template.root_render_func(variables)))


def keep_text(jinja_env: Environment, name: str, value: object, *, dag: object = None) -> Environment:
    """Return the environment that renders the value of a field, and whatever is in it.

    Fields of subclasses and arguments of decorated functions are rendered as the DAG says.

    :param dag: a DAG that may have native rendering, but no environment, as in a callback under ``airflow dags test``.
    """
    from jinja2 import pass_context
    from jinja2.nativetypes import NativeEnvironment

    is_native = getattr(dag, "render_template_as_native_obj", isinstance(jinja_env, NativeEnvironment))
    if jinja_env.overlayed or not is_native:
        return jinja_env
    # With a finalize that takes the context, `{{ none }}` and other constants are no text when the template is compiled.
    own_env = jinja_env.overlay(finalize=jinja_env.finalize or pass_context(lambda _, result: result))
    if name in _FIELDS:
        own_env.concat = partial(_join, name=name, is_whole=isinstance(value, str))  # type: ignore[method-assign]
    return own_env


def _join(nodes: Sequence[Any], *, name: str, is_whole: bool) -> Any:
    """Return the result of a native template: the object if it is one, otherwise its text.

    :param is_whole: whether the template is a whole field; the text of a list is the list only then, and in a field that is one.
    """
    from jinja2.nativetypes import native_concat

    value = nodes[0] if len(nodes) == 1 else "".join(map(str, nodes))
    if name not in _LIST_FIELDS:
        return str(value) if isinstance(value, bool | list | tuple | dict) else value
    if is_whole and isinstance(value, str) and isinstance(read := native_concat([value]), list):
        return read
    return value
