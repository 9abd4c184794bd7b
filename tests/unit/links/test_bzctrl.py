from __future__ import annotations

from types import SimpleNamespace

import pytest
from support import hostile
from support.airflow_versions import VERSION

from bzctrl_provider.links import bzctrl as link_module
from bzctrl_provider.links.bzctrl import (
    BzCtrlFurtherTodoLink,
    BzCtrlIncidentLink,
    BzCtrlTodoLink,
    get_links_of_todos,
)


@pytest.mark.parametrize(
    ("pushed", "shown"), [("https://bzctrl.example.com/x", "https://bzctrl.example.com/x"), (None, "")]
)
def test_get_link_of_a_run_task_reads_the_xcom(monkeypatch, pushed, shown):
    """Where nothing was pushed, the button has no address, and nothing is raised."""
    asked = []
    xcom = SimpleNamespace(get_value=lambda **kwargs: asked.append(kwargs) or pushed)
    monkeypatch.setattr(link_module, "XCom", xcom)
    assert BzCtrlTodoLink().get_link(None, ti_key="the key") == shown
    assert asked == [{"key": "bzctrl_todo_link", "ti_key": "the key"}]


@pytest.mark.parametrize("known", ["https://bzctrl.example.com/x", ""])
def test_get_link_operator_that_has_run_has_the_link(monkeypatch, known):
    """In the worker no XCom is looked up, which Airflow would report as an error where there is none."""
    monkeypatch.setattr(link_module, "XCom", None)
    assert BzCtrlTodoLink().get_link(SimpleNamespace(todo_link=known), ti_key="the key") == known


def test_link_name_is_as_promised():
    """Users look for it by this name."""
    assert BzCtrlTodoLink().name == "BzCtrl todo"


def test_incident_link_in_the_worker_has_no_address():
    """Its callback runs after Airflow asked for the links; no XCom is looked up before."""
    assert BzCtrlIncidentLink().get_link(SimpleNamespace(), ti_key="the key") == ""
    assert BzCtrlIncidentLink().xcom_key == "bzctrl_todo_link"


@pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 has one link")
def test_links_of_todos_have_names_that_airflow_sorts():
    """The first has the name of the only link of other operators, and each has an XCom of its own."""
    links = get_links_of_todos(10)
    names = [link.name for link in links]
    assert names == sorted(names) == ["BzCtrl todo", *(f"BzCtrl todo {n:02}" for n in range(2, 11))]
    assert len({link.xcom_key for link in links}) == 10


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        (("https://b.example.com/1", "https://b.example.com/2"), "https://b.example.com/2"),
        (("https://b.example.com/1",), ""),
        (("https://b.example.com/1", "javascript:alert(1)"), ""),
    ],
)
def test_link_of_a_further_todo_is_that_of_the_operator(known, shown):
    """Only a web address is shown, and nothing if there are fewer todos."""
    operator = SimpleNamespace(todo_links=known)
    assert BzCtrlFurtherTodoLink(2).get_link(operator, ti_key="the key") == shown


@pytest.mark.security
@pytest.mark.parametrize("link", hostile.LINKS, ids=lambda link: f"{link!r:.20}")
def test_get_link_hostile_xcom_is_no_link(monkeypatch, link):
    """Airflow 2.11 reads an XCom that any code of the task may have pushed, 3.x asks the operator."""
    monkeypatch.setattr(link_module, "XCom", SimpleNamespace(get_value=lambda **_: link))
    assert BzCtrlTodoLink().get_link(None, ti_key="the key") == ""
    known = SimpleNamespace(todo_link=link)
    assert BzCtrlTodoLink().get_link(known, ti_key="the key") == ""
