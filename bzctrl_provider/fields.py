"""The fields of a todo as users write them, with their types."""

# Without annotations as texts, of which a TypedDict compiles each when it is imported.
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from numbers import Real
from typing import Any, TypeAlias, TypedDict

Text: TypeAlias = str | int | float | Decimal | None


class TodoFields(TypedDict, total=False):
    """List the fields of a todo; ``Todo`` describes them."""

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

_TIMES = {("numpy", "datetime64"), ("pandas", "NaTType")}


def is_missing(value: Any) -> bool:
    """Return whether a value is None or a gap in a table: NaN, or NaT or NA of numpy or pandas, which are not imported."""
    kind = type(value)
    # Without the module within the package: each pandas has another one.
    name = (str(kind.__module__).partition(".")[0], kind.__name__)
    if value is None or name == ("pandas", "NAType"):
        return True
    return (name in _TIMES or isinstance(value, Real)) and bool(value != value)  # noqa: PLR0124 - only NaN and NaT differ from themselves


def name_workspace(fields: Mapping[str, Any]) -> str:
    """Return where the fields put a todo, such as ``EXA-CON-BUS-WOR``; empty if they leave it to the connection."""
    places = (fields.get(name) for name in ("domain_workspace", "domain", "workspace"))
    return "/".join(str(place) for place in places if place)
