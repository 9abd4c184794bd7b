from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.outbox import DEFAULTS, new_incident

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.outbox.storm import find_storms, summarize


def member(number, *, facts=None, **fields):
    incident = new_incident(number, facts=facts, **fields)
    values = vars(complete_todo(incident.fields, defaults=DEFAULTS))
    return replace(incident, fields=values)


def failed_run(number, reason="the warehouse is down"):
    return {
        "dag_id": f"dag_{number:03}",
        "run_id": f"run_{number:03}",
        "run_url": f"http://airflow.example/dags/dag_{number:03}",
        "what": "run",
        "reason": reason,
    }


def test_find_storms_groups_by_workspace_and_assignee():
    """A storm is more than the limit of both the same."""
    members = [
        *(member(number) for number in range(3)),
        *(member(number, assignee="other@example.com") for number in range(3, 5)),
        *(member(number, domain_workspace="OTHER") for number in range(5, 7)),
    ]
    (storm,) = find_storms(members, above=2)
    assert [one.identity for one in storm] == [one.identity for one in members[:3]]
    assert find_storms(members, above=3) == []
    assert find_storms(members, above=0) == []


def test_summarize_names_dags_reasons_and_addresses():
    """Equal reasons are written once with their number, the most frequent first."""
    members = [
        member(1, facts=failed_run(1)),
        member(2, facts=failed_run(2, "a disk is full"), financial_impact="7500"),
        member(3, facts=failed_run(3)),
    ]
    fields = summarize(members).fields
    assert fields["title"] == "3 DAG runs failed within 2 min (dag_001, dag_002, dag_003)"
    assert fields["description"] == (
        "3 DAG runs failed within 2 min, from 2027-01-15T07:01:00Z to 2027-01-15T07:03:00Z.\n"
        "\n"
        "2 times: the warehouse is down\n"
        "- dag_001 run_001, http://airflow.example/dags/dag_001\n"
        "- dag_003 run_003, http://airflow.example/dags/dag_003\n"
        "\n"
        "a disk is full\n"
        "- dag_002 run_002, financial impact 7500 EUR, http://airflow.example/dags/dag_002"
    )


def test_summarize_names_dag_files():
    """A shared module that is broken is one reason, with the files that import it."""
    reason = "ModuleNotFoundError: No module named 'shared'"
    members = [
        member(number, facts={"what": "import", "file": f"team/dag_{number}.py", "reason": reason})
        for number in (1, 2)
    ]
    fields = summarize(members).fields
    assert fields["title"] == "2 DAG files cannot be imported within 1 min (team/dag_1.py, team/dag_2.py)"
    assert fields["description"].endswith(f"2 times: {reason}\n- team/dag_1.py\n- team/dag_2.py")


def test_summarize_title_says_what_failed():
    """As far as it is the same for all."""
    table = [
        (["task", "task"], "2 tasks failed"),
        (["deadline", "deadline"], "2 deadlines were missed"),
        (["import", "import"], "2 DAG files cannot be imported"),
        (["import", "run"], "2 failures"),
        (["run", "task"], "2 failures"),
        (["", ""], "2 failures"),
    ]
    for kinds, title in table:
        members = [member(number, facts={"what": kind}) for number, kind in enumerate(kinds)]
        assert summarize(members).fields["title"] == f"{title} within 1 min"


def test_summarize_takes_the_highest_levels_and_all_categories():
    """Nothing of the storm is less urgent than its worst incident."""
    members = [
        member(1, priority="LOW", impact="HIGH", category=["a", "b"], reporter="one@example.com"),
        member(2, priority="MEDIUM", category=["b", "c"]),
        member(3, likelihood="LOW"),
    ]
    fields = summarize(members).fields
    assert (fields["priority"], fields["impact"], fields["likelihood"]) == ("MEDIUM", "HIGH", "LOW")
    assert fields["category"] == ["a", "b", "c"]
    assert fields["reporter"] == "one@example.com"


def test_summarize_is_the_same_for_the_same_incidents():
    """So that a delivery after a crash creates the same summary; the order id is its identity."""
    members = [member(number) for number in range(1, 4)]
    summary = summarize(members)
    assert summary == summarize(members)
    assert summary.fields["order_id"] == summary.identity
    assert summary.identity.startswith("storm-20270115T070100Z-")
    assert summarize(members[:2]).identity != summary.identity
    assert summary.is_summary


def test_summarize_of_137_lists_100_and_names_the_rest():
    """The description is bounded, and says how many are left out."""
    description = summarize([member(number, facts=failed_run(number)) for number in range(137)]).fields[
        "description"
    ]
    assert description.count("\n- dag_") == 100
    assert description.endswith("and 37 more")
    assert "137 times: the warehouse is down" in description


def test_summarize_of_many_reasons_lists_100_below_theirs():
    """A reason of which nothing is listed is left out, so that the description is bounded."""
    members = [member(number, facts=failed_run(number, f"reason {number}")) for number in range(130)]
    description = summarize(members).fields["description"]
    assert description.count("reason ") == description.count("\n- dag_") == 100
    assert description.endswith(
        "reason 99\n- dag_099 run_099, http://airflow.example/dags/dag_099\n\nand 30 more"
    )


def test_summarize_marks_incidents_that_may_exist_already():
    """An attempt without a response may have created one of them on its own."""
    one, two = member(1), member(2)
    one = replace(one, unanswered=("2027-01-15T08:00:00Z",))
    description = summarize([one, two]).fields["description"]
    assert description.endswith("had no response, so it may exist on its own: dag_1 r.")


def test_summarize_of_a_long_storm_counts_hours():
    """Minutes are for the first two hours."""
    assert "within 4 h" in summarize([member(1), member(1 + 60 * 4)]).fields["title"]


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.text(max_size=300), min_size=1, max_size=40), reason=st.text(max_size=3000))
def test_summarize_any_storm_is_a_todo_of_bounded_size(names, reason):
    """The title has at most 200 characters and one line, and BzCtrl's limit is far away."""
    members = [
        member(
            number, facts={"dag_id": name, "run_id": name, "run_url": name, "reason": reason, "what": "run"}
        )
        for number, name in enumerate(names)
    ]
    fields = summarize(members).fields
    assert len(fields["title"]) <= 200
    assert "\n" not in fields["title"]
    assert len(fields["description"]) < 400_000
    assert complete_todo(fields, defaults=DEFAULTS).order_id == fields["order_id"]
