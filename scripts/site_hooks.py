"""Complete pages of the documentation while MkDocs builds the site.

The Markdown files read whole on a code host, without these hooks: a page of the reference lists names with a sentence each,
and two pages link to files of the repository. The site has the docstrings and the text of the files instead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

FILES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""The pages that are a file of the repository."""

HINT = "The docstrings have the parameters, the results and the errors. The site, which `make docs` builds, shows them here.\n\n"
"""In each page of the reference; not in the site."""

NAME = re.compile(r"^\* `(?P<name>[\w.]+)`: [^\n]*?(?: <!-- (?P<options>.*) -->)?$", re.MULTILINE)
"""An item of the reference: a name, a sentence, and options of mkdocstrings."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page as the site has it. MkDocs calls this."""
    address = page.file.src_uri
    if address in FILES:
        return (ROOT / FILES[address]).read_text()
    return NAME.sub(_directive, markdown.replace(HINT, "")) if address.startswith("reference/") else markdown


def _directive(item: re.Match[str]) -> str:
    options = (
        "".join(f"      {option}\n" for option in item["options"].split("; ")) if item["options"] else ""
    )
    return f"\n::: {item['name']}\n" + (f"    options:\n{options}" if options else "")
