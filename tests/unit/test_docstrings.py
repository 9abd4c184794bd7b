from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "bzctrl_provider"

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


def test_docstring_of_a_function_begins_with_an_imperative():
    """Functions, methods and properties are described by what they do, in the same form."""
    functions = [
        (path, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 500
    assert [
        f"{path}, {node.name}: {text.splitlines()[0]}"
        for path, node in functions
        if (text := ast.get_docstring(node)) and not is_imperative(text.split()[0].strip(".,:;"))
    ] == []
