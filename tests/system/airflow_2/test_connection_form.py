from __future__ import annotations

import json

from playwright.sync_api import expect

from bzctrl_provider.get_provider_info import get_provider_info

FORM = get_provider_info()["connection-types"][0]
PASSWORD = "Dachs im Formular"


def test_connection_form_of_airflow_2_is_saved(webserver, page, pictures):
    """Airflow 2 builds the form from the hook: every field has label, help and placeholder, and its saved value is read again."""
    page.goto(f"{webserver.url}/connection/list/")
    page.goto(f"{webserver.url}/connection/add")
    page.evaluate("() => { $('#conn_type').val('bzctrl').trigger('change'); }")
    for name, described in FORM["conn-fields"].items():
        field = page.locator(f"#extra__bzctrl__{name}")
        expect(field).to_be_visible()
        row = page.get_by_role("row").filter(has=field)
        expect(row).to_contain_text(described["label"])
        expect(row).to_contain_text(described["description"])
        if "boolean" in described["schema"]["type"]:
            expect(field).to_have_attribute("type", "checkbox")
    behaviour = FORM["ui-field-behaviour"]
    for name, placeholder in behaviour["placeholders"].items():
        expect(page.locator(f"#{name}")).to_have_attribute("placeholder", placeholder)
    for label in behaviour["relabeling"].values():
        expect(page.get_by_text(label, exact=True)).to_be_visible()
    for name in behaviour["hidden-fields"]:
        expect(page.locator(f"#{name}")).to_be_hidden()
    expect(page.locator("#password")).to_have_attribute("type", "password")

    page.locator("#conn_id").fill("from_the_form")
    page.locator("#login").fill("user@example.com")
    page.locator("#password").fill(PASSWORD)
    page.locator("#extra__bzctrl__environment").fill("ACC")
    page.locator("#extra__bzctrl__timeout_s").fill("12.5")
    page.set_viewport_size({"width": 1280, "height": 1700})
    page.screenshot(path=pictures / "connection-airflow-2.png")
    page.locator("button[type=submit]").last.click()
    expect(page.get_by_text("from_the_form")).to_be_visible()
    assert PASSWORD not in page.content()

    (kept,) = json.loads(webserver.airflow("connections", "get", "from_the_form", "-o", "json"))
    assert kept["conn_type"] == "bzctrl"
    assert kept["login"] == "user@example.com"
    assert kept["password"] == PASSWORD
    extra = kept["extra_dejson"]
    assert extra["environment"] == "ACC"
    assert float(extra["timeout_s"]) == 12.5


def test_connection_form_of_airflow_2_shows_saved_values(webserver, page):
    """The form has the saved values without the password."""
    connection = {
        "conn_type": "bzctrl",
        "login": "user@example.com",
        "password": PASSWORD,
        "extra": {"environment": "PROD", "assignee": "owner@example.com", "max_attempts": 5},
    }
    webserver.airflow("connections", "add", "to_be_edited", "--conn-json", json.dumps(connection))
    page.goto(f"{webserver.url}/connection/list/?_flt_3_conn_id=to_be_edited")
    page.get_by_role("row").filter(has_text="to_be_edited").locator("a[href*='/connection/edit/']").click()
    expect(page.locator("#login")).to_have_value("user@example.com")
    expect(page.locator("#password")).not_to_have_value(PASSWORD)
    expect(page.locator("#extra__bzctrl__environment")).to_have_value("PROD")
    expect(page.locator("#extra__bzctrl__assignee")).to_have_value("owner@example.com")
    expect(page.locator("#extra__bzctrl__max_attempts")).to_have_value("5")
