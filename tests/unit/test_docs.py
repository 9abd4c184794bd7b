from __future__ import annotations

import re
from pathlib import Path

import pytest

from bzctrl_provider.config import _Extras
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

FENCED = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")


def prose(page):
    """The text of a page without its code, which may look like a link."""
    return re.sub(r"`[^`\n]+`", "code", FENCED.sub("", page.read_text()))


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [
    (page, match["to"])
    for page in PAGES
    for match in LINK.finditer(prose(page))
    if not match["to"].startswith(("http://", "https://"))
]


@pytest.mark.parametrize(
    ("page", "to"), LINKS, ids=[f"{page.relative_to(ROOT)}-{to}" for page, to in LINKS]
)
def test_a_link_leads_somewhere(page, to):
    """To a file of the repository, and to a heading of it; from docs/ to docs/ alone, or the site would lose it."""
    file, _, anchor = to.partition("#")
    target = (page.parent / file).resolve() if file else page
    assert target.exists()
    if DOCS in page.parents:
        assert DOCS in target.parents
    if anchor:
        assert anchor in anchors(target)


def test_the_pages_that_are_included_have_no_relative_links():
    """CHANGELOG and CONTRIBUTING are pages of the site as well, which lie in another folder."""
    included = {ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"}
    assert [(page.name, to) for page, to in LINKS if page in included and not to.startswith("#")] == []


@pytest.mark.parametrize("example", sorted((ROOT / "dags_examples").glob("*.py")), ids=lambda file: file.name)
def test_an_example_is_part_of_a_page(example):
    """By reference: the page shows the file that the tests run."""
    reference = f'--8<-- "dags_examples/{example.name}"'
    assert sum(page.read_text().count(reference) for page in PAGES) == 1


def first_column(page):
    """What the tables of a page tell about, as `code` in their first column."""
    rows = re.findall(r"^\| ([^|]+) \|", page.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_option_of_a_deployment_is_documented():
    """What Airflow's configuration takes and what the page tells are the same names."""
    assert first_column(DOCS / "how-to" / "deployment.md") == set(
        get_provider_info()["config"]["bzctrl"]["options"]
    )


def test_every_extra_of_the_connection_is_documented():
    """What the connection takes and what the page tells are the same names."""
    assert first_column(DOCS / "connection.md") == set(_Extras.model_fields)


def test_every_field_of_a_todo_is_documented():
    """In the how-to by name, and in the contract with what it takes."""
    page = (DOCS / "how-to" / "create-todo.md").read_text()
    the_fields = page.partition("## The fields")[2].partition("##")[0]
    assert set(TODO_FIELDS) <= set(re.findall(r"`(\w+)`", the_fields))
    the_todo = (DOCS / "contract.md").read_text().partition("## The todo")[2].partition("\n## ")[0]
    assert set(TODO_FIELDS) <= set(re.findall(r"`(\w+)`", the_todo))


def test_every_target_of_make_is_in_contributing():
    """A maintainer finds each of them, and none that is not there."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    named = set(re.findall(r"^\| `make (\w+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    # These two come with the folders that they are about.
    to_come = {
        target
        for target, folder in {"bench": "benchmarks", "system": "tests/system"}.items()
        if not (ROOT / folder).exists()
    }
    assert named - to_come == targets - to_come
