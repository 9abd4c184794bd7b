from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION, VERSION

FILES = Path(__file__).parent / "files"

pytestmark = pytest.mark.skipif(VERSION < (3, 2), reason="older API servers have other ways to log in")


@pytest.fixture(scope="module")
def links(_database):
    """Return what asks Airflow's API for the links of a task."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET",
            "a secret of these tests, which has 64 bytes at least for SHA-512",
        )
        with TestClient(create_app(apps="core")) as client:
            token = client.get("/auth/token").json()["access_token"]

            def ask(dag_run, task_id, map_index=-1):
                path = f"/api/v2/dags/{dag_run.dag_id}/dagRuns/{dag_run.run_id}/taskInstances/{task_id}/links"
                response = client.get(
                    path, params={"map_index": map_index}, headers={"Authorization": f"Bearer {token}"}
                )
                return response.json()["extra_links"]

            yield ask


@pytest.mark.skipif(
    not CALLBACKS_HAVE_THE_EXCEPTION, reason="in dag.test() of 3.2, a callback looks like that of a lost task"
)
def test_task_whose_callback_raised_an_incident_has_its_link(run, bzctrl_sandbox, links):
    """Airflow's API returns it for that task; one whose callback did not run has none, which the UI does not show."""
    dag_run, _ = run(FILES / "callbacks.py", "of_a_task")
    (todo,) = bzctrl_sandbox.todos
    assert links(dag_run, "totals") == {"BzCtrl todo": todo["taskLink"]}
    assert links(dag_run, "amounts") == {"BzCtrl todo": None}


def test_task_without_a_callback_of_its_own_declares_no_link(run, bzctrl_sandbox, links):
    """Airflow shows a heading for links that are declared, even if there is none."""
    dag_run, tasks = run(FILES / "callbacks.py", "of_a_run")
    assert {task_id: links(dag_run, task_id) for task_id in tasks} == {"totals": {}}


def test_task_with_several_todos_has_a_link_to_each(run, bzctrl_sandbox, links):
    """The links are in the order of the todos."""
    dag_run, _ = run(FILES / "many.py", "a_list")
    by_title = {todo["title"]: todo["taskLink"] for todo in bzctrl_sandbox.todos}
    found = {name: link for name, link in links(dag_run, "create").items() if link}
    assert found == {
        "BzCtrl todo": by_title["t0"],
        **{f"BzCtrl todo {n + 1:02}": by_title[f"t{n}"] for n in range(1, 5)},
    }
    assert list(found) == sorted(found)


def test_task_with_more_than_ten_todos_has_ten_links(run, bzctrl_sandbox, links):
    """The tenth link is that of the tenth todo, and the eleventh todo has none."""
    dag_run, _ = run(FILES / "many.py", "more_than_ten")
    found = links(dag_run, "create")
    assert len(found) == 10
    (tenth,) = [todo["taskLink"] for todo in bzctrl_sandbox.todos if todo["title"] == "t9"]
    assert found["BzCtrl todo 10"] == tenth


def test_task_that_fails_for_one_of_its_todos_has_the_links_of_the_others(run, bzctrl_sandbox, links):
    """The todos exist, whatever the state of the task."""
    dag_run, tis = run(FILES / "many.py", "partly_faulty")
    assert str(tis["create"][0].state) == "failed"
    found = [link for link in links(dag_run, "create").values() if link]
    assert sorted(found) == sorted(todo["taskLink"] for todo in bzctrl_sandbox.todos)


def test_mapped_task_with_todos_of_a_function_has_the_link_of_its_own_todo(run, bzctrl_sandbox, links):
    """Each instance has that of its own, and a task that was skipped has none."""
    dag_run, _ = run(FILES / "many.py", "decorated")
    by_title = {todo["title"]: todo["taskLink"] for todo in bzctrl_sandbox.todos}
    for index, name in enumerate("ab"):
        found = {key: link for key, link in links(dag_run, "each", index).items() if link}
        assert found == {"BzCtrl todo": by_title[f"{name} of decorated"]}
    assert not any(links(dag_run, "nothing").values())
