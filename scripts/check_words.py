"""Find words and sentences that the project does not use in its prose; CONTRIBUTING.md has the rule with examples.

In Python files, names, comments, docstrings and other strings are checked; in the other text files every line. Code
in backticks, fenced blocks, Jinja expressions and the targets of links are left out; Python in a fenced block is
checked as a Python file is.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import subprocess
import sys
import textwrap
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

REPLACEMENTS = {
    r"tell|tells|telling|told": "say, show, report",
    r"mend|mends|mended|mending": "fix",
    r"meant": "selected, intended",
    r"stand(?!-ins?\b|_in_?)|stands|stood": "is, is defined, follow",
    r"whoever": "callers, users",
    r"anew": "again",
    r"blot|blots|blotted|blotting": "redact",
    r"alone": "only, by itself",
    r"else": "otherwise, or",
}
"""Rejected words as patterns, each with the words to use in their place."""

_REJECTED = {re.compile(rf"\b(?:{words})\b", re.IGNORECASE): better for words, better in REPLACEMENTS.items()}

_NAME_PART = re.compile(rf"(?<!thing)(?:^|_)({'|'.join(REPLACEMENTS)})(?=_|$)", re.IGNORECASE)

_LITERAL = re.compile(r"""(?P<prefix>\w*)(?P<quote>'{3}|"{3}|'|")(?P<text>.*)(?P=quote)""", re.DOTALL)

_SOMETHING_ELSE = re.compile(r"\b((?:some|any|no|every)(?:thing|body|one|where)\s+)else\b", re.IGNORECASE)
"""The one use of the word that stays."""

_CLAUSE_AS_SUBJECT = re.compile(
    r"(?:\A|\n\s*\n|\n\s*(?:[-*]|\d+\.)\s+|[.!?]\s+)"
    r"((?:What|Whatever)\s(?:(?!\n\s*\n)[^.!?]|[.!?](?!\s|$))*[.!])(?=\s|$)"
)
"""A sentence that begins with a clause; a question ends with its own mark, and a heading with none."""

_FENCED = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\w*).*?\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)

_CODE = re.compile(
    r"``.+?``|`[^`\n]*`"
    r"|\{\{.*?\}\}|\{%.*?%\}"
    r"|\]\([^)\s]*\)"
    r"|<script.*?</script>|<style.*?</style>",
    re.DOTALL,
)

_SHELL_KEYWORD = re.compile(r"(?:^|;)\s*else\b", re.MULTILINE)

_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".html", ".sh", ".txt", ".cfg", ""}

_EXCLUDED = re.compile(
    r"^(LICENSE|constraints/|benchmarks/constraints\.txt|docs/images/|scripts/check_words\.py|tests/unit/test_words\.py)"
)
"""Texts of others, and the two files that have the rejected words as their data."""


class Finding(NamedTuple):
    """A rejected word or sentence: where it is, and what to write in its place."""

    line: int
    found: str
    better: str


def _blank(match: re.Match[str]) -> str:
    """Replace code by its line breaks, so that the lines after it keep their numbers."""
    return "\n" * match[0].count("\n")


def _check_text(first_line: int, text: str) -> Iterator[Finding]:
    text = _SOMETHING_ELSE.sub(r"\1", _CODE.sub(_blank, text))
    for pattern, better in _REJECTED.items():
        for match in pattern.finditer(text):
            yield Finding(first_line + text.count("\n", 0, match.start()), match[0], better)
    for match in _CLAUSE_AS_SUBJECT.finditer(text):
        sentence = " ".join(match[1].split())
        yield Finding(first_line + text.count("\n", 0, match.start(1)), sentence, "a noun as the subject")


def _without_expressions(text: str) -> str:
    """Remove the expressions of an f-string, innermost first."""
    changes = 1
    while changes:
        text, changes = re.subn(r"\{[^{}]*\}", "", text)
    return text


def _content(token: tokenize.TokenInfo) -> str:
    """Return the text of a comment or a string, without its number sign or quotes."""
    if token.type == tokenize.COMMENT:
        return token.string.removeprefix("#").strip()
    literal = _LITERAL.fullmatch(token.string)
    if literal is None:  # a part of an f-string, from Python 3.12 on
        return token.string
    return _without_expressions(literal["text"]) if "f" in literal["prefix"].lower() else literal["text"]


def _python_texts(text: str) -> Iterator[tuple[int, str]]:
    """Yield each comment and string with the number of its first line; comments of adjacent lines are one text."""
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    comment: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_comment = token.type == tokenize.COMMENT
        if comment and token.type != tokenize.NL and not (is_comment and token.line.lstrip().startswith("#")):
            yield comment[0].start[0], "\n".join(map(_content, comment))
            comment = []
        if is_comment:
            comment.append(token)
        elif token.type in strings:
            yield token.start[0], _content(token)


def _check_names(text: str) -> Iterator[Finding]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            for match in _NAME_PART.finditer(token.string):
                better = next(better for pattern, better in _REJECTED.items() if pattern.fullmatch(match[1]))
                yield Finding(token.start[0], token.string, better)


def _is_code(text: str) -> bool:
    """Return whether a string is a Python program, such as one that a test runs in another process."""
    try:
        statements = ast.parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements)


def _check_python(text: str) -> Iterator[Finding]:
    for line, part in _python_texts(text):
        if not _is_code(part):
            yield from _check_text(line, part)
            continue
        for finding in _check_python(textwrap.dedent(part)):
            yield finding._replace(line=line + finding.line - 1)
    yield from _check_names(text)


def _check_page(text: str) -> Iterator[Finding]:
    for block in _FENCED.finditer(text):
        if block["language"] == "python":
            first_line = text.count("\n", 0, block.start("code"))
            for finding in _check_python(block["code"]):
                yield finding._replace(line=first_line + finding.line)
    yield from _check_text(1, _FENCED.sub(_blank, text))


def check(path: Path, text: str) -> list[Finding]:
    """Return the rejected words and sentences of a file, in the order of its lines.

    :param path: the file; its suffix decides how it is read.
    :param text: its content.
    """
    if path.suffix == ".py":
        found = _check_python(text)
    elif path.suffix == ".md":
        found = _check_page(text)
    else:
        found = _check_text(1, _SHELL_KEYWORD.sub(_blank, text))
    return sorted(found)


def tracked_files() -> list[Path]:
    """Return the text files that git tracks and that have prose."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [
        ROOT / path
        for path in listed.stdout.splitlines()
        if Path(path).suffix in _SUFFIXES and not _EXCLUDED.match(path) and (ROOT / path).is_file()
    ]


def main() -> int:
    """Print each finding with its place, and return 1 if there is one."""
    found = 0
    for path in tracked_files():
        for finding in check(path, path.read_text(encoding="utf-8")):
            found += 1
            print(
                f"{path.relative_to(ROOT)}:{finding.line}: write {finding.better!r} instead of {finding.found!r}"
            )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
