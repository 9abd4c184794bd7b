"""What `make docs` has built; run by it, not by `make test`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED_BY = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data"}
LOADED_AS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "modulepreload", "manifest"}


class Loads(HTMLParser):
    """What a browser fetches by itself when it shows a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in LOADED_BY and LOADED_BY[tag] in given:
            self.found.append(given[LOADED_BY[tag]])
        if tag == "link" and LOADED_AS & set((given.get("rel") or "").split()):
            self.found.append(given["href"])


def test_there_is_a_site():
    """With a page for each that the reader is promised."""
    assert {"index.html", "getting-started.html", "contract.html", "architecture.html"} <= {
        page.name for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_a_page_loads_nothing_from_elsewhere(page):
    """It can be read without a network, and tells nobody that it is read."""
    loads = Loads()
    loads.feed(page.read_text())
    assert loads.found
    outside = [address for address in loads.found if re.match(r"(\w+:)?//", address)]
    assert outside == []
    here = [address for address in loads.found if not address.startswith("data:")]
    # The page for unknown addresses is served for any of them, and so counts from the root.
    missing = [
        address
        for address in here
        if not (
            (SITE / address.lstrip("/")) if address.startswith("/") else (page.parent / address)
        ).is_file()
    ]
    assert missing == []


@pytest.mark.parametrize("sheet", sorted(SITE.rglob("*.css")), ids=lambda sheet: sheet.name)
def test_a_style_sheet_loads_nothing_from_elsewhere(sheet):
    """No fonts, no pictures, no further sheets."""
    text = sheet.read_text()
    addresses = re.findall(r"""url\(\s*['"]?([^'")]+)""", text) + re.findall(
        r"@import\s+['\"]([^'\"]+)", text
    )
    assert [address for address in addresses if re.match(r"(\w+:)?//", address)] == []


def test_a_page_of_the_reference_shows_what_the_docstrings_say():
    """Parameters with their types and defaults, and none of the marks that docstrings are written with."""
    text = (SITE / "reference" / "operators.html").read_text()
    assert "how long one todo stands for further failures" in text
    assert "dedup_window" in text
    for page in (SITE / "reference").glob("*.html"):
        shown = re.sub(r"<[^>]+>", "", page.read_text())
        assert not re.search(
            r"(?m)^\s*:(param|return|raises)\b|:(class|meth|func):|``|^::$|&gt;&gt;&gt; ", shown
        ), page
