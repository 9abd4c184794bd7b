"""The path of a DAG file as its author knows it: relative to its bundle, or to the DAGs folder.

Only from the configuration: the bundle of a repository looks up a connection when it is made.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class DagFile:
    """Name a DAG file.

    :param path: its path, relative to the root of its bundle if that is known.
    :param bundle: the name of its bundle; None on Airflow 2, or if it is not known.
    """

    path: str
    bundle: str | None = None


def find_dag_file(filename: str) -> DagFile:
    """Return the names of a DAG file. Never raises."""
    found = DagFile(path=filename)
    root_chars = 0
    for bundle, root in _roots():
        relative = _relative(filename, root)
        if relative and len(root) > root_chars:
            found, root_chars = DagFile(path=relative, bundle=bundle), len(root)
    return found


def _relative(filename: str, root: str) -> str | None:
    # Airflow 2 resolves links in the path of a file, and not in that of its folder.
    for start in {os.path.normpath(root), os.path.realpath(root)}:
        path = os.path.normpath(filename)
        if path.startswith(f"{start}{os.sep}"):
            return path[len(start) + 1 :]
    return None


def _roots() -> Iterator[tuple[str | None, str]]:
    try:
        dags_folder = conf.get("core", "dags_folder")
        if not airflow_at_least(3, 0):
            yield None, dags_folder
            return
        bundles: Any = conf.getjson("dag_processor", "dag_bundle_config_list")
        storage = conf.get("dag_processor", "dag_bundle_storage_path", fallback=None)
        for bundle in bundles or []:
            name, arguments = str(bundle["name"]), bundle.get("kwargs") or {}
            if arguments.get("path"):
                yield name, str(arguments["path"])
            elif str(bundle.get("classpath", "")).endswith("LocalDagBundle"):
                yield name, dags_folder
            else:
                yield from ((name, root) for root in _downloaded(name, storage, arguments))
    except Exception:  # noqa: BLE001 - the whole path names the file as well
        return


def _downloaded(name: str, storage: str | None, arguments: dict[str, Any]) -> Iterator[str]:
    """Yield where a bundle of Airflow's providers keeps its files."""
    base = Path(storage or Path(tempfile.gettempdir()) / "airflow" / "dag_bundles") / name
    subdir = str(arguments.get("subdir") or "").strip("/")
    for folder in (base, base / "tracking_repo"):
        yield str(folder)
        if subdir:
            yield str(folder / subdir)


def parse_interval_s() -> float:
    """Return the configured seconds between two parses of a file. Never raises."""
    try:
        section = "dag_processor" if airflow_at_least(3, 0) else "scheduler"
        return float(conf.getint(section, "min_file_process_interval"))
    except Exception:  # noqa: BLE001 - the interval decides only when a file that Airflow forgets counts as repaired
        return _DEFAULT_INTERVAL_S
