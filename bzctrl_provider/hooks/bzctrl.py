"""The hook: keeps the credentials in an Airflow connection, and creates todos."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf, mask_secret

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.metrics import count_results, count_todos, time_create
from bzctrl_provider.text import LINE_CHARS, digest_of, one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bzctrl_provider.client.api import BzCtrlClient
    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.todo import CreatedTodo, Todo
    from bzctrl_provider.exceptions import BzCtrlError


_MASKED_TOKENS_MAX = 64
_MASKED_CHARS_MAX = 100_000
"""How many tokens, and of how many characters, a process gives to Airflow's masker, which keeps them for ever: the one of
2.11.2 breaks for every secret of the process after 87 tokens of 8,000 characters. The provider's own messages hold no
token in any case."""

_ASYNC_THREADS = 4
"""How many todos ``acreate_todo`` creates at a time in a process. Threads of their own: a BzCtrl that does not respond must
not occupy those of the event loop, which also look up names for everybody."""

_masked: dict[str, int] = {}
_executor: ThreadPoolExecutor


def _renew_executor() -> None:
    """Begin with an executor of its own in a forked child, which has none of its parent's threads."""
    global _executor  # noqa: PLW0603 - it belongs to the process
    _executor = ThreadPoolExecutor(_ASYNC_THREADS, thread_name_prefix="bzctrl-async")


_renew_executor()
os.register_at_fork(after_in_child=_renew_executor)


async def _run(function: Callable[[], CreatedTodo], *, limit_s: float | None) -> CreatedTodo:
    """Run a function in one of the provider's own threads.

    It does not run if the coroutine is cancelled, or ``limit_s`` seconds have passed, before a thread is free.
    """
    future = _executor.submit(function)
    if limit_s is not None:
        # Does nothing once the function runs.
        asyncio.get_running_loop().call_later(limit_s, future.cancel)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BzCtrlTransportError(
            f"The todo was not sent: for {limit_s:g} s, each of the {_ASYNC_THREADS} threads for coroutines was creating another todo."
        ) from None


def _is_to_mask(token: str) -> bool:
    """Return whether Airflow's masker gets a token; each of them once, and only as many as it can take."""
    digest = digest_of(token)
    chars = sum(_masked.values()) + len(token)
    if digest in _masked or len(_masked) >= _MASKED_TOKENS_MAX or chars > _MASKED_CHARS_MAX:
        return False
    _masked[digest] = len(token)
    return True


def _mask_token(token: str) -> None:
    if _is_to_mask(token):
        mask_secret(token)


