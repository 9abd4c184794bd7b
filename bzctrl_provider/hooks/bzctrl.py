"""The hook: keeps the credentials in an Airflow connection, and creates todos."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from bzctrl_provider.exceptions import BzCtrlConfigError, BzCtrlError
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.providers.common.compat.sdk import Connection

    from bzctrl_provider.client.api import BzCtrlClient
    from bzctrl_provider.client.todo import CreatedTodo, Todo


class BzCtrlHook(BaseHook):
    """Creates incidents and tasks in BzCtrl.

    :param bzctrl_conn_id: the Airflow connection, of type ``bzctrl``.
    """

    conn_name_attr = "bzctrl_conn_id"
    default_conn_name = "bzctrl_default"
    conn_type = "bzctrl"
    hook_name = "BzCtrl"

    def __init__(self, bzctrl_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bzctrl_conn_id = bzctrl_conn_id
        self._client: BzCtrlClient | None = None
        self._granted: list[str] = []

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields for Airflow 2.11 to 3.1; newer ones read the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional, any_of

        widgets: dict[str, Any] = {}
        for name, form_field in _form()["conn-fields"].items():
            schema = form_field["schema"]
            common = {
                "label": lazy_gettext(form_field["label"]),
                "description": form_field["description"],
                "default": schema.get("default"),
            }
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(**common)
                continue
            # Airflow allows no drop-down field here; any_of checks in 2.11, and makes a drop-down in 3.1.
            validators = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
            kind = IntegerField if "integer" in schema["type"] else StringField
            widgets[name] = kind(widget=BS3TextFieldWidget(), validators=validators, **common)
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form hides, renames and suggests, for Airflow 2.11 to 3.1."""
        behaviour = _form()["ui-field-behaviour"]
        return {
            "hidden_fields": behaviour["hidden-fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        }

    def get_conn(self) -> BzCtrlClient:
        """Return the client of this hook's connection; it makes no request by itself.

        :raises BzCtrlConfigError: names every fault of the connection at once.
        :raises AirflowNotFoundException: where Airflow has no such connection.
        """
        if self._client is None:
            try:
                connection = _OpaqueConnection(self.get_connection(self.bzctrl_conn_id))
            except AirflowNotFoundException:
                raise _not_found(self.bzctrl_conn_id) from None
            self._client = _build_client(connection, on_new_token=mask_secret)
        return self._client

    def create_todo(self, todo: Todo | Mapping[str, Any] | None = None, /, **fields: Any) -> CreatedTodo:
        """Create one incident or task.

        :param todo: a ``Todo``, or a mapping of its fields.
        :param fields: the same fields one by one; they win over those of ``todo``.
        :return: for example ``CreatedTodo(key="EXA-CON-BUS-WOR-03", link="https://…", …)``.
        :raises BzCtrlConfigError: names every fault of the connection; nothing was sent.
        :raises BzCtrlValidationError: names every fault of the todo; nothing was sent.
        :raises BzCtrlError: anything else; its ``outcome_unknown`` tells whether the todo may exist.
        """
        return self.get_conn().create_todo(todo, **fields)

    def create_todos(
        self, todos: Iterable[Todo | Mapping[str, Any]], *, max_workers: int = 8
    ) -> list[CreatedTodo | BzCtrlError]:
        """Create many, several at a time; a faulty or refused one does not keep the others from being created.

        :param todos: like ``create_todo``'s; a generator is read as the work goes on.
        :param max_workers: how many at a time, 1 to 64.
        :return: for each todo, in the order and the length of the input, what was created or why it was not.
        :raises BzCtrlConfigError: names every fault of the connection; nothing was sent.
        """
        return self.get_conn().create_todos(todos, max_workers=max_workers)

    async def acreate_todo(
        self, todo: Todo | Mapping[str, Any] | None = None, /, **fields: Any
    ) -> CreatedTodo:
        """Create one from a trigger or another coroutine; the event loop stays free meanwhile.

        Parameters, result and errors are those of ``create_todo``.
        """
        if self._client is None:
            try:
                if hasattr(self, "aget_connection"):  # Airflow 3.1 and newer
                    connection = _OpaqueConnection(await self.aget_connection(self.bzctrl_conn_id))
                else:
                    connection = _OpaqueConnection(
                        await asyncio.to_thread(self.get_connection, self.bzctrl_conn_id)
                    )
            except AirflowNotFoundException:
                raise _not_found(self.bzctrl_conn_id) from None
            self._client = _build_client(connection, on_new_token=self._granted.append)
        try:
            return await asyncio.to_thread(self._client.create_todo, todo, **fields)
        finally:
            while self._granted:
                await _amask(self._granted.pop())

    def test_connection(self) -> tuple[bool, str]:
        """Ask for a token, for the UI's "Test" button. No todo is created.

        :return: whether it was granted, and a sentence for the user.
        """
        try:
            client = self.get_conn()
            client.check_credentials()
        except Exception as exc:  # noqa: BLE001 - a connection that is not there, a secrets backend that is down
            said = str(exc)
            if isinstance(exc, BzCtrlError):
                # From the UI, the connection has an id that nobody has given it.
                said = said.replace(f" {self.bzctrl_conn_id!r}", "")
            return False, said
        return True, (
            f"BzCtrl granted {client.username} a token at {client.endpoints.token_url}. "
            f"Todos will be created at {client.endpoints.create_url}; none was created now."
        )


def _not_found(conn_id: str) -> AirflowNotFoundException:
    # A template may have made it.
    variable = one_line(f"AIRFLOW_CONN_{conn_id}", max_chars=300).upper()
    return AirflowNotFoundException(
        f"Airflow has no connection {safe_repr(conn_id, max_chars=300)} here. Create it with the type bzctrl (in the UI, with `airflow connections "
        f"add`, in a secrets backend, or as the environment variable {variable}), or correct bzctrl_conn_id. If "
        f"{variable} is set already, its JSON is broken."
    )


class _OpaqueConnection:
    """A connection whose ``repr`` is not shown by a traceback with local variables: it holds the password."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


def _build_client(hidden: _OpaqueConnection, *, on_new_token: Callable[[str], object]) -> BzCtrlClient:
    # Imported here: a DAG file that names the hook must not load requests and pydantic.
    from bzctrl_provider.client.api import BzCtrlClient
    from bzctrl_provider.config import BzCtrlConfig

    try:
        config = BzCtrlConfig.from_connection(hidden.connection)
    except BzCtrlConfigError as exc:
        # The frames below hold the connection itself, and some tracebacks show their local variables.
        raise exc.with_traceback(None) from None
    mask_secret(config.password.get_secret_value())
    return BzCtrlClient(
        config.endpoints,
        username=config.username,
        password=config.password,
        timeout_s=config.timeout_s,
        max_attempts=config.max_attempts,
        verify=config.verify,
        message_format=config.message_format,
        in_progress_spelling=config.in_progress_spelling,
        defaults=config.defaults,
        connection=f"the connection {hidden.connection.conn_id!r}",
        on_new_token=on_new_token,
    )


async def _amask(secret: str) -> None:
    """Mask a secret without blocking the triggerer's channel to Airflow, which the event loop may be using."""
    try:
        from airflow.sdk.log import amask_secret
    except ImportError:  # older than 3.3, where mask_secret is local or does no harm here
        mask_secret(secret)
    else:
        await amask_secret(secret)


def _form() -> dict[str, Any]:
    from bzctrl_provider.get_provider_info import get_provider_info

    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form
