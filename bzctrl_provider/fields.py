"""The fields of a todo as users write them: their types, notes at the end of a description, and templates of text.

In a DAG with ``render_template_as_native_obj=True``, Airflow reads the text of a template as a literal of Python, and makes
20260117 of the order id ``2026_0117``. In the fields of a todo, text stays text.
"""

# Without annotations as texts, of which a TypedDict compiles each when it is imported.
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from jinja2 import Environment

Text: TypeAlias = str | int | float | Decimal | None


class TodoFields(TypedDict, total=False):
    """The fields of a todo, which ``Todo`` describes."""

    todo_type: str | None
    domain_workspace: Text
    domain: Text
    workspace: Text
    title: Text
    description: Text
    result: Text
    financial_impact: Text
    impact: str | None
    likelihood: str | None
    status: str | None
    priority: str | None
    assignee: str | None
    reporter: str | None
    category: Sequence[Text] | Text
    sub_category: Sequence[Text] | Text
    order_id: Text
    lrn: Text
    reminder_date: date | str | None


TODO_FIELDS = tuple(TodoFields.__annotations__)

PLACE = ("domain_workspace", "domain", "workspace")
"""The fields that together say where a todo belongs: the first source that sets any of them gives all of them."""

LEVELS = ("HIGH", "MEDIUM", "LOW")
"""The levels of impact, likelihood and priority, the highest first."""


def is_missing(value: Any) -> bool:
    """Return whether a value is None or a gap in a table: NaN, or NaT or NA of numpy or pandas, which are not imported."""
    kind = type(value).__name__
    if value is None or kind in ("NAType", "NaTType"):
        return True
    is_comparable = kind == "datetime64" or isinstance(value, Real)
    return is_comparable and bool(value != value)  # noqa: PLR0124 - only NaN and NaT differ from themselves


def name_workspace(fields: Mapping[str, Any]) -> str:
    """Return where the fields put a todo, such as ``EXA-CON-BUS-WOR``; empty if they leave it to the connection."""
    return "/".join(str(fields[name]) for name in PLACE if fields.get(name))


def add_duplicate_note(fields: Mapping[str, Any], unanswered: Sequence[str]) -> dict[str, Any]:
    """Return the fields with a note in the description that names the attempts without a response.

    :param fields: of a todo. An unset description, or one of an invalid type, stays as it is.
    :param unanswered: the times of the attempts, as text; empty for no note.
    """
    if not unanswered or not _read_description(fields):
        return dict(fields)
    attempts = "An attempt" if len(unanswered) == 1 else "Attempts"
    note = f"{attempts} at {', '.join(unanswered)} had no response, so this may be a duplicate."
    return add_note(fields, note)


def add_run_link(fields: Mapping[str, Any], run_url: str | None) -> dict[str, Any]:
    """Return the fields with the address of the run as the last line of the description.

    :param fields: of a todo. A description that is unset, is of an invalid type or has the address stays as it is.
    :param run_url: the address in Airflow's UI; None for no change.
    """
    description = _read_description(fields)
    # The address of a task begins with that of its run.
    if not run_url or not description or re.search(re.escape(run_url) + r"(?![\w/%&?-])", description):
        return dict(fields)
    return add_note(fields, f"Run: {run_url}")


def _read_description(fields: Mapping[str, Any]) -> str:
    """Return the description as text; empty if it is unset or of an invalid type, which must stay an error."""
    description = fields.get("description")
    is_text = isinstance(description, str | int | float) and not isinstance(description, bool)
    return str(description).strip() if is_text else ""


def add_left_out_note(fields: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """Return the fields with a note in the description that names the fields that were left out.

    :param fields: of a todo.
    :param left_out: each field with its reason, such as ``priority (must be HIGH, MEDIUM or LOW, not 'urgent')``.
    """
    if not left_out:
        return dict(fields)
    note = f"Left out, because the template raises or the value is invalid: {', '.join(left_out)}."
    return add_note(fields, note)


def add_note(fields: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Return the fields with one more paragraph at the end of the description."""
    return {**fields, "description": f"{fields.get('description') or ''}\n\n{note}".strip()}


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


def keep_text(jinja_env: "Environment", name: str, value: object, *, dag: object = None) -> "Environment":
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
