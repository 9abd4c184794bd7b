from __future__ import annotations

import datetime as dt
import pickle
import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.patterns import Patterns
from bzctrl_provider.routes import RouteFault, RoutesError, find_dead_fields, parse_routes
from bzctrl_provider.routes.route import MATCHERS, OPTION_FIELDS
from bzctrl_provider.routes.toml_lines import find_lines

EXAMPLE = """\
[[route]]
run_types = ["backfill", "manual"]
ignore = true

[[route]]
tags = ["impact/tier_1"]
priority = "HIGH"

[[route]]
owners = "customs-*"
domain_workspace = "EXA-CUS-TOM-SHQ"
assignee = "{{ failure.owner }}@example.com"
category = ["Customs"]
dedup_window_s = 86400

[[route]]                 # no matcher: the default
domain_workspace = "EXA-CON-BUS-WOR"
"""


def find_faults(text):
    with pytest.raises(RoutesError) as error:
        parse_routes(text)
    return [str(fault) for fault in error.value.faults]


def test_parse_example_gives_typed_routes():
    """Each route has its patterns, its fields as they are written, and its lines."""
    ignored, tier, customs, default = parse_routes(EXAMPLE)
    assert ignored.matchers == {"run_types": Patterns(("backfill", "manual"))}
    assert ignored.fields == {"ignore": True}
    assert (tier.number, tier.line, tier.line_of("priority")) == (2, 5, 7)
    assert customs.matchers == {"owners": Patterns(("customs-*",))}
    assert customs.fields == {
        "domain_workspace": "EXA-CUS-TOM-SHQ",
        "assignee": "{{ failure.owner }}@example.com",
        "category": ["Customs"],
        "dedup_window_s": 86400,
    }
    assert (default.matchers, default.label) == ({}, "route 4 (line 16)")


def test_parse_every_field_and_matcher_is_accepted():
    """All fields of a todo, all options and all matchers have a place in a route."""
    lines = [f'{name} = "*"' for name in MATCHERS]
    lines += [f'{name} = "{{{{ failure.owner }}}}"' for name in TODO_FIELDS]
    lines += ["ignore = false", 'bzctrl_conn_id = "{{ x }}"', "dedup_window_s = 0", 'dedup_key = "k"']
    lines += ["consecutive_failures = 1"]
    (route,) = parse_routes("[[route]]\n" + "\n".join(lines))
    assert set(route.matchers) == set(MATCHERS)
    assert set(route.fields) == {*TODO_FIELDS, *OPTION_FIELDS}
    assert set(route.lines) == {*MATCHERS, *TODO_FIELDS, *OPTION_FIELDS}


def test_parse_all_faults_are_reported_with_their_lines():
    """One error has every fault, also below values of several lines that look like keys and tables."""
    text = '''\
[[route]]
run_types = ["backfil", "manual"]
ignore = "true"

[[route]]   # [[route]]
tags = 5
priority = "URGENT"
categry = "x"
description = """
a]
[[route]]
priority = "LOW"
"""
"dedup_window_s" = "1d"

[[ route ]]
assignee = "{{ failure.owner }@example.com"
owners = [
  "a", # ]
  "b",
]
impact = "HGH"
consecutive_failures = true
bzctrl_conn_id = " "
workspace = "SHQ"
dags = []
[route.x]
y = 1
[routes]
'''
    assert find_faults(text) == [
        "line 2: run_types has the unknown run type 'backfil': did you mean backfill?",
        "line 3: ignore must be true or false, without quotes, not 'true'",
        "line 6: tags must be a pattern or a list of patterns, not 5",
        "line 7: priority must be HIGH, MEDIUM or LOW, not 'URGENT'",
        "line 8: categry is unknown: did you mean category?",
        "line 14: dedup_window_s must be an integer from 0 to 315360000, without quotes, not '1d'",
        "line 17: assignee is not a valid template: unexpected '}'",
        "line 22: impact must be HIGH, MEDIUM or LOW, not 'HGH'",
        "line 23: consecutive_failures must be an integer from 1 to 1000, without quotes, not True",
        "line 24: bzctrl_conn_id must be a text, not ' '",
        "line 25: workspace goes together with domain: give both, or only domain_workspace",
        "line 26: dags must have at least one pattern: leave it out to match everything",
        f"line 27: x is unknown: there are {', '.join((*MATCHERS, *TODO_FIELDS, *OPTION_FIELDS))}",
        "line 29: routes is unknown: each route begins with [[route]]",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no route: write [[route]] and its keys below it, or unset routes_path"),
        ("# only a comment\n", "has no route: write [[route]] and its keys below it, or unset routes_path"),
        ("route = []", "line 1: has no route: write [[route]] and its keys below it"),
        ("\n[route]\nignore = true", "line 2: a route begins with [[route]], in two pairs of brackets"),
        ("ignore = true", "line 1: ignore is unknown: each route begins with [[route]]"),
        ("route = [1]", "line 1: a route must be a table, not 1"),
        ("route = [{ignore = 1}]", "line 1: ignore must be true or false, without quotes, not 1"),
        (
            "[[route]]\n\n[[route]]\nlrn = 'x'",
            "line 1: the route sets nothing: give it a field such as domain_workspace, or ignore",
        ),
        (
            "[[route]]\ndags = 'a'",
            "line 1: the route sets nothing: give it a field such as domain_workspace, or ignore",
        ),
        ("[[route]]\npriority = HIGH", "line 2: is not valid TOML: Invalid value"),
        ("[[route]]\nlrn = 'a'\nlrn = 'b'", "line 3: is not valid TOML: Cannot overwrite a value"),
        ("[[route]]\nlrn = '''a\n\n", "line 2: is not valid TOML: Expected \"'''\""),
        (f"[[route]]\nlrn = {'9' * 5000}", "has a value that cannot be read: ValueError"),
        (f"[[route]]\nlrn = {'[' * 100_000}", "has a value that cannot be read: RecursionError"),
        ('[[route]]\n"a\\nb" = 1', "line 2: 'a\\nb' is unknown: there are "),
        ("[[route]]\ntitle = 'a\\nb'\nlrn = true", "line 3: lrn must be text, not True"),
        (
            "[[route]]\ndags = ''\nlrn = 'x'",
            'line 2: dags must not have an empty pattern: write "*" to match everything',
        ),
        (
            "[[route]]\ntodo_type = 'TASK'\nimpact = 'HIGH'",
            "line 3: impact belongs to INCIDENT only, not to TASK: leave it out",
        ),
    ],
)
def test_parse_invalid_file_names_line_and_remedy(text, fault):
    """Each kind of fault is one line, with the place where it is."""
    (found,) = find_faults(text)
    assert found.startswith(fault)
    assert "\n" not in found


