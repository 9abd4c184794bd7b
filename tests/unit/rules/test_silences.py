from __future__ import annotations

import datetime as dt
import json

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.rules.silences import find_silence, parse_silences

NOW = dt.datetime(2026, 11, 30, 22, tzinfo=dt.UTC)
UNTIL = "2026-12-01T06:00Z"


def parse(*entries):
    return parse_silences(json.dumps(entries))


def find(*entries, dag_id="customs_eu", tasks=("totals",), now=NOW):
    silences, errors = parse(*entries)
    assert errors == []
    return find_silence(silences, dag_id, tasks, now=now)


def test_parse_without_silences_finds_none():
    """A Variable that is not set, or empty, silences nothing and is no fault."""
    for text in (None, "", " \n", "[]"):
        assert parse_silences(text) == ([], [])
    assert find_silence([], "a", ["b"], now=NOW) is None


def test_find_silence_until_its_end():
    """The entry applies until its end, and not at it."""
    entry = {"dags": "customs_*", "tasks": "*", "until": UNTIL, "comment": "OPS-123"}
    silence = find(entry)
    assert (silence.comment, str(silence)) == ("OPS-123", "silenced until 2026-12-01 06:00:00 UTC (OPS-123)")
    end = dt.datetime(2026, 12, 1, 6, tzinfo=dt.UTC)
    assert find(entry, now=end - dt.timedelta(microseconds=1))
    assert find(entry, now=end) is None


def test_parse_until_is_a_moment():
    """All forms of ISO 8601 are read; without an offset it is UTC."""
    for until in (
        "2026-12-01T06:00",
        "2026-12-01 06:00:00",
        "2026-12-01T07:00+01:00",
        "20261201T060000Z",
        " 2026-12-01T06:00Z ",
    ):
        ((silence,), _) = parse({"until": until})
        assert silence.until == dt.datetime(2026, 12, 1, 6, tzinfo=dt.UTC)


COVERS = [
    # entry, DAG, failed tasks, whether it covers them
    ({}, "any", ["a", "b"], True),
    ({}, None, [], True),
    ({"dags": "customs_*"}, "customs_eu", ["a"], True),
    ({"dags": ["x", "customs_*"]}, "customs_eu", [], True),
    ({"dags": "customs_*"}, "finance", ["a"], False),
    ({"dags": "customs_*"}, None, ["a"], False),
    ({"tasks": "load_*"}, "customs_eu", ["load_1", "load_2"], True),
    ({"tasks": "load_*"}, "customs_eu", ["load_1", "check"], False),
    ({"tasks": "load_*"}, "customs_eu", [], False),
]


def test_find_silence_covers_all_that_failed_or_nothing():
    """A failed task that is not silenced raises the incident, and so does one that is not known."""
    for entry, dag_id, tasks, covers in COVERS:
        assert bool(find(entry | {"until": UNTIL}, dag_id=dag_id, tasks=tasks)) is covers, entry


def test_find_silence_several_together():
    """Two entries may cover what failed between them; the first of the list is shown."""
    first, second = ({"tasks": name, "until": UNTIL, "comment": name} for name in "ab")
    assert find({"dags": "x", "until": UNTIL}, first, second, tasks=("b", "a")).comment == "a"
    assert find(first, second, tasks=("b",)).comment == "b"
    assert find(first, {**second, "until": "2026-11-30T00:00Z"}, tasks=("a", "b")) is None


def test_parse_unreadable_variable_silences_nothing():
    """It is reported as one fault, and incidents are raised."""
    for text, fault in (
        ("{", "The Variable is not valid JSON at line 1, column 2."),
        ("9" * 5000, "The Variable is not valid JSON."),
        ('{"dags": "a"}', "The Variable must be a JSON list of objects, not an object of type dict."),
        ("null", "The Variable must be a JSON list of objects, not None."),
    ):
        assert parse_silences(text) == ([], [fault])


def test_parse_faulty_entries_are_left_out_and_all_reported():
    """Each fault names its entry and the remedy; the silences of others apply."""
    silences, errors = parse(
        "customs_*",
        {"dags": "customs_*"},
        {"dag": "x", "until": UNTIL, "zzz": 1},
        {"until": UNTIL, "comment": "good"},
        {"until": "tomorrow", "tasks": [], "comment": 5},
        {"until": "2026-12-01"},
        {"until": 1796104800},
        {"until": "0001-01-01T00:00+23:00"},
        {"until": None, "dags": None},
    )
    assert [silence.comment for silence in silences] == ["good"]
    example = 'an ISO 8601 date and time such as "2026-12-01T06:00Z"'
    assert sorted(errors) == [
        'Entry 1: must be an object such as {"dags": "customs_*", "until": …}, not \'customs_*\'.',
        f"Entry 2: until is mandatory: give {example}.",
        "Entry 3: 'dag' is unknown: did you mean dags?.",
        "Entry 3: 'zzz' is unknown: there are dags, tasks, until, comment.",
        "Entry 5: comment must be a text, not 5.",
        "Entry 5: tasks must have at least one pattern: leave it out to match everything.",
        f"Entry 5: until must be {example}, not 'tomorrow'.",
        f"Entry 6: until must be {example}, not '2026-12-01'.",
        f"Entry 7: until must be {example}, not 1796104800.",
        f"Entry 8: until must be {example}, not '0001-01-01T00:00+23:00'.",
        "Entry 9: dags must be a pattern or a list of patterns, not None.",
        f"Entry 9: until is mandatory: give {example}.",
    ]


def test_parse_comment_is_one_line():
    """A comment goes into logs and descriptions, so it forges no second line."""
    ((silence,), _) = parse({"until": UNTIL, "comment": "a\nERROR b" + "x" * 1000})
    assert silence.comment.startswith("a ERROR b")
    assert len(silence.comment) == 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["dags", "tasks", "until", "comment", "x"]), children, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3).map(json.dumps) | st.text())
def test_parse_any_text_never_raises(text):
    """Any text in the Variable gives silences and faults, and looking one up works."""
    silences, errors = parse_silences(text)
    find_silence(silences, "a", ["b"], now=NOW)
    assert all(isinstance(fault, str) for fault in errors)
