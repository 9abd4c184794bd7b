from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
APPENDIX = (ROOT / "docs" / "security-tests.md").read_text()
ROWS = [line for line in APPENDIX.splitlines() if line.startswith("| ")]
MARKER = "pytest.mark.security"


def is_marked(node):
    return any(MARKER in ast.unparse(decorator) for decorator in node.decorator_list)


def find_tests():
    """Yield the name of each test function, and whether it or its module has the marker."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        marks = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
        marked = any(mark.startswith("pytestmark = ") and MARKER in mark for mark in marks)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name, marked or is_marked(node)


TESTS = list(find_tests())


def test_appendix_names_only_tests_that_exist_once():
    """Each proof in the appendix is the name of one test, and no other test has the same name."""
    named = set(re.findall(r"`(test_\w+)`", APPENDIX))
    existing = Counter(name for name, _ in TESTS)
    assert {name: existing[name] for name in named} == dict.fromkeys(named, 1)
    assert len(named) > 80


def test_row_has_an_attack_an_outcome_and_its_tests():
    """A row has three cells; the last one has only names of tests."""
    for row in ROWS:
        if not row.startswith(("| attack", "| ---")):
            attack, outcome, proof = row.strip("| ").split(" | ")
            assert attack, row
            assert outcome, row
            assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", proof), row


def test_marked_test_is_in_the_appendix():
    """Each test with the marker `security` is the proof of an attack in the appendix."""
    assert [name for name, marked in TESTS if marked and f"`{name}`" not in APPENDIX] == []


def test_security_file_of_github_links_to_the_page():
    """GitHub shows SECURITY.md to people who want to report a vulnerability."""
    assert "(docs/security.md)" in (ROOT / "SECURITY.md").read_text()
    assert "`SECURITY.md`" in PAGE
    assert "(security-tests.md)" in PAGE
