from __future__ import annotations

import json

from bzctrl_provider.routes import RouteFacts, Routes, explain, parse_routes

TEXT = """\
[[route]]
run_types = ["backfill"]
ignore = true

[[route]]
tags = ["impact/tier_1"]
priority = "HIGH"

[[route]]
tasks = "load"
priority = "LOW"
reminder_date = 2026-12-01

[[route]]
teams = "*"
lrn = "x"
"""


def test_explain_each_field_has_its_route():
    """The lines name the route that gives a field, and the first matcher of the others that does not fit."""
    facts = RouteFacts(dag_id="a", tags=["impact/tier_1"], task_ids=["load"], run_type="scheduled")
    assert list(explain(parse_routes(TEXT), facts).lines()) == [
        "priority = 'HIGH' from route 2",
        "reminder_date = '2026-12-01' from route 3",
        "route 1: run_types does not match",
        "route 2: fits",
        "route 3: fits",
        "route 4: teams is not known",
    ]
    assert list(explain(Routes(), RouteFacts()).lines()) == ["No route sets a field."]


def test_explain_as_dict_is_plain_json():
    """A program gets the same as data, with the date as text."""
    data = explain(parse_routes(TEXT), RouteFacts(task_ids=["load"])).as_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["fields"]["reminder_date"] == {"value": "2026-12-01", "route": 3}
    assert data["routes"][0] == {"route": 1, "fits": False, "reason": "run_types is not known"}
