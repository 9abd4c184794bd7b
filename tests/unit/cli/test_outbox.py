from __future__ import annotations

import pytest
from support.bzctrl import ACC, KEY, LINK, sent_todos
from support.store import STATES, add, begin_delivery, hold_lease, read

from bzctrl_provider.outbox.delivery import BESIDE
from bzctrl_provider.outbox.writer import format_time
from bzctrl_provider.store import deliveries, failed_runs, problems
from bzctrl_provider.store.failed_runs import FailedRun
from bzctrl_provider.text import digest_of, format_span

COUNTED = ("created", "kept", "rejected")


def test_list_prints_the_oldest_first_and_one_line_each(store, run_command):
    """A line has state, identity, age, connection, title and reason; delivered ones are left out, and nothing changes."""
    add(store, "i1", age_s=90, title="second", reason="down")
    add(store, "i2", age_s=150, title="first")
    add(store, "i3", age_s=30, title="third", state="rejected", reason="It is invalid.", conn_id="other")
    add(store, "i4", title="done", state="delivered")
    before = read(store, *STATES)
    code, text = run_command("outbox", "list")
    assert code == 0
    assert text.splitlines() == [
        "waiting   i2   2 min  bzctrl_default  first  not tried yet",
        "waiting   i1   1 min  bzctrl_default  second  down",
        "rejected  i3    30 s  other  third  It is invalid.",
    ]
    assert read(store, *STATES) == before


WAITS = "waits for the connection: refused, next attempt"


@pytest.mark.parametrize(
    ("paused", "for_s", "reason", "shown"),
    [
        ("bzctrl_default", 150, "503", f"{WAITS} {{until}}"),
        (BESIDE, 150, "", f"{WAITS} {{until}}"),
        (BESIDE, -10, "", f"{WAITS} by the next delivery"),
        (BESIDE, -10, "503", "503"),
        (BESIDE, -60, "", ""),
        ("other", 150, "503", "503"),
    ],
)
def test_list_says_that_an_incident_waits_for_its_connection(
    store, run_command, paused, for_s, reason, shown
):
    """It has the error of the connection, also of a delivery beside other work, and the time of the next attempt."""
    add(store, "i1", age_s=30, reason=reason)
    with store.transaction() as tx:
        why = "The connection bzctrl_default cannot be used at present: refused"
        deliveries.pause(tx, paused, for_s=for_s, reason=why)
        until = format_time(tx.now + for_s)[11:]
    _, report = run_command("outbox", "list", "--json")
    assert report["entries"][0]["reason"] == shown.format(until=until)


def test_list_says_how_many_failed_runs_are_noted(store, run_command):
    """Their incidents are not written yet, so that the outbox is empty."""
    failed_runs.add_all(store, [FailedRun(dag_id="customs", run_id=run_id) for run_id in ("a", "b")])
    _, text = run_command("outbox", "list")
    assert text.splitlines()[1:] == ["2 failed runs noted: the next delivery raises their incidents."]
    assert run_command("outbox", "list", "--json")[1]["failed_runs"] == 2


def test_list_is_bounded(store, run_command):
    """--limit bounds the lines, and the last line counts the rest."""
    for age_s, title in enumerate("abc"):
        add(store, f"i{age_s}", age_s=age_s, title=title)
    code, text = run_command("outbox", "list", "--limit", "2")
    assert (code, text.splitlines()[2:]) == (0, ["and 1 more"])
    _, report = run_command("outbox", "list", "--limit", "1", "--json")
    assert (len(report["entries"]), report["more"]) == (1, 2)
    assert report["entries"][0]["title"] == "c"
    assert run_command("outbox", "list", "--limit", "0") == (0, "and 3 more\n")


@pytest.mark.security
def test_list_shows_hostile_text_on_one_line(store, run_command):
    """Control characters and line breaks of a title or a reason do not reach the terminal, and both are cut."""
    title = "\x1b[2Jevil\nwaiting  forged\u202e" + "x" * 500
    add(store, "i1", title=title, reason="a\r\nb\x07" + "y" * 5000)
    _, text = run_command("outbox", "list")
    assert text.count("\n") == 1
    assert text.strip().isprintable()
    assert len(text) < 700


def test_list_of_an_empty_outbox_says_so(store, run_command):
    """It is no error."""
    assert run_command("outbox", "list") == (0, f"The outbox in {store} is empty.\n")
    report = {"address": str(store), "entries": [], "more": 0, "failed_runs": 0}
    assert run_command("outbox", "list", "--json") == (0, report)


def test_store_that_cannot_be_used_is_an_error_of_each_command(configure, tmp_path, run_command):
    """The exit code is 1, and the message has the address and what to do."""
    configure(database=f"sqlite:///{tmp_path}")
    for command in (["list"], ["deliver"], ["discard", "i1"]):
        code, text = run_command("outbox", *command)
        assert code == 1
        assert f"The store {tmp_path} cannot be used" in text
        assert "Make it a file that this process may write to" in text
        code, report = run_command("outbox", *command, "--json")
        assert (code, report["ok"], report["error"]) == (1, False, text.strip())


