from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in PAGE.partition("## Attacks")[2].splitlines() if line.startswith("| ")]


def names_in(*patterns):
    """Return the names of the test functions in some files."""
    return [
        node.name
        for pattern in patterns
        for path in (ROOT / "tests").rglob(pattern)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_each_test_that_the_page_names_exists_once():
    """A renamed test would leave an attack without its proof, and two of a name would hide which is meant."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    existing = Counter(names_in("test_*.py"))
    assert {name: existing[name] for name in named} == dict.fromkeys(named, 1)
    assert len(named) > 80


@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith(("| attack", "| ---"))])
def test_each_attack_has_an_outcome_and_a_proof(row):
    """Three cells, the last of tests alone."""
    attack, outcome, proof = row.strip("| ").split(" | ")
    assert attack
    assert outcome
    assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", proof)


def test_each_test_of_an_attack_is_on_the_page():
    """Whoever adds one adds its outcome to the table."""
    attacks = names_in("test_hostile_*.py", "test_untrusted.py")
    assert [name for name in attacks if f"`{name}`" not in PAGE] == []


def test_github_is_led_to_the_page():
    """SECURITY.md is where people who found something look first."""
    assert "(docs/security.md)" in (ROOT / "SECURITY.md").read_text()
    assert "`SECURITY.md`" in PAGE
