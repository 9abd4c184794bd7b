from __future__ import annotations

import json

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.import_errors.reporter import find_dag_file, parse_interval_s

on_airflow_3 = pytest.mark.skipif(VERSION < (3, 0), reason="bundles are of Airflow 3")

LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"
GIT = "airflow.providers.git.bundles.git.GitDagBundle"


@pytest.fixture
def set_bundles(monkeypatch):
    """Return a function that configures bundles, and the DAGs folder ``/dags``."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/dags")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", "/bundles")

    def set_list(*bundles):
        value = [{"name": n, "classpath": c, "kwargs": kwargs} for n, c, kwargs in bundles]
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(value))

    set_list(("company", LOCAL, {}))
    return set_list


def test_find_dag_file_is_relative_to_the_dags_folder(set_bundles):
    """The path is the one that an author knows, on all versions."""
    bundle = "company" if VERSION >= (3, 0) else None
    assert find_dag_file("/dags/customs/orders.py") == ("customs/orders.py", bundle)


def test_find_dag_file_elsewhere_is_the_whole_path(set_bundles):
    """A folder that only begins with the same letters is another one."""
    assert find_dag_file("/dags2/orders.py") == ("/dags2/orders.py", None)
    assert find_dag_file("orders.py") == ("orders.py", None)


def test_find_dag_file_follows_links(set_bundles, tmp_path, monkeypatch):
    """The DAGs folder of many deployments is a link to the current version."""
    (tmp_path / "versions" / "1").mkdir(parents=True)
    (tmp_path / "dags").symlink_to(tmp_path / "versions" / "1")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    for folder in ("dags", "versions/1"):
        assert find_dag_file(str(tmp_path / folder / "orders.py"))[0] == "orders.py"


@on_airflow_3
def test_find_dag_file_in_the_innermost_bundle(set_bundles):
    """Bundles may be within each other."""
    set_bundles(("all", LOCAL, {"path": "/dags"}), ("customs", LOCAL, {"path": "/dags/customs/"}))
    assert find_dag_file("/dags/customs/orders.py") == ("orders.py", "customs")
    assert find_dag_file("/dags/feeds/orders.py") == ("feeds/orders.py", "all")


@on_airflow_3
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"git_conn_id": "g"}, "/bundles/team/tracking_repo/orders.py"),
        ({"git_conn_id": "g", "subdir": "dags"}, "/bundles/team/tracking_repo/dags/orders.py"),
        ({"bucket_name": "b"}, "/bundles/team/orders.py"),
    ],
)
def test_find_dag_file_of_a_downloaded_bundle_makes_no_bundle(set_bundles, arguments, path):
    """A bundle that is made looks its connection up, which a listener must not do; its folders are known."""
    set_bundles(("team", GIT, arguments))
    assert find_dag_file(path) == ("orders.py", "team")


def test_parse_interval_s_is_the_configured_one(monkeypatch):
    """The option is in another section on Airflow 3."""
    section = "DAG_PROCESSOR" if VERSION >= (3, 0) else "SCHEDULER"
    monkeypatch.setenv(f"AIRFLOW__{section}__MIN_FILE_PROCESS_INTERVAL", "7")
    assert parse_interval_s() == 7
