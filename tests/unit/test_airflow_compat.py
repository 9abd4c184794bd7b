from __future__ import annotations

import datetime as dt
import os
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, XComArg
from support.airflow_versions import VERSION

from bzctrl_provider import airflow_compat as internals
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator

TEMPLATE = "{{ conn.bzctrl_default.password }}"


def map_over_data(**expand):
    """Return the DAG with a mapped task, and an instance of it as Airflow builds it from data."""
    with DAG("d", schedule=None) as dag:
        found = BaseOperator(task_id="find")
        partial = CreateTodoOperator.partial(task_id="create", description="{{ dag.dag_id }}")
        mapped = partial.expand(**expand) if expand else partial.expand_kwargs(XComArg(found))
    written = mapped.partial_kwargs["description"]
    instance = CreateTodoOperator(task_id="create", title=str(f"{TEMPLATE}"), description=written)
    return dag, mapped, instance


def find(dag, instance, index=0):
    context = {"dag": dag, "ti": SimpleNamespace(map_index=index)}
    return internals.find_mapped_data(instance, context, defaults=[instance.order_id, None])


def test_find_mapped_data_expand_kwargs_returns_only_the_data():
    """The value from data is found, and the template of the DAG file is not among the values."""
    dag, _, instance = map_over_data()
    found = find(dag, instance)
    assert TEMPLATE in found
    assert "{{ dag.dag_id }}" not in found


def test_find_mapped_data_plain_and_expand_returns_nothing():
    """Airflow itself does not render the values of `expand`, and a plain task has no data in its fields."""
    dag, _, instance = map_over_data(title=["a"])
    assert find(dag, instance) == []
    assert find(dag, instance, index=-1) == []
    with DAG("plain", schedule=None) as dag:
        plain = CreateTodoOperator(task_id="in_a_mapped_group", title=TEMPLATE)
    assert find(dag, plain, index=2) == []


def test_find_mapped_data_missing_attribute_renders_no_data(caplog):
    """If an attribute of Airflow's is missing, every value but the code's own defaults is taken for data."""
    _, mapped, instance = map_over_data()
    expand_input = mapped._expand_input_attr
    present = {name: getattr(mapped, name) for name in ("_expand_input_attr", expand_input, "partial_kwargs")}
    changed = [{name: value for name, value in present.items() if name != missing} for missing in present]
    changed.append({**present, expand_input: SimpleNamespace(value=None)})
    for tasks in [{}, *({"create": SimpleNamespace(**values)} for values in changed)]:
        caplog.clear()
        found = find(SimpleNamespace(get_task=tasks.__getitem__), instance)
        assert TEMPLATE in found
        assert "{{ dag.dag_id }}" in found
        assert "{{ run_id }}" not in found
        assert "are not rendered" in caplog.text


def test_render_template_missing_attribute_leaves_template_in_data(monkeypatch):
    """The operator sends the data as it is, and still renders its own defaults."""
    dag, mapped, instance = map_over_data()
    monkeypatch.setattr(type(mapped), "partial_kwargs", property(lambda _: 1 / 0))
    context = {"dag": dag, "ti": SimpleNamespace(map_index=0), "run_id": "run 5", "task": instance}
    render = instance.render_template
    assert render(instance.title, context) == TEMPLATE
    assert render(instance.order_id, context) == "run 5"


def test_get_partial_kwargs_missing_attribute_raises_clear_error(monkeypatch):
    """A mapped roll-up that could not be made a teardown would never run: the DAG file has an error instead."""
    monkeypatch.setattr(BaseOperator, "partial", classmethod(lambda cls, **_: SimpleNamespace()))
    with pytest.raises(TypeError, match="cannot be mapped with this version of Airflow"):
        IncidentOnFailureOperator.partial(task_id="raise_incident")


def test_mark_dag_is_read_back_and_fails_closed(caplog):
    """Marks are beside the DAG's own default arguments; a policy must not break a DAG that has none, and the log says so."""
    own = {"retries": 1}
    dag = SimpleNamespace(default_args=own)
    internals.mark_dag(dag, roll_ups=["raise_incident"])
    assert internals.read_marks(dag) == {"roll_ups": ["raise_incident"]}
    assert dag.default_args["retries"] == 1
    assert own == {"retries": 1}
    for other in (SimpleNamespace(), SimpleNamespace(default_args=None), None):
        internals.mark_dag(other, roll_ups=[])
        assert internals.read_marks(other) == {}
    assert "cannot mark a DAG" in caplog.text


