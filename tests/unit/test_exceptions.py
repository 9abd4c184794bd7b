from __future__ import annotations

import copy
import pickle

import pytest

from bzctrl_provider import exceptions
from bzctrl_provider.exceptions import (
    BzCtrlAPIError,
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlConfigError,
    BzCtrlError,
    BzCtrlOutcomeUnknownError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)

EXAMPLES = [
    BzCtrlError("m", outcome_unknown=True),
    BzCtrlConfigError("The connection:", [("host", "is missing"), ("login", "is missing")]),
    BzCtrlValidationError("The todo:", [("title", "is mandatory")]),
    BzCtrlAuthError("m"),
    BzCtrlTransportError("m", outcome_unknown=True),
    BzCtrlOutcomeUnknownError("m", outcome_unknown=True),
    BzCtrlAPIError("m", status_code=418, body_excerpt="b"),
    BzCtrlRejectedError("m", status_code=400, body_excerpt="b"),
    BzCtrlRateLimitError("m", status_code=429, retry_after_s=7.5),
    BzCtrlServerError("m", status_code=500, outcome_unknown=True),
    BzCtrlBadAnswerError("m", status_code=200, outcome_unknown=True),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "through", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_error_pickled_or_copied_keeps_its_facts(error, through):
    """A copy and a pickled error have the type, the message and every attribute of the original."""
    other = through(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_error_classes_are_the_promised_tree():
    """Who catches a base class catches all below it, and a faulty todo also as a ValueError."""
    tree = {error: error.__base__ for error in map(type, EXAMPLES)}
    assert (
        tree[BzCtrlRateLimitError] is tree[BzCtrlServerError] is tree[BzCtrlBadAnswerError] is BzCtrlAPIError
    )
    assert all(issubclass(error, BzCtrlError) for error in tree)
    assert issubclass(BzCtrlValidationError, ValueError)
    assert not issubclass(BzCtrlConfigError, ValueError)


def test_exceptions_docstring_names_every_public_error():
    """The drawing at the top of the module leaves nobody out."""
    public = [name for name in vars(exceptions) if name.startswith("BzCtrl")]
    assert len(public) == 11
    assert all(name in (exceptions.__doc__ or "") for name in public)


def test_errors_are_named_tuples_and_in_the_message():
    """Each error of the input is a line of the message and can be read by program."""
    error = EXAMPLES[1]
    assert str(error) == "The connection:\n- host: is missing\n- login: is missing"
    assert error.errors[0].field == "host"
    assert error.errors[0].problem == "is missing"
    assert not error.outcome_unknown


def test_error_answers_what_to_do_after_it():
    """Whether a retry helps, whether other todos meet the same error, and for how long to keep off the connection."""
    answers = {
        (True, "connection", None): [
            BzCtrlConfigError("m", [("host", "is missing")]),
            *(BzCtrlRejectedError("m", status_code=status) for status in (302, 404, 405, 407)),
        ],
        (True, "connection", 60.0): [BzCtrlAuthError("m")],
        (True, "todo", None): [
            BzCtrlValidationError("m", [("title", "is mandatory")]),
            BzCtrlOutcomeUnknownError("m", outcome_unknown=True),
            *(BzCtrlRejectedError("m", status_code=status) for status in (400, 403, 409, 413, 422)),
        ],
        (False, "connection", None): [
            BzCtrlTransportError("m"),
            BzCtrlServerError("m", status_code=503),
            BzCtrlRateLimitError("m", status_code=429),
        ],
        (False, "connection", 7.5): [BzCtrlRateLimitError("m", status_code=429, retry_after_s=7.5)],
        (False, "todo", None): [
            BzCtrlError("m"),
            BzCtrlTransportError("m", outcome_unknown=True),
            BzCtrlServerError("m", status_code=500, outcome_unknown=True),
            BzCtrlBadAnswerError("m", status_code=200, outcome_unknown=True),
        ],
    }
    for expected, errors in answers.items():
        for error in errors:
            assert (error.is_permanent, error.concerns, error.pause_s) == expected, repr(error)
            assert len(error.errors) == isinstance(error, BzCtrlConfigError | BzCtrlValidationError)
