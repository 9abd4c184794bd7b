from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.client.retry import SendFailure, backoff_s, parse_retry_after, should_retry

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def test_parse_retry_after_seconds_or_date_is_read():
    """An invalid value is ignored; a time in the past is a wait of 0 seconds."""
    table = {
        "0": 0.0,
        "7": 7.0,
        "3600": 3600.0,
        "-5": 0.0,
        "Sat, 21 Nov 2026 12:00:30 GMT": 30.0,
        "Sat, 21 Nov 2026 11:00:00 GMT": 0.0,
        **dict.fromkeys(
            ["soon", "", "nan", "inf", "Sat, 99 Nov 2026 12:00:30 GMT", "Sat, 21 Nov 2026 12:00:30 -0000"]
        ),
    }
    for header, seconds in table.items():
        assert parse_retry_after(header, now=NOW) == seconds, header


def test_backoff_s_more_failures_doubles():
    """Without jitter half a second, one, two, four, and at most ten; Retry-After wins, but holds no task for an hour."""
    waits = [backoff_s(n, asked_s=None, jitter=0.0) for n in range(1, 8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert [backoff_s(2, asked_s=asked, jitter=0.9) for asked in (0.0, 7.0, 3600.0)] == [0.0, 7.0, 60.0]


@given(st.integers(1, 100), st.floats(0, 1))
def test_backoff_s_any_jitter_stays_in_the_second_half(failures, jitter):
    """No wait is shorter than half of its step, and none longer than the step."""
    longest = backoff_s(failures, asked_s=None, jitter=1.0)
    assert longest / 2 <= backoff_s(failures, asked_s=None, jitter=jitter) <= longest <= 20.0


def test_should_retry_each_outcome_follows_the_table():
    """The retry table of the documents, row by row: whether the token and the create request are sent again."""
    table = {
        (True, True): [SendFailure.NOT_CONNECTED, 429, 503],
        (True, False): [SendFailure.NO_RESPONSE, 500, 502, 504],
        (False, False): [SendFailure.UNTRUSTED, SendFailure.UNSENDABLE, 103, 200, 204, 301, 307, 400, 401, 403, 404, 408,
                         413, 501, 505],
    }  # fmt: skip
    for again, outcomes in table.items():
        for outcome in outcomes:
            assert (should_retry("token", outcome), should_retry("create", outcome)) == again, outcome


@given(st.sampled_from([*SendFailure, *HTTPStatus]))
def test_should_retry_any_outcome_create_is_not_riskier_than_token(outcome):
    """Nothing sends a todo again that would not send a token request again."""
    assert should_retry("token", outcome) or not should_retry("create", outcome)
