from __future__ import annotations

from types import SimpleNamespace

import pytest
from support import hostile
from support.airflow_versions import VERSION

from bzctrl_provider.links import bzctrl as link_module
from bzctrl_provider.links.bzctrl import (
    LINKS_OF_TODOS,
    BzCtrlFurtherTodoLink,
    BzCtrlIncidentLink,
    BzCtrlTodoLink,
)


def test_get_link_of_a_run_task_reads_the_xcom(monkeypatch):
    """Where nothing was pushed, the button has no address, and nothing is raised; users look for it by its name."""
    asked, pushed = [], iter(["https://bzctrl.example.com/x", None])
    xcom = SimpleNamespace(get_value=lambda **kwargs: asked.append(kwargs) or next(pushed))
    monkeypatch.setattr(link_module, "XCom", xcom)
    shown = [BzCtrlTodoLink().get_link(None, ti_key="the key") for _ in range(2)]
    assert shown == ["https://bzctrl.example.com/x", ""]
    assert asked == [{"key": "bzctrl_todo_link", "ti_key": "the key"}] * 2
    assert BzCtrlTodoLink().name == "BzCtrl todo"


def test_get_link_operator_that_has_run_has_the_link(monkeypatch):
    """In the worker no XCom is looked up, which Airflow would report as an error where there is none."""
    monkeypatch.setattr(link_module, "XCom", None)
    for known in ("https://bzctrl.example.com/x", ""):
        assert BzCtrlTodoLink().get_link(SimpleNamespace(todo_link=known), ti_key="the key") == known


def test_incident_link_in_the_worker_has_no_address():
    """Its callback runs after Airflow asked for the links; no XCom is looked up before."""
    assert BzCtrlIncidentLink().get_link(SimpleNamespace(), ti_key="the key") == ""
    assert BzCtrlIncidentLink().xcom_key == "bzctrl_todo_link"


@pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 has one link")
def test_links_of_todos_have_names_that_airflow_sorts():
    """The first has the name of the only link of other operators, and each has an XCom of its own."""
    names = [link.name for link in LINKS_OF_TODOS]
    assert names == sorted(names) == ["BzCtrl todo", *(f"BzCtrl todo {n:02}" for n in range(2, 11))]
    assert len({link.xcom_key for link in LINKS_OF_TODOS}) == 10


def test_link_of_a_further_todo_is_that_of_the_operator():
    """Only a web address is shown, and nothing if there are fewer todos."""
    first, second = "https://b.example.com/1", "https://b.example.com/2"
    for known, shown in [((first, second), second), ((first,), ""), ((first, "javascript:alert(1)"), "")]:
        operator = SimpleNamespace(todo_links=known)
        assert BzCtrlFurtherTodoLink(2).get_link(operator, ti_key="the key") == shown


@pytest.mark.security
def test_get_link_hostile_xcom_is_no_link(monkeypatch):
    """Airflow 2.11 reads an XCom that any code of the task may have pushed, 3.x asks the operator."""
    for link in hostile.LINKS:
        monkeypatch.setattr(link_module, "XCom", SimpleNamespace(get_value=lambda _link=link, **_: _link))
        for operator in (None, SimpleNamespace(todo_link=link)):
            assert BzCtrlTodoLink().get_link(operator, ti_key="the key") == ""
