from __future__ import annotations

import timeit
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.rules.routes import POLICY_DEFAULTS, Route, apply_routes, find_ignoring, parse_routes
from bzctrl_provider.text import read_patterns

NAMES = {
    "dags": ("customs_eu",),
    "tags": ("impact/tier_1", "eu"),
    "owners": ("customs-team", "finance"),
    "tasks": ("checks.totals", "checks.amounts"),
    "run_types": ("scheduled",),
    "teams": ("blue",),
    "files": ("eu/customs.py",),
}

MATCHING = {
    "dags": "customs_*",
    "tags": "impact/tier_?",
    "owners": "finance",
    "tasks": "*.amounts",
    "run_types": "scheduled",
    "teams": "blue",
    "files": "eu/*",
}


def make_route(number, *, fields, **matchers):
    patterns = {name: read_patterns(value) for name, value in matchers.items()}
    return Route(number=number, matchers=patterns, fields=fields)


def apply(*routes, names=NAMES):
    return {name: value for name, (value, _) in apply_routes(routes, names).items()}


def test_apply_all_matchers_have_to_fit():
    """Each matcher looks at its own names, any of several values is enough, and all matchers have to fit."""
    assert apply(make_route(1, fields={"lrn": "x"}, **MATCHING)) == {"lrn": "x"}
    for matcher, pattern in MATCHING.items():
        assert apply(make_route(1, fields={"lrn": "x"}, **{matcher: ["no", pattern]})) == {"lrn": "x"}
        assert apply(make_route(1, fields={"lrn": "x"}, **{matcher: ["no", "customs"]})) == {}
        assert apply(make_route(1, fields={"lrn": "x"}, **{**MATCHING, matcher: "no"})) == {}


def test_apply_unknown_names_do_not_match():
    """A matcher for something that Airflow does not report does not fit, not even by ``*``."""
    for matcher in MATCHING:
        routes = [
            make_route(1, fields={"lrn": "x"}, **{matcher: "*"}),
            make_route(2, fields={"title": "t"}),
        ]
        assert apply(*routes, names=dict.fromkeys(NAMES)) == {"title": "t"}


def test_parse_run_type_of_airflow_2_is_its_new_name():
    """Airflow 2.11 says ``dataset_triggered``, and routes are written for either name."""
    for written in ("asset_triggered", "dataset_triggered"):
        routes = parse_routes(f'[[route]]\nrun_types = "{written}"\nignore = true')
        assert find_ignoring(routes, {"run_types": ("asset_triggered",)})
        assert not find_ignoring(routes, {"run_types": ("manual",)})


def test_apply_team_and_severity_need_no_cross_product():
    """A field of one route and a field of another are both set."""
    routes = [
        make_route(1, fields={"priority": "HIGH"}, tags="impact/tier_1"),
        make_route(2, fields={"domain_workspace": "EXA-CUS", "priority": "LOW"}, owners="customs-*"),
        make_route(3, fields={"domain_workspace": "EXA-DEF", "assignee": "a@example.com"}),
    ]
    assert apply(*routes) == {"priority": "HIGH", "domain_workspace": "EXA-CUS", "assignee": "a@example.com"}


def test_apply_first_false_ignore_beats_later_true():
    """``ignore`` is a field like the others, so an exception is written before its rule."""
    exception = make_route(1, fields={"ignore": False}, dags="customs_eu")
    rule = make_route(2, fields={"ignore": True}, run_types="scheduled")
    assert not find_ignoring((exception, rule), NAMES)
    assert find_ignoring((rule, exception), NAMES)
    assert find_ignoring((exception, rule), {**NAMES, "dags": ("other",)})


def test_apply_place_comes_from_one_route():
    """A domain and a workspace do not mix with the domain workspace of another route."""
    pair = make_route(1, fields={"domain": "EXA-CON", "workspace": "SHQ"}, owners="finance")
    default = make_route(2, fields={"domain_workspace": "EXA-DEF", "lrn": "x"})
    assert apply(pair, default) == {"domain": "EXA-CON", "workspace": "SHQ", "lrn": "x"}
    assert apply(default, pair) == {"domain_workspace": "EXA-DEF", "lrn": "x"}


def test_policy_defaults_ignore_backfills_only():
    """Without a routes file, the policy raises no incidents for backfills; all other runs raise them."""
    assert find_ignoring(POLICY_DEFAULTS, {"run_types": ("backfill",)})
    assert not apply_routes(POLICY_DEFAULTS, {"run_types": ("scheduled",)})
    assert not apply_routes(POLICY_DEFAULTS, {"run_types": None})


NAME = st.sampled_from(["a", "b", "c"])
FIELDS = st.dictionaries(
    st.sampled_from(["title", "priority", "ignore", "dedup_key", "lrn"]), st.integers(), min_size=1
)
MATCHERS = st.sampled_from(["dags", "tags", "owners", "tasks"])
ROUTE_PARTS = st.tuples(st.dictionaries(MATCHERS, st.lists(NAME, min_size=1)), FIELDS)
SOME_NAMES = st.dictionaries(MATCHERS, st.none() | st.lists(NAME).map(tuple))


def make_routes(parts):
    return [
        make_route(number, fields=fields, **matchers) for number, (matchers, fields) in enumerate(parts, 1)
    ]


def fits(matchers, names):
    """Repeat the rule of the documentation, without patterns."""
    return all(set(values) & set(names.get(matcher) or ()) for matcher, values in matchers.items())


@given(st.lists(ROUTE_PARTS, max_size=6), SOME_NAMES)
def test_apply_each_field_comes_from_the_first_fitting_route(parts, names):
    """For each field, the first route that fits and sets it gives the value."""
    expected = {}
    for matchers, fields in parts:
        if fits(matchers, names):
            expected = {**fields, **expected}
    assert apply(*make_routes(parts), names=names) == expected


@given(st.lists(ROUTE_PARTS, max_size=5), ROUTE_PARTS, st.integers(0, 5), SOME_NAMES)
def test_apply_route_that_does_not_fit_changes_nothing(parts, extra, position, names):
    """A route of another team has no effect, at any position."""
    if fits(extra[0], names):
        return
    longer = [*parts[:position], extra, *parts[position:]]
    assert apply(*make_routes(longer), names=names) == apply(*make_routes(parts), names=names)


@given(
    st.lists(st.dictionaries(st.sampled_from(["dags", "tags"]), st.lists(NAME, min_size=1)), max_size=4),
    SOME_NAMES,
)
def test_apply_order_of_routes_with_different_fields_does_not_matter(matchers, names):
    """Routes that set different fields can be in any order."""
    fields = ("title", "priority", "ignore", "lrn")
    parts = [(given, {name: 1}) for given, name in zip(matchers, fields, strict=False)]
    results = [apply(*make_routes(order), names=names) for order in permutations(parts)]
    assert all(result == results[0] for result in results)


def test_apply_fifty_routes_takes_less_than_a_millisecond():
    """An evaluation with 50 routes of three matchers each is not felt."""
    text = "".join(
        f'[[route]]\ntags = ["impact/tier_{n}", "x*y"]\nowners = ["team-{n}-*"]\ndags = ["dag_{n}_*"]\nlrn = "{n}"\n'
        for n in range(50)
    )
    routes = parse_routes(text)
    assert min(timeit.repeat(lambda: apply_routes(routes, NAMES), number=20, repeat=5)) / 20 < 0.001
