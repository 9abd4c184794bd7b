from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from local_airflow import README_DAG_ID
from playwright.sync_api import expect

from bzctrl_provider.get_provider_info import get_provider_info

FORM = get_provider_info()["connection-types"][0]
STANDARD_FIELDS = {"description", "host", "login", "password", "port", "schema", "extra"}
PASSWORD = "Dachs im Formular"


@pytest.fixture(scope="module")
def failed_run(cluster, bzctrl):
    """Run the first code of README.md, and return the run's id and the todo."""
    bzctrl.reset()
    run_id, state = cluster.run(README_DAG_ID)
    assert state == "failed"
    # The DAG has a schedule, too.
    (todo,) = [todo for todo in bzctrl.todos if todo["orderID"] == run_id]
    return run_id, todo


def field(dialog, name):
    """Return the part of the form for a field of the provider info."""
    label = FORM["conn-fields"][name]["label"]
    return dialog.get_by_role("group").filter(has=dialog.page.get_by_text(label, exact=True)).last


def choose(page, group, option):
    group.get_by_role("combobox").click()
    page.get_by_role("option", name=option, exact=True).click()


def test_connection_form_filled_in_is_saved(cluster, page, pictures):
    """The form has every field of the provider info with label, help, type and placeholder; the saved values are read again."""
    page.goto(f"{cluster.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Connection ID").fill("from_the_form")
    dialog.get_by_role("combobox", name="Connection Type").click()
    page.get_by_role("option", name=FORM["hook-name"], exact=True).click()

    behaviour = FORM["ui-field-behaviour"]
    standard = dialog.locator("[name]:not([name^=element_])").evaluate_all("them => them.map(it => it.name)")
    assert set(standard) == {"connection_id", *STANDARD_FIELDS} - set(behaviour["hidden-fields"])
    for name, placeholder in behaviour["placeholders"].items():
        expect(dialog.locator(f"[name={name}]")).to_have_attribute("placeholder", placeholder)
    for label in behaviour["relabeling"].values():
        expect(dialog.get_by_text(label, exact=True)).to_be_visible()
    expect(dialog.locator("[name=password]")).to_have_attribute("type", "password")
    dialog.locator("[name=login]").fill("user@example.com")
    dialog.locator("[name=password]").fill(PASSWORD)
    # The form requires no field of the provider but the credentials.
    expect(dialog.locator("[required]")).to_have_count(1)
    page.screenshot(path=pictures / "connection.png")

    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, described in FORM["conn-fields"].items():
        group = field(dialog, name)
        expect(group).to_be_visible()
        expect(group).to_contain_text(described["description"])
        if choices := described["schema"].get("enum"):
            group.get_by_role("combobox").click()
            for choice in choices:
                expect(page.get_by_role("option", name=choice, exact=True)).to_be_visible()
            page.get_by_role("option", name=choices[0], exact=True).click()
        elif "boolean" in described["schema"]["type"]:
            checked = expect(group.get_by_role("checkbox"))
            checked.to_be_checked(checked=described["schema"]["default"])
        elif {"number", "integer"} & set(described["schema"]["type"]):
            expect(group.get_by_role("spinbutton")).to_be_visible()
    field(dialog, "domain_workspace").get_by_role("textbox").fill("EXA-CON-BUS-WOR")
    field(dialog, "timeout_s").get_by_role("spinbutton").fill("12.5")
    page.set_viewport_size({"width": 1280, "height": 1700})
    page.screenshot(path=pictures / "connection-extra.png")
    page.set_viewport_size({"width": 1280, "height": 900})

    with page.expect_response(lambda answer: answer.request.method == "POST") as saved:
        dialog.get_by_role("button", name="Save").click()
    assert saved.value.status == 201
    kept = cluster.api("GET", "/connections/from_the_form")
    assert kept["conn_type"] == "bzctrl"
    assert kept["login"] == "user@example.com"
    assert PASSWORD not in str(kept)
    for part in ('"environment": "ACC"', '"domain_workspace": "EXA-CON-BUS-WOR"', '"timeout_s": 12.5'):
        assert part in kept["extra"]


