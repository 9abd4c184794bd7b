from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "bzctrl_provider").rglob("*.py"))

NO_VERBS = {
    "a",
    "all",
    "an",
    "how",
    "its",
    "no",
    "one",
    "still",
    "that",
    "the",
    "there",
    "those",
    "what",
    "whether",
    "why",
}
"""Words at the beginning of a description, not of an instruction."""


def is_imperative(word):
    """Return whether a word may be an imperative verb: "Creates" is none, "Pass" is one."""
    return word.lower() not in NO_VERBS and (not word.endswith("s") or word.endswith("ss"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_docstring_of_class_or_function_begins_with_an_imperative(module):
    """Classes, methods and properties are described by what they do, in the same form."""
    nodes = ast.walk(ast.parse((ROOT / module).read_text()))
    docstrings = {
        node.name: ast.get_docstring(node)
        for node in nodes
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert [
        f"{name}: {text.splitlines()[0]}"
        for name, text in docstrings.items()
        if text and not is_imperative(text.split()[0].strip(".,:;"))
    ] == []