def test_deliver_creates_all_and_prints_their_keys(store, run_command, connection, bzctrl):
    """Each todo is created once, and the exit code is 0."""
    add(store, "i1", title="a", age_s=1)
    add(store, "i2", title="b")
    code, text = run_command("outbox", "deliver")
    assert code == 0
    assert text.splitlines() == [
        f"created   {KEY}  {LINK}  i1",
        f"created   {KEY}  {LINK}  i2",
        "2 created, 0 kept, 0 rejected",
    ]
    assert sorted(todo["title"] for todo in sent_todos(bzctrl)) == ["a", "b"]
    report = {"ok": True, "created": [], "kept": [], "rejected": [], "busy": False}
    assert run_command("outbox", "deliver", "--json") == (0, report)
    assert len(sent_todos(bzctrl)) == 2


def test_deliver_that_leaves_something_ends_with_code_1(store, run_command, connection, bzctrl):
    """Kept and rejected incidents are printed with their reasons, and stay in the outbox."""
    add(store, "i1", priority="URGENT")
    code, text = run_command("outbox", "deliver")
    assert code == 1
    assert text.startswith("rejected  i1  ")
    assert "priority: must be HIGH, MEDIUM or LOW" in text
    assert text.endswith("\n0 created, 0 kept, 1 rejected\n")
    assert sent_todos(bzctrl) == []
    bzctrl.post(ACC.create_url, status_code=503)
    add(store, "i2")
    code, report = run_command("outbox", "deliver", "--json")
    assert (code, report["ok"], [len(report[name]) for name in COUNTED]) == (1, False, [0, 1, 0])
    assert report["kept"][0]["identity"] == "i2"
    assert "503" in report["kept"][0]["reason"]
    assert [(one.identity, one.state) for one in read(store, *STATES)] == [
        ("i1", "rejected"),
        ("i2", "waiting"),
    ]


def test_deliver_tries_a_paused_connection(store, run_command, connection, bzctrl):
    """Who runs the command knows that BzCtrl is back."""
    add(store, "i1")
    with store.transaction() as tx:
        deliveries.pause(tx, "bzctrl_default", for_s=1800, reason="BzCtrl is away.")
    assert run_command("outbox", "deliver")[0] == 0
    assert len(sent_todos(bzctrl)) == 1


def test_deliver_with_another_connection_uses_it(store, run_command, connection, bzctrl):
    """--conn-id replaces the connection of the incidents."""
    add(store, "i1", conn_id="deleted")
    assert run_command("outbox", "deliver", "--conn-id", "bzctrl_default")[0] == 0
    assert len(sent_todos(bzctrl)) == 1


def test_deliver_beside_another_delivery_sends_nothing(store, run_command, connection, bzctrl):
    """The lease of another process is respected; the report says when to run the command again."""
    add(store, "i1")
    hold_lease(store)
    code, text = run_command("outbox", "deliver")
    assert (code, text) == (
        1,
        "Nothing was sent: another process delivers. Run the command again in a minute.\n",
    )
    assert run_command("outbox", "deliver", "--json")[1]["busy"] is True
    assert bzctrl.request_history == []
    begin_delivery(store, ago_s=-61)
    assert run_command("outbox", "deliver")[0] == 0
    assert len(sent_todos(bzctrl)) == 1


def test_discard_deletes_and_releases_the_window(store, run_command, connection, bzctrl):
    """An incident that waits or was rejected is deleted and never created, and the next failure of its window raises one."""
    add(store, "i1")
    add(store, "i2", state="rejected")
    with store.transaction() as tx:
        problem = problems.lock(tx, digest_of("k"), "k").with_incident("i1", now=tx.now, window_s=3600)
        problems.save(tx, digest_of("k"), problem)
    assert run_command("outbox", "discard", "i1", "i2") == (0, "discarded i1\ndiscarded i2\n")
    assert read(store, *STATES) == []
    with store.transaction() as tx:
        assert problems.find(tx, digest_of("k")).identity is None
    assert run_command("outbox", "deliver")[0] == 0
    assert bzctrl.request_history == []


def test_discard_of_what_is_not_there_ends_with_code_1(store, run_command):
    """An unknown identity, and one that was delivered or is being sent, is named; the others are discarded."""
    add(store, "i1")
    add(store, "i2", state="delivered")
    add(store, "i3", state="sending")
    code, report = run_command("outbox", "discard", "i1", "i2", "i3", "i4", "--json")
    assert (code, report) == (1, {"ok": False, "discarded": ["i1"]})
    assert run_command("outbox", "discard", "i2") == (1, "not there i2\n")
    assert [one.identity for one in read(store, *STATES)] == ["i2", "i3"]


def test_format_span_uses_the_largest_unit():
    """An age is one number with its unit."""
    ages = {-5: "0 s", 59.9: "59 s", 60: "1 min", 7199: "1 h", 86_400 * 400: "400 d"}
    assert {seconds: format_span(seconds) for seconds in ages} == ages