def test_parse_templates_are_not_checked_as_literals():
    """A value with a template is known only when it is rendered, in a list as well."""
    text = '[[route]]\npriority = "{{ x }}"\ncategory = ["{% if x %}a{% endif %}", "b"]\nimpact = "{# y #}"'
    (route,) = parse_routes(text)
    assert route.fields["priority"] == "{{ x }}"


def test_parse_template_of_an_extension_is_accepted():
    """A DAG may switch Jinja's own extensions on."""
    assert parse_routes('[[route]]\nlrn = "{% do x.append(1) %}{{ x }}"')


@pytest.mark.parametrize("text", ["\ufeff" + EXAMPLE, EXAMPLE.replace("\n", "\r\n")])
def test_parse_text_of_a_windows_editor_is_accepted(text):
    """A byte order mark and other line ends change neither the routes nor their lines."""
    assert parse_routes(text) == parse_routes(EXAMPLE)


def test_parse_date_stays_a_date():
    """TOML has dates of its own."""
    (route,) = parse_routes("[[route]]\nreminder_date = 2026-12-01")
    assert route.fields["reminder_date"] == dt.date(2026, 12, 1)


def test_routes_error_can_be_pickled():
    """An error of a worker reaches another process whole."""
    error = RoutesError([RouteFault(2, "b"), RouteFault(1, "a")])
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.faults, str(copy)) == (error.faults, "line 1: a\nline 2: b")


def test_find_dead_fields_after_the_default():
    """A field that a route without a matcher set before has no effect."""
    routes = parse_routes(
        '[[route]]\nlrn = "x"\n[[route]]\ndags = "a"\nlrn = "y"\ntitle = "t"\n[[route]]\nlrn = "z"\n'
    )
    assert [str(fault) for fault in find_dead_fields(routes)] == [
        "line 5: lrn never has an effect: route 1 (line 1) has no matcher and sets it before",
        "line 8: lrn never has an effect: route 1 (line 1) has no matcher and sets it before",
    ]
    assert find_dead_fields(parse_routes(EXAMPLE)) == []


KEYS = ["a", '"a b"', "b.c", "'x]'", "z"]
VALUES = [
    "1",
    '"]"',
    '"""\nk = 1\n[[route]]\n"""',
    "[\n 1, # ]\n  [2],\n]",
    "{ a = 1, b = [1] }",
    "'''\n\n]'''",
    '"#"',
]
BETWEEN = ["", "# [x]", "\t", '# """']


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(BETWEEN), max_size=2),
            st.lists(
                st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), unique_by=lambda pair: pair[0]
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_find_lines_agrees_with_how_the_document_was_written(tables):
    """The lines of all tables and keys are found, whatever their values look like."""
    lines, expected = [], []
    for between, pairs in tables:
        lines += [*between, "[[route]] # x"]
        keys = {}
        expected.append((len(lines), keys))
        for key, value in pairs:
            keys[next(iter(tomllib.loads(f"{key} = 1")))] = len(lines) + 1
            lines += f"{key} = {value} # ]".split("\n")
    text = "\n".join(lines)
    assert len(tomllib.loads(text)["route"]) == len(tables)
    assert [(table.line, table.keys) for table in find_lines(text).tables["route"]] == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[route]]\nlrn = "x"\n' * 1001, "has 1001 routes: at most 1000 are possible"),
        (
            '[[route]]\nlrn = "x"\ntags = "t"\ndags = [' + '"a*",' * 10_000 + "]",
            "has 10001 patterns: at most 10000 are possible",
        ),
    ],
    ids=["routes", "patterns"],
)
def test_parse_too_many_routes_or_patterns_are_refused(text, fault):
    """A file by which a callback would take too long is a fault."""
    assert find_faults(text) == [fault]


def test_parse_lines_of_brackets_are_read_in_seconds():
    """A text that looks like the ends of values does not take the time of its square, but its lines are unknown."""
    text = '[[route]]\ndescription = """' + "]\n" * 100_000 + '"""\nlrn = true\n[[route]]\nlrn = 1\n'
    started = time.perf_counter()
    assert find_faults(text) == ["line 1: lrn must be text, not True"]
    assert time.perf_counter() - started < 10
