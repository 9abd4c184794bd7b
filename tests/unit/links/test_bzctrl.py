from __future__ import annotations

from types import SimpleNamespace

import pytest

from bzctrl_provider.links import bzctrl as link_module
from bzctrl_provider.links.bzctrl import BzCtrlIncidentLink, BzCtrlTodoLink


@pytest.mark.parametrize(
    ("pushed", "shown"), [("https://bzctrl.example.com/x", "https://bzctrl.example.com/x"), (None, "")]
)
def test_the_link_reads_what_the_operator_pushed(monkeypatch, pushed, shown):
    """Where nothing was pushed, the button has no address, and nothing is raised."""
    asked = []
    xcom = SimpleNamespace(get_value=lambda **kwargs: asked.append(kwargs) or pushed)
    monkeypatch.setattr(link_module, "XCom", xcom)
    assert BzCtrlTodoLink().get_link(None, ti_key="the key") == shown
    assert asked == [{"key": "bzctrl_todo_link", "ti_key": "the key"}]


@pytest.mark.parametrize("known", ["https://bzctrl.example.com/x", ""])
def test_an_operator_that_has_run_is_asked_itself(monkeypatch, known):
    """In the worker no XCom is looked up, which Airflow would report as an error where there is none."""
    monkeypatch.setattr(link_module, "XCom", None)
    assert BzCtrlTodoLink().get_link(SimpleNamespace(todo_link=known), ti_key="the key") == known


def test_the_button_has_its_promised_name():
    """Users look for it by this name."""
    assert BzCtrlTodoLink().name == "BzCtrl todo"


@pytest.mark.parametrize(
    ("pushed", "shown"),
    [
        ("https://bzctrl.example.com/x", "https://bzctrl.example.com/x"),
        ("javascript:alert(1)", ""),
        (None, ""),
    ],
)
def test_incident_link_reads_what_the_callback_pushed(monkeypatch, pushed, shown):
    """Any task may write XComs, so only a web address is shown."""
    monkeypatch.setattr("bzctrl_provider._airflow_internals.read_link", lambda *_: pushed)
    assert BzCtrlIncidentLink().get_link(None, ti_key="the key") == shown


def test_incident_link_with_a_failing_look_up_is_empty(caplog):
    """The page of the task is shown without it; here, Airflow has no database."""
    assert BzCtrlIncidentLink().get_link(None, ti_key="no key") == ""
    assert "The link to the incident cannot be read" in caplog.text
