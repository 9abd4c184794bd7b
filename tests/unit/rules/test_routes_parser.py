from __future__ import annotations

import datetime as dt

import pytest

from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.rules.routes import MATCHERS, RoutesError, find_dead_fields, parse_routes

FIELDS = (
    *TODO_FIELDS,
    "ignore",
    "bzctrl_conn_id",
    "dedup_window_s",
    "dedup_key",
    "consecutive_failures",
)

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
    return list(error.value.args)


def test_parse_example_gives_typed_routes():
    """Each route has its patterns, and its fields as they are written."""
    ignored, tier, customs, default = parse_routes(EXAMPLE)
    assert ignored.matchers == {"run_types": ("backfill", "manual")}
    assert ignored.fields == {"ignore": True}
    assert (tier.number, tier.label) == (2, "route 2")
    assert customs.matchers == {"owners": ("customs-*",)}
    assert customs.fields == {
        "domain_workspace": "EXA-CUS-TOM-SHQ",
        "assignee": "{{ failure.owner }}@example.com",
        "category": ["Customs"],
        "dedup_window_s": 86400,
    }
    assert default.matchers == {}


def test_parse_every_field_and_matcher_is_accepted():
    """All fields of a todo, all options and all matchers have a place in a route."""
    lines = [f'{name} = "*"' for name in MATCHERS]
    lines += [f'{name} = "{{{{ failure.owner }}}}"' for name in TODO_FIELDS]
    lines += ["ignore = false", 'bzctrl_conn_id = "{{ x }}"', "dedup_window_s = 0", 'dedup_key = "k"']
    lines += ["consecutive_failures = 1"]
    (route,) = parse_routes("[[route]]\n" + "\n".join(lines))
    assert set(route.matchers) == set(MATCHERS)
    assert set(route.fields) == set(FIELDS)


def test_parse_all_faults_are_reported_with_route_and_key():
    """One error has every fault of every route."""
    text = """\
[[route]]
run_types = ["backfil", "manual"]
ignore = "true"

[[route]]
tags = 5
priority = "URGENT"
categry = "x"
"dedup_window_s" = "1d"

[[ route ]]
assignee = "{{ failure.owner }@example.com"
impact = "HGH"
consecutive_failures = true
workspace = "SHQ"
dags = []
[route.x]
y = 1
[routes]
"""
    assert find_faults(text) == [
        "routes is unknown: each route begins with [[route]]",
        "route 1, run_types: has the unknown run type 'backfil': did you mean backfill?",
        "route 1, ignore: must be true or false, without quotes, not 'true'",
        "route 2, tags: must be a pattern or a list of patterns, not 5",
        "route 2, categry: is unknown: did you mean category?",
        "route 2, dedup_window_s: must be an integer from 0 to 315360000, without quotes, not '1d'",
        "route 2, priority: must be HIGH, MEDIUM or LOW, not 'URGENT'",
        "route 3, assignee: is not a valid template: unexpected '}'",
        "route 3, consecutive_failures: must be an integer from 1 to 1000, without quotes, not True",
        "route 3, dags: must have at least one pattern: leave it out to match everything",
        f"route 3, x: is unknown: there are {', '.join((*MATCHERS, *FIELDS))}",
        "route 3, workspace: goes together with domain: give both, or only domain_workspace",
        "route 3, impact: must be HIGH, MEDIUM or LOW, not 'HGH'",
    ]


NO_ROUTE = "has no route: write [[route]] and its keys below it, or unset routes_path"
SETS_NOTHING = "route 1: sets nothing: give it a field such as domain_workspace, or ignore"
FAULTS = [
    ("", NO_ROUTE),
    ("# only a comment\n", NO_ROUTE),
    ("route = []", NO_ROUTE),
    ("\n[route]\nignore = true", "a route begins with [[route]], in two pairs of brackets"),
    ("ignore = true", "ignore is unknown: each route begins with [[route]]"),
    ("route = [1]", "route 1: must be a table, not 1"),
    ("route = [{ignore = 1}]", "route 1, ignore: must be true or false, without quotes, not 1"),
    ("[[route]]\n\n[[route]]\nlrn = 'x'", SETS_NOTHING),
    ("[[route]]\ndags = 'a'", SETS_NOTHING),
    ("[[route]]\npriority = HIGH", "is not valid TOML: Invalid value (at line 2, column 12)"),
    ("[[route]]\nlrn = 'a'\nlrn = 'b'", "is not valid TOML: Cannot overwrite a value"),
    ('[[route]]\n"a\\nb" = 1', "route 1, a b: is unknown: there are "),
    ("[[route]]\ntitle = 'a\\nb'\nlrn = true", "route 1, lrn: must be text, not True"),
    (
        "[[route]]\ndags = ''\nlrn = 'x'",
        'route 1, dags: must not have an empty pattern: write "*" to match everything',
    ),
    (
        "[[route]]\ntodo_type = 'TASK'\nimpact = 'HIGH'",
        "route 1, impact: belongs to INCIDENT only, not to TASK: leave it out",
    ),
    (
        "[[route]]\ndomain = 'EXA'\nworkspace = '{{ x'",
        "route 1, workspace: is not a valid template: ",
    ),
]


def test_parse_invalid_file_names_place_and_remedy():
    """Each kind of fault is one line, with the place where it is."""
    for text, fault in FAULTS:
        (found,) = find_faults(text)
        assert found.startswith(fault), text
        assert "\n" not in found


def test_parse_templates_are_not_checked_as_literals():
    """A value with a template is known only when it is rendered, in a list as well; a DAG may switch Jinja's extensions on."""
    text = '[[route]]\npriority = "{{ x }}"\ncategory = ["{% if x %}a{% endif %}", "b"]\nimpact = "{# y #}"'
    (route,) = parse_routes(f'{text}\nlrn = "{{% do x.append(1) %}}{{{{ x }}}}"')
    assert route.fields["priority"] == "{{ x }}"


def test_parse_text_of_a_windows_editor_and_dates_are_accepted():
    """A byte order mark and other line ends change nothing, and TOML has dates of its own."""
    for text in ("\ufeff" + EXAMPLE, EXAMPLE.replace("\n", "\r\n")):
        assert parse_routes(text) == parse_routes(EXAMPLE)
    (route,) = parse_routes("[[route]]\nreminder_date = 2026-12-01")
    assert route.fields["reminder_date"] == dt.date(2026, 12, 1)


def test_find_dead_fields_after_the_default():
    """A field that a route without a matcher set before has no effect."""
    routes = parse_routes(
        '[[route]]\nlrn = "x"\n[[route]]\ndags = "a"\nlrn = "y"\ntitle = "t"\n[[route]]\nlrn = "z"\n'
    )
    assert find_dead_fields(routes) == [
        "route 2, lrn: never has an effect, because route 1 has no matcher and sets it before",
        "route 3, lrn: never has an effect, because route 1 has no matcher and sets it before",
    ]
    assert find_dead_fields(parse_routes(EXAMPLE)) == []
