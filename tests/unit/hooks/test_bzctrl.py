from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
import threading
import traceback
from types import ModuleType
from urllib.parse import quote_plus

import pytest
from airflow.exceptions import AirflowNotFoundException
from support.bzctrl import ACC, KEY, LINK, PASSWORD, TOKEN

from bzctrl_provider.client import auth
from bzctrl_provider.exceptions import (
    BzCtrlConfigError,
    BzCtrlRejectedError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)
from bzctrl_provider.hooks import bzctrl as hook_module
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def masked(monkeypatch):
    """Return what was masked."""
    secrets = []
    monkeypatch.setattr(hook_module, "mask_secret", secrets.append)
    return secrets


def test_hook_create_todo_uses_the_connection(bzctrl, fields):
    """Credentials and defaults come from the Airflow connection."""
    del fields["domain_workspace"]
    assert BzCtrlHook().create_todo(fields, title="By the hook").key == KEY
    token, create = bzctrl.request_history
    assert "username=user%40example.com" in token.text
    assert create.json()["domainWorkSpace"] == "EXA"
    assert create.json()["title"] == "By the hook"


def test_hook_same_connection_shares_the_token(bzctrl, fields):
    """Three hooks in a process ask for one token."""
    for _ in range(3):
        BzCtrlHook().create_todo(fields)
    assert [request.url for request in bzctrl.request_history].count(ACC.token_url) == 1


def test_hook_create_todos_keeps_their_order(bzctrl, fields):
    """`create_todos` gives a result or an error for each."""
    created, faulty = BzCtrlHook().create_todos([fields, {}], max_workers=2)
    assert created.key == KEY
    assert isinstance(faulty, BzCtrlValidationError)


@pytest.mark.security
def test_hook_create_todo_masks_password_and_token(bzctrl, fields, masked):
    """The hook registers both with Airflow's masker."""
    BzCtrlHook().create_todo(fields)
    assert masked == [PASSWORD, quote_plus(PASSWORD), TOKEN]


def test_hook_get_conn_invalid_connection_raises_all_errors(monkeypatch):
    """Nothing is sent with half a configuration."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "bzctrl", "extra": {"timeout_s": "x"}})
    )
    with pytest.raises(BzCtrlConfigError, match="'broken'") as caught:
        BzCtrlHook("broken").get_conn()
    assert {name for name, _ in caught.value.errors} == {
        "login",
        "password",
        "extra.environment",
        "extra.timeout_s",
    }


@pytest.mark.security
def test_hook_get_conn_invalid_connection_has_no_secret_in_traceback(monkeypatch):
    """Airflow's connections show their password in their repr, so no frame of the error may hold one."""
    given = {"conn_type": "bzctrl", "login": "user", "password": PASSWORD, "extra": {"timeout_s": "x"}}
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(given))
    with pytest.raises(BzCtrlConfigError) as caught:
        BzCtrlHook("broken").get_conn()
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert frames
    assert all(PASSWORD not in repr(frame.f_locals) for frame in frames)


def test_test_connection_requests_only_a_token(bzctrl):
    """The sentence says who, where, and that nothing was created."""
    works, said = BzCtrlHook().test_connection()
    assert works
    assert "user@example.com" in said
    assert "none was created" in said
    assert [request.url for request in bzctrl.request_history] == [ACC.token_url]


def test_test_connection_failure_has_a_reason_and_no_secret(bzctrl, monkeypatch):
    """A refused login and a faulty connection come back as sentences, not as errors."""
    bzctrl.post(ACC.token_url, status_code=401, text=f"wrong: {PASSWORD}")
    works, said = BzCtrlHook().test_connection()
    assert not works
    assert "Login and Password" in said
    assert PASSWORD not in said
    assert "Check Login and Password of the connection, and" in said
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "bzctrl"}))
    assert BzCtrlHook("broken").test_connection()[0] is False
    works, said = BzCtrlHook("not_there").test_connection()
    assert not works
    assert "AIRFLOW_CONN_NOT_THERE" in said


def test_hook_missing_connection_raises_with_the_remedy(monkeypatch):
    """In a thread and in a coroutine alike: how to create it, and what Airflow passes over in silence."""
    monkeypatch.setenv("AIRFLOW_CONN_NOT_THERE", '{"conn_type": "bzctrl"')
    said = "no connection 'not_there' here.*AIRFLOW_CONN_NOT_THERE is set already, its JSON is broken"
    with pytest.raises(AirflowNotFoundException, match=said):
        BzCtrlHook("not_there").get_conn()
    with pytest.raises(AirflowNotFoundException, match=said):
        asyncio.run(BzCtrlHook("not_there").acreate_todo(title="t"))


