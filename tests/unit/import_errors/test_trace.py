from __future__ import annotations

import pytest

from bzctrl_provider.import_errors.reporter import find_line

START = "Traceback (most recent call last):\n"
IN_FILE = '  File "/dags/customs.py", line 3, in <module>\n    import pandas\n'
IN_LIBRARY = (
    '  File "/usr/lib/python3.12/site-packages/pandas/core.py", line 99, in read\n    raise KeyError\n'
)
FROZEN = '  File "<frozen importlib._bootstrap>", line 241, in _call_with_frames_removed\n'
SYNTAX = '  File "/dags/broken.py", line 2\n    if True\n           ^\n'
CHAINED = f"{START}{IN_FILE}KeyError: 1\n\nDuring handling of the above exception, another one occurred:\n\n"


@pytest.mark.parametrize(
    ("trace", "line"),
    [
        (f"{START}{IN_FILE}ModuleNotFoundError: x", "customs.py, line 3"),
        (f"{START}{IN_FILE}{SYNTAX}SyntaxError: expected ':'", "broken.py, line 2"),
        (f"{START}{IN_FILE}{FROZEN}{IN_LIBRARY}KeyError", "customs.py, line 3"),
        (f"{CHAINED}{START}{SYNTAX}SyntaxError: x", "broken.py, line 2"),
        (f"{START}{IN_LIBRARY}KeyError", None),
        ("expected ':' (broken.py, line 2)", None),
        ("", None),
    ],
)
def test_find_line_is_the_innermost_outside_of_libraries(trace, line):
    """Of a file that is broken itself, or of the line of the DAG file that called a library."""
    assert find_line(trace) == line
