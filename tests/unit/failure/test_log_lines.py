from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, mask_secret
from support.airflow_versions import VERSION
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider import airflow_compat as internals
from bzctrl_provider import policy
from bzctrl_provider.failure import reasons, remember_exception
from bzctrl_provider.failure.lookup import describe_callback
from bzctrl_provider.failure.reasons import EXCEPTION_XCOM_KEY, KeepLogLines, find_reason, read_log_lines
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

log = logging.getLogger("customs")


@pytest.fixture(autouse=True)
def _own_log(monkeypatch):
    """Give each test a log to which nothing is attached, with the level of a worker's."""
    monkeypatch.setattr(reasons, "_tail", reasons._Tail())
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(log, "level", logging.DEBUG)
    if VERSION >= (3, 0):
        import structlog

        processors = structlog.get_config()["processors"]
        before = list(processors)
        yield
        processors[:] = before
    else:
        yield


def begin(lines=50, **changes):
    """Begin a task that keeps lines, and return the context of its failure."""
    context = new_task_context(ti=TaskInstance(**changes))
    KeepLogLines(lines)(context)
    return context


def test_log_lines_are_the_last_ones_without_details_colors_and_gaps():
    """As many as are asked for, of a message of several lines as well; nothing that the log does not have either."""
    context = begin(3)
    for number in range(10):
        log.info("row %d", number)
    log.debug("a detail")
    log.warning("\x1b[31mlate\x1b[0m  \n\nby %d days\x07", 3)
    assert read_log_lines(context, 50) == "row 8\nrow 9\nlate\nby 3 days\ufffd"
    assert find_reason(context, log_lines=50).log == read_log_lines(context, 50)


def test_log_lines_end_when_airflow_logs_the_failure():
    """Airflow's own steps are left out, and all that is logged after the failure, such as by another callback."""
    context = begin()
    runner = "task" if VERSION >= (3, 0) else "airflow.task"
    step = logging.LogRecord(runner, logging.INFO, "/taskinstance.py", 1, "Post Execute", None, None)
    failed = logging.LogRecord(runner, logging.ERROR, "/taskinstance.py", 1, "Task failed", None, None)
    logging.getLogger().handle(step)
    log.error("an error that the task goes on after")
    log.info("the last line")
    logging.getLogger().handle(failed)
    log.info("a line of a callback")
    assert read_log_lines(context, 50) == "an error that the task goes on after\nthe last line"


@pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 has no structlog")
def test_log_lines_of_structlog_are_kept_by_loggers_in_use(monkeypatch):
    """Hooks log with structlog from Airflow 3.1 on; a second task in one process adds no second processor."""
    import structlog

    written = []
    processors = [lambda _logger, _method, event: written.append(event) or str(event)]
    factory = SimpleNamespace(info=lambda _: None, error=lambda _: None, debug=lambda _: None)
    used = structlog.wrap_logger(factory, processors=processors, wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr(structlog, "get_config", lambda: {"processors": processors})
    used.info("before")
    context = begin()
    context = begin()

    class Hostile:
        def __str__(self):
            raise RuntimeError

    used.debug("a detail")
    used.info("connected", host="h")
    used.info(Hostile())
    used.error("refused")
    used.info("a step of Airflow", logger="task")
    used.error("Task failed", logger_name="task")
    used.info("after")
    assert read_log_lines(context, 50) == "connected\nrefused"
    assert len(written) == 8


def test_log_lines_of_a_bad_record_cost_nothing():
    """A record whose arguments do not fit is in the log as an error of logging, and the task goes on."""
    context = begin()
    logging.getLogger().handlers[:] = [reasons._tail]
    log.info("%d rows", "no")
    log.info("good")
    assert read_log_lines(context, 50) == "good"


@pytest.mark.security
def test_log_lines_long_line_is_redacted_before_it_is_cut():
    """A secret across the cut leaves no half of itself, and neither does one that is masked only later."""
    context = begin()
    mask_secret("s3cret-of-a-log")
    log.info("%ss3cret-of-a-log%s", "x" * 500, "y" * 1995)
    mask_secret("s3cret-of-later")
    log.info("token s3cret-of-later")
    text = read_log_lines(context, 50)
    assert "s3cret" not in text
    assert "cret" not in text
    # The rest of the line may be a secret of another test.
    assert text.rpartition("\n")[2].endswith(" ***")
    assert len(text) == 2000


def test_log_lines_of_another_task_of_the_process_are_not_read():
    """In a test run, one process runs all tasks, of which some keep lines and others do not."""
    begin(task_id="first")
    log.info("of the first")
    assert read_log_lines(new_task_context(ti=TaskInstance(task_id="second")), 50) is None


def test_log_lines_printed_by_a_task_are_kept_where_another_process_logs_them(monkeypatch):
    """Airflow 3 opens the channels of a task's process by their numbers; what has no end of a line yet is bounded."""
    monkeypatch.setattr(internals, "airflow_at_least", lambda *_: True)
    written = []

    class Stream:
        name = 1

        def write(self, text):
            written.append(text)
            return len(text)

    stream = Stream()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.setitem(sys.modules, "structlog", SimpleNamespace(get_config=lambda: {"processors": []}))
        context = begin()
        context = begin()
        print("read", 7, "rows")  # noqa: T201 - as a task does
        print("no end" * 1000, end="")  # noqa: T201
        print("\nlate")  # noqa: T201
        assert sys.stdout.write("more") == 4
    lines = read_log_lines(context, 50).splitlines()
    assert lines[-1] == "late"
    assert "".join(written).endswith("\nlate\nmore")
    assert written[0] == "read"
    assert len("\n".join(lines)) == 2000


def test_keep_log_lines_the_most_lines_count_and_own_callbacks_stay():
    """Several may ask for the lines of one task; an empty task has none, and the scheduler need not run it for them."""

    def mine(context):
        """Replace a callback of the task's own."""

    check = BaseOperator(task_id="check", on_execute_callback=mine)
    for lines in (5, 0, 20, 5):
        reasons.keep_log_lines(check, lines)
    assert check.on_execute_callback[0] == KeepLogLines(20)
    assert check.on_execute_callback[-1] is mine
    assert reasons.count_kept_lines(check) == 20
    empty = SimpleNamespace(inherits_from_empty_operator=True, on_execute_callback=[])
    reasons.keep_log_lines(empty, 20)
    assert empty.on_execute_callback == []
    without = BaseOperator(task_id="without")
    reasons.keep_log_lines(without, 0)
    assert not without.on_execute_callback


@pytest.mark.parametrize(
    ("options", "parameter", "kept"),
    [
        ({}, None, 0),
        ({"include_log_lines": "20"}, None, 20),
        ({"include_log_lines": "20"}, 5, 5),
        ({"include_log_lines": "20"}, 0, 0),
        ({}, 50, 50),
        ({"include_log_lines": "51"}, None, 0),
        ({"include_log_lines": "20", "remember_exceptions": "False"}, None, 0),
    ],
)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_roll_up_parameter_and_option_set_what_tasks_before_it_keep(
    configure, options, parameter, kept, is_mapped
):
    """The parameter counts before the option, also of a mapped operator, which the policy finds, and of a task connected later."""
    configure(**options)
    given = {} if parameter is None else {"include_log_lines": parameter}
    with DAG("customs", schedule=None) as dag:
        check = BaseOperator(task_id="check")
        if is_mapped:
            roll_up = IncidentOnFailureOperator.partial(task_id="raise_incident", **given)
            check >> roll_up.expand(domain_workspace=["A", "B"])
        else:
            check >> IncidentOnFailureOperator(task_id="raise_incident", **given)
        BaseOperator(task_id="extract") >> check
    policy.dag_policy(dag)
    assert reasons.count_kept_lines(dag.get_task("check")) == kept
    assert reasons.count_kept_lines(dag.get_task("extract")) == kept


def test_roll_up_after_another_one_lets_tasks_keep_more_lines(configure):
    """The search for the tasks before it does not end at those that keep only their exceptions."""
    configure()
    with DAG("customs", schedule=None):
        extract = BaseOperator(task_id="extract")
        check = BaseOperator(task_id="check")
        extract >> check >> IncidentOnFailureOperator(task_id="first")
        check >> IncidentOnFailureOperator(task_id="second", include_log_lines=9)
    assert reasons.count_kept_lines(extract) == reasons.count_kept_lines(check) == 9


@pytest.mark.parametrize("number", [-1, 51, True, "5", 1.0])
def test_roll_up_invalid_number_of_lines_is_an_error_of_the_dag_file(number):
    """With the allowed numbers."""
    with pytest.raises(ValueError, match="include_log_lines: must be a whole number from 0 to 50, not"):
        IncidentOnFailureOperator(task_id="raise_incident", include_log_lines=number)


def test_policy_lets_tasks_with_a_notifier_keep_lines(configure):
    """Those with a notifier of their own, for failures or retries, all of a DAG with one, and all if each keeps its exception."""
    configure(include_log_lines="7")
    with DAG("of_tasks", schedule=None) as of_tasks:
        BaseOperator(task_id="fails", on_failure_callback=BzCtrlNotifier())
        BaseOperator(task_id="retries", on_retry_callback=[BzCtrlNotifier(on_retry=True)])
        BaseOperator(task_id="silent")
    with DAG("of_dag", schedule=None, on_failure_callback=BzCtrlNotifier()) as of_dag:
        BaseOperator(task_id="check")
    for dag in (of_tasks, of_dag):
        policy.dag_policy(dag)
    kept = {task.task_id: reasons.count_kept_lines(task) for dag in (of_tasks, of_dag) for task in dag.tasks}
    assert kept == {"fails": 7, "retries": 7, "silent": 0, "check": 7}
    configure(include_log_lines="7", remember_exceptions="True")
    other = BaseOperator(task_id="other")
    policy.task_policy(other)
    assert reasons.count_kept_lines(other) == 7


def test_notifier_of_a_task_shows_as_many_lines_as_the_option_says(configure):
    """Also if a roll-up asked for more, whose incident is another one; templates have them, too."""
    configure(include_log_lines="2")
    context = begin()
    for number in range(5):
        log.info("row %d", number)
    failure = describe_callback(context)
    assert failure.tasks[0].log == "row 3\nrow 4"
    assert "  OSError: disk full\n  Last lines of its log:\n  | row 3\n  | row 4\n\n" in str(
        failure.description
    )
    configure(include_log_lines="0")
    assert describe_callback(context).tasks[0].log is None


@pytest.mark.security
def test_find_reason_failed_checks_have_no_log_lines(configure):
    """A SQL check logs whole rows: its lines are kept only if values are switched on."""
    result = SimpleNamespace(success=False, name="totals", actual="(0, 'Jan Jansen')", expected="all truthy")
    context = begin()
    context["task"].check_results = [result]
    log.info("Record: (0, 'Jan Jansen')")
    configure()
    assert find_reason(context, log_lines=50).log is None
    configure(include_check_values="True")
    assert find_reason(context, log_lines=50).log == "Record: (0, 'Jan Jansen')"


def test_remember_exception_keeps_the_lines_beside_the_exception(configure):
    """In the one XCom of the task, from which the incident of a roll-up has them."""
    configure()
    context = begin()
    log.info("the last line")
    remember_exception(context)
    ((key, value),) = context["ti"].pushed
    assert key == EXCEPTION_XCOM_KEY
    assert value == {"exception": "OSError: disk full", "log": "the last line"}


def test_add_to_task_log_reaches_a_logger_that_does_not_propagate(monkeypatch):
    """Airflow 2 may keep the log of tasks to their own handlers; the records of one logger are kept once."""
    monkeypatch.setattr(logging.getLogger("airflow.task"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("airflow.task"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("airflow.task"), "level", logging.INFO)
    context = begin()
    begin_again = KeepLogLines(50)
    begin_again(context)
    logging.getLogger("airflow.task.hooks.subprocess").info("of a hook")
    log.info("of a module")
    assert read_log_lines(context, 50) == "of a hook\nof a module"