def test_is_mapped_instance_missing_attribute_is_assumed():
    """An operator that may be a mapped instance is checked when it runs, so that its data breaks no DAG."""
    plain = BaseOperator(task_id="t")
    assert not internals.is_mapped_instance(plain)
    assert internals.is_mapped_instance(BaseOperator(task_id="t", _airflow_from_mapped=True))
    assert internals.is_mapped_instance(SimpleNamespace())


def test_use_metadata_database_keeps_a_choice_that_is_made(monkeypatch):
    """The variable is set as `airflow connections test` sets it, unless the process has chosen."""
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    internals.use_metadata_database()
    assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "client"
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")
    internals.use_metadata_database()
    assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "server"


def test_read_server_variable_reads_airflows_variable(monkeypatch):
    """The text of a Variable is returned, and None if there is none."""
    monkeypatch.setattr("airflow.models.variable.Variable.get", {"a": "text"}.get)
    assert internals.read_server_variable("a") == "text"
    assert internals.read_server_variable("b") is None


def test_read_dag_facts_without_a_database_returns_none(monkeypatch, caplog):
    """An Airflow without the class, or without a database, gives no facts and one warning."""
    monkeypatch.delattr("airflow.models.dag.DagModel")
    assert internals.read_dag_facts("d") is None
    assert "Skipped the look-up of the DAG in Airflow's database" in caplog.text


def test_add_link_of_computed_links_changes_nothing():
    """A class may compute its links, and a later Airflow may keep them elsewhere: the task has no link to the incident."""
    link = SimpleNamespace(name="BzCtrl todo")

    class Fixed:
        task_id = "t"
        operator_extra_links = property(lambda _: ("its own",)[:0])

    for task in (
        Fixed(),
        SimpleNamespace(task_id="t"),
        SimpleNamespace(operator_extra_links=Fixed.operator_extra_links),
    ):
        before = getattr(task, "operator_extra_links", None)
        internals.add_link(task, link)
        assert getattr(task, "operator_extra_links", None) == before


NOW = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
of_airflow_3 = pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 reads its database")


@pytest.fixture
def requested(monkeypatch):
    """Return the requests for the last successful run; there is one, whose id is ``old``."""
    from airflow.sdk.execution_time import task_runner

    requests = []

    def send(message):
        requests.append(message)
        return SimpleNamespace(dag_run=SimpleNamespace(run_id="old", end_date=NOW))

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    return requests


def find_success(*, of_task, **ti):
    context = {"dag": SimpleNamespace(dag_id="d"), "ti": SimpleNamespace(dag_id="d", task_id="t", **ti)}
    return internals.find_last_success(context, of_task=of_task)


@of_airflow_3
def test_find_last_success_of_a_dag_is_that_of_any_run(requested):
    """Also of one after the failed run's logical date, if an older run was cleared and failed."""
    assert find_success(of_task=False, map_index=-1) == NOW.timestamp()
    (request,) = requested
    assert (request.dag_id, request.state) == ("d", "success")
    # The clock of this machine may be behind those of others.
    assert request.logical_date - dt.datetime.now(dt.UTC) > dt.timedelta(days=365)


@of_airflow_3
def test_find_last_success_of_a_task_before_3_2_needs_its_state_in_the_run(requested, set_airflow_version):
    """A run can be successful although the task failed, because another one masks it."""
    set_airflow_version(3, 1)
    for state, found in [("success", NOW.timestamp()), ("failed", None)]:
        states = {"old": {"t_2": state}}
        assert find_success(of_task=True, map_index=2, get_task_states=lambda _s=states, **_: _s) == found


@of_airflow_3
def test_find_last_success_in_the_dag_processor_of_3_0_asks_for_no_states(requested, set_airflow_version):
    """There the request would hang, and a task instance has no state."""
    set_airflow_version(3, 0)
    assert find_success(of_task=True, map_index=-1, get_task_states=lambda **_: 1 / 0) == NOW.timestamp()


@of_airflow_3
def test_find_last_success_with_an_unknown_request_asks_nothing(requested, monkeypatch):
    """A DAG processor that does not know it would never respond."""
    processor = SimpleNamespace(ToManager="DagFileParsingResult | GetConnection | GetVariable")
    monkeypatch.setitem(sys.modules, "airflow.dag_processing.processor", processor)
    assert find_success(of_task=False, map_index=-1) is None
    assert not requested


@of_airflow_3
def test_find_last_success_without_a_supervisor_is_none(monkeypatch):
    """As in the callback of a DAG under `dag.test()`."""
    from airflow.sdk.execution_time import task_runner

    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    assert find_success(of_task=False, map_index=-1) is None