def test_acreate_todo_slow_response_leaves_the_loop_free(bzctrl, fields, masked):
    """The request runs in another thread than the event loop, and both secrets are masked."""
    threads = []

    def answer(*_):
        threads.append(threading.get_ident())
        return {"taskLink": LINK}

    bzctrl.post(ACC.create_url, json=answer)

    async def create():
        hook = BzCtrlHook()
        first = await hook.acreate_todo(fields)
        second = await hook.acreate_todo(fields, title="Again")
        return first, second

    first, second = asyncio.run(create())
    assert first.key == second.key == KEY
    assert threading.get_ident() not in threads
    assert PASSWORD in masked


@pytest.mark.security
def test_acreate_todo_each_new_token_is_masked(bzctrl, fields, monkeypatch):
    """Also one that a later call was granted."""
    granted = []
    # Asked before each mask, in the thread of the request and in the event loop.
    monkeypatch.setattr(hook_module, "_is_to_mask", granted.append)
    tokens = iter(["first-token", "second-token"])
    bzctrl.post(ACC.token_url, json=lambda *_: {"access_token": next(tokens), "expires_in": 0})

    async def create():
        hook = BzCtrlHook()
        await hook.acreate_todo(fields)
        auth._sources.clear()
        hook._client = None
        await hook.acreate_todo(fields)

    asyncio.run(create())
    assert granted == ["first-token", "second-token"]


def test_acreate_todo_failure_raises_like_create_todo(bzctrl, fields):
    """The error is the same, and the token is masked all the same."""
    bzctrl.post(ACC.create_url, status_code=400)
    with pytest.raises(BzCtrlRejectedError):
        asyncio.run(BzCtrlHook().acreate_todo(fields))


def test_acreate_todo_without_async_connections_creates_todo(bzctrl, fields, monkeypatch, masked):
    """Before Airflow 3.1 the connection is looked up in a thread, before 3.3 the token is masked locally."""
    monkeypatch.delattr(hook_module.BaseHook, "aget_connection", raising=False)
    with contextlib.suppress(ImportError):
        monkeypatch.delattr("airflow.sdk.log.amask_secret", raising=False)
    assert asyncio.run(BzCtrlHook().acreate_todo(fields)).key == KEY
    assert masked == [PASSWORD, quote_plus(PASSWORD), TOKEN]


def test_hook_form_widgets_match_the_provider_info(monkeypatch):
    """Labels, choices and kinds of field follow the provider info; wtforms is not there in Airflow 3.3."""

    class Field:
        def __init__(self, **kwargs):
            self.__dict__.update(kwargs)

    fields = {name: type(name, (Field,), {}) for name in ("BooleanField", "IntegerField", "StringField")}
    modules = {
        "wtforms": fields,
        "wtforms.validators": {"Optional": lambda: "optional", "any_of": list},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": lambda: "widget"},
        "flask_babel": {"lazy_gettext": str},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)

    form = BzCtrlHook.get_connection_form_widgets()
    assert list(form) == list(hook_module._form()["conn-fields"])
    # Airflow 2.11 and 3.1 drop a hook's whole form where one field is of another kind than these.
    kinds = {name: type(field).__name__ for name, field in form.items()}
    assert kinds == {
        **dict.fromkeys(form, "StringField"),
        **dict.fromkeys(["verify", "allow_http"], "BooleanField"),
        "max_attempts": "IntegerField",
    }
    assert form["environment"].validators == ["optional", ["ACC", "PROD"]]
    assert form["environment"].label == "Environment"
    assert form["reporter"].validators == ["optional"]
    assert form["verify"].default is True


def test_hook_form_behaviour_matches_the_provider_info():
    """The names are those that the hook method of old had."""
    behaviour = BzCtrlHook.get_ui_field_behaviour()
    assert behaviour["relabeling"]["login"] == "API username"
    assert behaviour.keys() == {"hidden_fields", "relabeling", "placeholders"}


@pytest.fixture(autouse=True)
def unmasked(monkeypatch):
    """Let each test begin with a masker that was given no token yet."""
    monkeypatch.setattr(hook_module, "_masked", {})


@pytest.mark.security
def test_create_todo_many_tokens_masker_gets_a_bounded_number(bzctrl, fields, masked):
    """200 tokens of 8,000 characters: Airflow's masker gets what it can take, each token once, and all todos are created."""
    tokens = (f"{number:08}" * 1000 for number in range(200))
    bzctrl.post(ACC.token_url, json=lambda *_: {"access_token": next(tokens)})
    for _ in range(200):
        auth._sources.clear()
        BzCtrlHook().create_todo(fields)
    granted = [secret for secret in masked if len(secret) == 8000]
    assert 1 <= len(granted) == len(set(granted)) <= 64
    assert sum(map(len, granted)) <= 100_000


def test_create_todo_same_token_again_is_masked_once(bzctrl, fields, masked):
    """As from a BzCtrl that grants the same token until it expires."""
    for _ in range(5):
        auth._sources.clear()
        BzCtrlHook().create_todo(fields)
    assert masked.count(TOKEN) == 1


