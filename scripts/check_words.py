"""Find words that the project does not use in its prose; CONTRIBUTING.md has the list with examples.

In Python files, comments, docstrings and other strings are checked; in the other text files every line. Code in
backticks, fenced code blocks and Jinja expressions are left out.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent

REPLACEMENTS = {
    r"tell|tells|telling|told": "say, show, report",
    r"mend|mends|mended|mending": "fix",
    r"meant": "selected, intended",
    r"stands": "is, is defined",
    r"whoever": "callers, users",
    r"anew": "again",
    r"blot|blots|blotted|blotting": "redact",
    r"alone": "only, by itself",
    r"(?<!something )(?<!anything )(?<!nothing )(?<!everything )(?<!somebody )(?<!somewhere )else": "otherwise, or",
}
"""Rejected words, and what to write in their place."""

_REJECTED = {re.compile(rf"\b(?:{words})\b", re.IGNORECASE): better for words, better in REPLACEMENTS.items()}

_CODE = re.compile(r"```.*?```|``.*?``|`[^`\n]*`|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)

_PROSE_FILES = {".md", ".toml", ".yml", ".yaml", ".html", ".sh", ".txt", ".cfg", ""}

_EXCLUDED = re.compile(r"^(LICENSE|constraints/|benchmarks/constraints\.txt|docs/images/)")


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of a file that people read, each with the number of its first line.

    :param path: the file; its suffix decides how it is read.
    :param text: its content.
    """
    if path.suffix != ".py":
        yield 1, text
        return
    # From Python 3.12 on, the text of an f-string is a token of its own.
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def _without_code(text: str) -> str:
    return _CODE.sub(lambda match: "\n" * match[0].count("\n"), text)


def rejected(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the word and its replacement of each rejected word in a file.

    :param path: the file; its suffix decides how it is read.
    :param text: its content.
    """
    for first_line, part in prose(path, text):
        clean = _without_code(part)
        # In the braces of an f-string is code.
        if path.suffix == ".py" and re.match(r"[rb]?f", part, re.IGNORECASE):
            clean = re.sub(r"\{[^{}]*\}", "", clean)
        for pattern, better in _REJECTED.items():
            for match in pattern.finditer(clean):
                yield first_line + clean.count("\n", 0, match.start()), match[0], better


def tracked_files() -> Iterable[Path]:
    """Return the text files that git tracks and that have prose."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [path for path in listed.stdout.splitlines() if not _EXCLUDED.match(path)]
    return [
        ROOT / path
        for path in paths
        if Path(path).suffix in _PROSE_FILES | {".py"} and (ROOT / path).is_file()
    ]


def main() -> int:
    """Print each rejected word with its place, and return 1 if there is one."""
    found = 0
    for path in tracked_files():
        for line, word, better in rejected(path, path.read_text(encoding="utf-8")):
            found += 1
            print(f"{path.relative_to(ROOT)}:{line}: write {better!r} instead of {word!r}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