def test_connection_form_of_a_saved_connection_shows_its_values(cluster, page):
    """The form has the saved values without the password, which an edit of another field does not change."""
    cluster.api(
        "POST",
        "/connections",
        json={
            "connection_id": "to_be_edited",
            "conn_type": "bzctrl",
            "login": "user@example.com",
            "password": PASSWORD,
            "extra": '{"environment": "PROD", "assignee": "owner@example.com", "max_attempts": 5, "verify": false}',
        },
    )
    page.goto(f"{cluster.url}/connections?name_pattern=to_be_edited")
    page.get_by_role("row").filter(has_text="to_be_edited").get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[name=login]")).to_have_value("user@example.com")
    expect(dialog.locator("[name=password]")).not_to_have_value(PASSWORD)
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    expect(field(dialog, "environment")).to_contain_text("PROD")
    expect(field(dialog, "assignee").get_by_role("textbox")).to_have_value("owner@example.com")
    expect(field(dialog, "max_attempts").get_by_role("spinbutton")).to_have_value("5")
    expect(field(dialog, "verify").get_by_role("checkbox")).not_to_be_checked()

    choose(page, field(dialog, "environment"), "ACC")
    with page.expect_response(lambda response: response.request.method == "PATCH") as saved:
        dialog.get_by_role("button", name="Save").click()
    assert saved.value.status == 200
    assert '"environment": "ACC"' in cluster.api("GET", "/connections/to_be_edited")["extra"]
    # The only output with a password, for the administrator of the machine.
    exported = cluster.airflow("connections", "get", "to_be_edited", "-o", "json")
    assert PASSWORD in exported


def test_link_of_a_task_opens_its_todo(cluster, bzctrl, page, failed_run, pictures):
    """The button "BzCtrl todo" among the details of the task leads to the todo's page in BzCtrl."""
    run_id, todo = failed_run
    page.set_viewport_size({"width": 1180, "height": 640})
    page.goto(f"{cluster.url}/dags/{README_DAG_ID}/runs/{quote(run_id)}/tasks/raise_incident/details")
    link = page.get_by_role("link", name="BzCtrl todo")
    expect(link).to_be_visible()
    expect(page.get_by_role("heading", name="raise_incident")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="State").get_by_text("success")).to_be_visible()
    expect(page.locator(f"[data-testid='grid-{run_id}-publish'] svg")).to_be_visible()
    page.screenshot(path=pictures / "failed-run.png")
    with page.context.expect_page() as opened:
        link.click()
    incident = opened.value
    incident.set_viewport_size({"width": 1180, "height": 860})
    expect(incident.get_by_role("heading", name=todo["title"])).to_be_visible()
    expect(incident.get_by_text(todo["key"]).first).to_be_visible()
    assert incident.url == todo["taskLink"]
    incident.screenshot(path=pictures / "incident.png")


def test_links_of_several_todos_are_one_button_each(cluster, bzctrl, page):
    """A task that created two todos has two buttons; a task that can have none has no heading for links."""
    bzctrl.reset()
    run_id, state = cluster.run("todos_from_a_function")
    assert state == "success"
    assert len(bzctrl.todos) == 2
    task = f"{cluster.url}/dags/todos_from_a_function/runs/{quote(run_id)}/tasks"
    page.goto(f"{task}/remind_customers/details")
    buttons = page.get_by_role("link", name=re.compile("^BzCtrl todo"))
    expect(buttons).to_have_text(["BzCtrl todo", "BzCtrl todo 02"])
    hrefs = [button.get_attribute("href") for button in buttons.all()]
    assert sorted(hrefs) == sorted(todo["taskLink"] for todo in bzctrl.todos)
    expect(page.get_by_text("Extra Links")).to_be_visible()
    failed_id, _ = cluster.run("sea_ports_quality")
    page.goto(f"{cluster.url}/dags/sea_ports_quality/runs/{quote(failed_id)}/tasks/load/details")
    expect(page.get_by_role("heading", name="load")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="State").get_by_text("success")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("Extra Links")).to_have_count(0)


def test_link_of_a_mapped_task_instance_opens_its_own_todo(cluster, bzctrl, page):
    """The second instance has the link of the second todo."""
    run_id, state = cluster.run("mapped")
    assert state == "success"
    (second,) = [todo for todo in bzctrl.todos if todo["title"] == "Second"]
    page.goto(f"{cluster.url}/dags/mapped/runs/{quote(run_id)}/tasks/create/mapped/1/details")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="BzCtrl todo").click()
    expect(opened.value.get_by_role("heading", name="Second")).to_be_visible()
    assert opened.value.url == second["taskLink"]


def test_rendered_templates_show_the_sent_fields(cluster, page, pictures):
    """The page has the rendered fields, and no secret."""
    run_id, _ = cluster.run("sea_ports_quality")
    page.goto(
        f"{cluster.url}/dags/sea_ports_quality/runs/{quote(run_id)}/tasks/raise_incident/rendered_templates"
    )
    sent = {
        "title": "6 ports cannot be booked",
        "financial_impact": "7500",
        "bzctrl_conn_id": "bzctrl_default",
    }
    for name, text in sent.items():
        row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
        expect(row).to_contain_text(text)
    page.screenshot(path=pictures / "rendered-templates.png")
    assert not re.search("Bearer|password", page.locator("main, table").first.inner_text())