class SlowClient:
    """Creates todos when it is released, and counts how many are being created at a time."""

    def __init__(self):
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.waiting = self.most = self.created = 0
        self.limits_s = []

    def create_todo(self, todo, *, limit_s):
        with self.lock:
            self.limits_s.append(limit_s)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.released.wait(10)
        with self.lock:
            self.waiting -= 1
            self.created += 1
        return todo


@pytest.fixture
def slow_hook():
    """Return a hook whose client is slow, and that client."""
    hook = BzCtrlHook()
    hook._client = SlowClient()
    yield hook, hook._client
    hook._client.released.set()


async def wait_until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in five seconds")


def test_acreate_todo_silent_server_leaves_the_loops_threads_free(slow_hook):
    """40 callbacks occupy four threads of the provider's own, so that others still look up names; all are created in the end."""
    hook, client = slow_hook

    async def create():
        todos = [asyncio.create_task(hook.acreate_todo({})) for _ in range(40)]
        await wait_until(lambda: client.waiting == 4)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 1) == "free"
        client.released.set()
        await asyncio.gather(*todos)

    asyncio.run(create())
    assert (client.most, client.created) == (4, 40)


def test_acreate_todo_cancelled_before_its_turn_creates_nothing(slow_hook):
    """Of ten coroutines that are cancelled, only the four that had begun create a todo."""
    hook, client = slow_hook

    async def create():
        todos = [asyncio.create_task(hook.acreate_todo({})) for _ in range(10)]
        await wait_until(lambda: client.waiting == 4)
        for todo in todos:
            todo.cancel()
        results = await asyncio.gather(*todos, return_exceptions=True)
        client.released.set()
        await wait_until(lambda: client.waiting == 0)
        assert await hook.acreate_todo({}) == {}
        return results

    assert all(isinstance(result, asyncio.CancelledError) for result in asyncio.run(create()))
    assert client.created == 4 + 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_acreate_todo_forked_child_has_threads_of_its_own(slow_hook):
    """An executor of the parent has no threads in the child, where it would wait for ever."""
    hook, client = slow_hook
    client.released.set()
    assert asyncio.run(hook.acreate_todo({"n": 1})) == {"n": 1}
    child = os.fork()
    if child == 0:
        created = asyncio.run(asyncio.wait_for(hook.acreate_todo({"n": 2}), 10))
        os._exit(0 if created == {"n": 2} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_acreate_todo_no_free_thread_in_time_raises_and_creates_nothing(slow_hook):
    """The time until a thread is free counts against the limit; the error says that nothing was sent."""
    hook, client = slow_hook

    async def create():
        todos = [asyncio.create_task(hook.acreate_todo({})) for _ in range(4)]
        await wait_until(lambda: client.waiting == 4)
        with pytest.raises(BzCtrlTransportError, match="was not sent") as caught:
            await hook.acreate_todo({}, limit_s=0.01)
        client.released.set()
        await asyncio.gather(*todos)
        return caught.value

    assert asyncio.run(create()).outcome_unknown is False
    assert client.created == 4


def test_acreate_todo_with_limit_passes_the_remaining_seconds(slow_hook):
    """The client gets what the wait for a thread has left of the limit."""
    hook, client = slow_hook
    client.released.set()
    asyncio.run(hook.acreate_todo({}, limit_s=40))
    asyncio.run(hook.acreate_todo({}))
    limit_s, default = client.limits_s
    assert 30 < limit_s <= 40
    assert default is None


def test_hook_create_todo_limit_is_used_up_sends_nothing(bzctrl, fields):
    """The limit is that of the client's call."""
    with pytest.raises(BzCtrlTransportError, match="the 0 s for this call are used up"):
        BzCtrlHook().create_todo(fields, limit_s=-1)
    assert bzctrl.request_history == []


def test_missing_connection_names_the_secrets_backend_if_there_is_one(monkeypatch):
    """Airflow logs the error of a backend that is down and finds no connection then, so the message says where to look."""
    for backend in ["", "airflow.secrets.local_filesystem.LocalFilesystemBackend"]:
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", backend)
        with pytest.raises(AirflowNotFoundException) as raised:
            BzCtrlHook("absent").get_conn()
        assert ("If the secrets backend failed" in str(raised.value)) is bool(backend)


@pytest.mark.security
def test_hook_with_client_shows_no_secret(monkeypatch):
    """No repr, traceback or pickle contains a secret; a hook with a client cannot be pickled."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_BZCTRL_DEFAULT",
        json.dumps(
            {"conn_type": "bzctrl", "login": "user", "password": PASSWORD, "extra": {"environment": "ACC"}}
        ),
    )
    hook = BzCtrlHook()
    assert PASSWORD.encode() not in pickle.dumps(hook.bzctrl_conn_id)
    client = hook.get_conn()
    assert PASSWORD not in repr(hook) + repr(client) + repr(vars(hook)) + repr(vars(client))
    with pytest.raises(TypeError):
        pickle.dumps(hook)
