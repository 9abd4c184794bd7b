"""The site that `make docs` has built; `make docs` runs this file, `make test` does not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bzctrl_provider.operators.bzctrl import CreateTodoOperator

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED_BY = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data"}
LOADED_AS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "modulepreload", "manifest"}


class Loads(HTMLParser):
    """The URLs that a browser fetches when it shows a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in LOADED_BY and LOADED_BY[tag] in given:
            self.found.append(given[LOADED_BY[tag]])
        if tag == "link" and LOADED_AS & set((given.get("rel") or "").split()):
            self.found.append(given["href"])


def test_site_has_the_main_pages():
    """The start page links to these pages."""
    assert {"index.html", "getting-started.html", "contract.html", "architecture.html"} <= {
        page.name for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_page_loads_nothing_from_other_hosts(page):
    """A page needs no network, and no other host learns of its reader."""
    loads = Loads()
    loads.feed(page.read_text())
    assert loads.found
    outside = [address for address in loads.found if re.match(r"(\w+:)?//", address)]
    assert outside == []
    here = [address for address in loads.found if not address.startswith("data:")]
    # The page for unknown addresses is served at any address, so its links begin at the root.
    missing = [
        address
        for address in here
        if not (
            (SITE / address.lstrip("/")) if address.startswith("/") else (page.parent / address)
        ).is_file()
    ]
    assert missing == []


@pytest.mark.parametrize("sheet", sorted(SITE.rglob("*.css")), ids=lambda sheet: sheet.name)
def test_style_sheet_loads_nothing_from_other_hosts(sheet):
    """A style sheet loads no fonts, pictures or further sheets from other hosts."""
    text = sheet.read_text()
    addresses = re.findall(r"""url\(\s*['"]?([^'")]+)""", text) + re.findall(
        r"@import\s+['\"]([^'\"]+)", text
    )
    assert [address for address in addresses if re.match(r"(\w+:)?//", address)] == []


def test_reference_shows_the_docstrings():
    """A page has the parameters with their types and defaults, and no markup of the docstrings."""
    text = (SITE / "reference" / "operators.html").read_text()
    described = re.search(r":param dedup_window: ([\w ]+)", CreateTodoOperator.__doc__)[1]
    assert described in text
    assert "dedup_window" in text
    for page in (SITE / "reference").glob("*.html"):
        shown = re.sub(r"<[^>]+>", "", page.read_text())
        assert not re.search(
            r"(?m)^\s*:(param|return|raises)\b|:(class|meth|func):|``|^::$|&gt;&gt;&gt; ", shown
        ), page