class BzCtrlHook(BaseHook):
    """A hook that creates incidents and tasks in BzCtrl.

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
        """Return the hidden, renamed and suggested fields of the connection form, for Airflow 2.11 to 3.1."""
        return {name.replace("-", "_"): value for name, value in _form()["ui-field-behaviour"].items()}

    def get_conn(self) -> BzCtrlClient:
        """Return the client of this hook's connection; it makes no request by itself.

        :raises BzCtrlConfigError: names every error of the connection at once.
        :raises AirflowNotFoundException: Airflow has no such connection.
        """
        # Imported here: a DAG file that names the hook must not load requests and pydantic.
        from bzctrl_provider.hooks.connection import read_connection

        if self._client is None:
            try:
                # Not in a variable: the repr of a connection has its password, and some tracebacks show variables.
                config = read_connection(self.get_connection(self.bzctrl_conn_id))
            except AirflowNotFoundException:
                raise _not_found(self.bzctrl_conn_id) from None
            self._client = _new_client(config, on_new_token=_mask_token)
        return self._client

    def create_todo(
        self, todo: Todo | Mapping[str, Any] | None = None, /, *, limit_s: float | None = None, **fields: Any
    ) -> CreatedTodo:
        """Create one incident or task.

        :param todo: a ``Todo``, or a mapping of its fields.
        :param limit_s: seconds for the whole call, with all its requests and waits; default and maximum: 14 minutes with
            the default ``timeout_s`` and ``max_attempts`` of the connection.
        :param fields: the same fields one by one; they win over those of ``todo``.
        :return: for example ``CreatedTodo(key="EXA-CON-BUS-WOR-03", link="https://…", …)``.
        :raises BzCtrlConfigError: names every error of the connection; nothing was sent.
        :raises BzCtrlValidationError: names every error of the todo; nothing was sent.
        :raises BzCtrlError: anything else; its ``outcome_unknown`` says whether the todo may exist.
        """
        client = self.get_conn()
        own_type = todo.get("todo_type") if isinstance(todo, Mapping) else getattr(todo, "todo_type", None)
        todo_type = fields.get("todo_type") or own_type
        try:
            with time_create(todo_type=todo_type):
                created = client.create_todo(todo, limit_s=limit_s, **fields)
        except BaseException:
            count_todos("failed", todo_type=todo_type)
            raise
        count_todos("created", todo_type=todo_type)
        return created

    def create_todos(
        self, todos: Iterable[Todo | Mapping[str, Any]], *, max_workers: int = 8
    ) -> list[CreatedTodo | BzCtrlError]:
        """Create many, several at a time; a faulty or refused one does not keep the others from being created.

        :param todos: like ``create_todo``'s; all are read before the first one is sent.
        :param max_workers: how many at a time, 1 to 64.
        :return: for each todo, in the order and the length of the input, what was created or why it was not.
        :raises BzCtrlConfigError: names every error of the connection; nothing was sent.
        """
        results = self.get_conn().create_todos(todos, max_workers=max_workers)
        count_results(results)
        return results

    async def acreate_todo(
        self, todo: Todo | Mapping[str, Any] | None = None, /, *, limit_s: float | None = None, **fields: Any
    ) -> CreatedTodo:
        """Create one from a trigger or another coroutine; the event loop stays free meanwhile.

        A process creates four at a time. The time until its turn counts against ``limit_s``; a coroutine that is cancelled
        before its turn creates nothing.

        Parameters, result and errors are those of ``create_todo``.
        """
        from bzctrl_provider.hooks.connection import read_connection

        ends_at = None if limit_s is None else time.monotonic() + limit_s
        if self._client is None and hasattr(self, "aget_connection"):  # Airflow 3.1 and newer
            try:
                config = read_connection(await self.aget_connection(self.bzctrl_conn_id))
            except AirflowNotFoundException:
                raise _not_found(self.bzctrl_conn_id) from None
            self._client = _new_client(config, on_new_token=self._granted.append)

        def create() -> CreatedTodo:
            remaining_s = None if ends_at is None else ends_at - time.monotonic()
            return self.create_todo(todo, limit_s=remaining_s, **fields)

        try:
            return await _run(create, limit_s=limit_s)
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
            # From the UI, the connection has an id that nobody has given it.
            return False, str(exc).replace(f" {self.bzctrl_conn_id!r}", "")
        token_url, create_url = client.config.endpoints
        message = f"BzCtrl granted {client.config.username} a token at {token_url}. Todos will be created at {create_url}; none was created now."
        return True, message


def _not_found(conn_id: str) -> AirflowNotFoundException:
    # A template may have made it.
    variable = one_line(f"AIRFLOW_CONN_{conn_id}", max_chars=LINE_CHARS).upper()
    # Airflow logs the error of a secrets backend, and asks the next one.
    backend = conf.get("secrets", "backend", fallback="") or conf.get(
        "workers", "secrets_backend", fallback=""
    )
    note = " If the secrets backend failed, its error is in the log before this message." if backend else ""
    return AirflowNotFoundException(
        f"Airflow has no connection {safe_repr(conn_id, max_chars=LINE_CHARS)} here. Create it with the type bzctrl (in the UI, with `airflow connections add`, in a secrets backend, or as the environment variable {variable}), or correct bzctrl_conn_id. If {variable} is set already, its JSON is broken.{note}"
    )


def _new_client(config: BzCtrlConfig, *, on_new_token: Callable[[str], object]) -> BzCtrlClient:
    from bzctrl_provider.client.api import BzCtrlClient

    # Before the client can send it.
    mask_secret(config.password.get_secret_value())
    # As it is in the body of the token request, which a debug log of an HTTP library may show.
    mask_secret(quote_plus(config.password.get_secret_value()))
    return BzCtrlClient(config, on_new_token=on_new_token)


async def _amask(secret: str) -> None:
    """Mask a token without blocking the triggerer's channel to Airflow, which the event loop may be using."""
    if not _is_to_mask(secret):
        return
    try:
        from airflow.sdk.log import amask_secret
    except ImportError:  # older than 3.3, where mask_secret is local or does no harm here
        mask_secret(secret)
    else:
        await amask_secret(secret)


def _form() -> Any:
    # Imported here: a task has no form.
    from bzctrl_provider.get_provider_info import get_provider_info

    return get_provider_info()["connection-types"][0]
