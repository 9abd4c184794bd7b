from __future__ import annotations

from pathlib import Path

from check_words import check, tracked_files

CODE = Path("module.py")
PAGE = Path("page.md")


REJECTED = [
    (CODE, '"""Return what it was told."""', [(1, "told")]),
    (CODE, "x = 1  # a line of its own,\ny = 2\n# stands here\n", [(3, "stands")]),
    (PAGE, "No task can stand behind it.", [(1, "stand")]),
    (CODE, '"""One.\n\n:param x: two alone\n"""\n', [(3, "alone")]),
    (CODE, 'print(f"Please mend {name}")', [(1, "mend")]),
    (CODE, "was_told = TELLS_ALL = 1", [(1, "TELLS_ALL"), (1, "was_told")]),
    (CODE, "# A comment of two lines, of which the second\n# begins anew.", [(2, "anew")]),
    (PAGE, "| a | b |\n| --- | --- |\n| `c` | or else |\n", [(3, "else")]),
    (PAGE, "Text.\n\n```python\n# blot it out\n```\n", [(4, "blot")]),
    (PAGE, "Whoever reads it,\nis meant.", [(1, "Whoever"), (2, "meant")]),
    (Path("a.yml"), "name: Mended by hand", [(1, "Mended")]),
    (Path("Makefile"), "target: ## Unit tests alone", [(1, "alone")]),
    (Path("a.html"), "<p>Tell {{ name }}</p>", [(1, "Tell")]),
]
ACCEPTED = [
    (CODE, "if x:\n    pass\nelse:\n    pass\n"),
    (CODE, 'print(f"{told}: {x if y else {}}")'.replace("told", "name")),
    (CODE, '"""Something else, and everything\nelse, is fine."""'),
    (CODE, '"""Write `told_by` and ``else`` as code."""'),
    (CODE, 'SCRIPT = """\nimport sys\nprint(1 if sys.argv else 2)\n"""'),
    (PAGE, "A stand-in, and stand-ins.\n"),
    (PAGE, "Not `told`, see [the page](whoever.md).\n\n```bash\nif a; then b; else c; fi\n```\n"),
    (Path("a.html"), "{% if a %}x{% else %}y{% endif %}<script>if (a) {} else {}</script>"),
    (Path("a.sh"), "if a; then\n  b\nelse\n  c\nfi\n"),
]
CLAUSES = [
    ("# Title\n\nWhat was sent is\nkept. The rest is not.", ["What was sent is kept."]),
    ("It is sent. What follows is code.", ["What follows is code."]),
    ("## What is retried\n\nWhat is retried? Three errors.", []),
    ("| what | where |\n| --- | --- |\n| What it costs | a table |", []),
]


def test_check_rejected_word_is_found_with_its_line():
    """Comments, strings, names, pages and other files are checked."""
    for path, text, found in REJECTED:
        assert sorted((finding.line, finding.found) for finding in check(path, text)) == found, text


def test_check_code_is_accepted():
    """Keywords, code in backticks, links and fenced commands are no prose."""
    assert [text for path, text in ACCEPTED if check(path, text)] == []


def test_check_clause_as_subject_is_found():
    """A sentence that begins with a clause is rejected; a heading, a table's cell and a question are not."""
    for text, found in CLAUSES:
        assert [finding.found for finding in check(PAGE, text)] == found, text


def test_tracked_files_include_code_pages_and_configuration():
    """Each kind of file is checked, and the texts of others are not."""
    names = {path.name for path in tracked_files()}
    assert {"README.md", "Makefile", "pyproject.toml", "tests.yml"} <= names
    assert names.isdisjoint({"LICENSE", "check_words.py"})
