from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import RaisingInComparisons, Secretive
from support.spool import NOON, new_entry

from bzctrl_provider.spool import WriteResult, identify, spool_path, spool_todo, write_entry
from bzctrl_provider.spool.folder import Folder
from bzctrl_provider.spool.ledger import Ledger, Todo, Waiting


@pytest.fixture
def folder(tmp_path, configure):
    """Configure a spool in a local folder that does not exist yet."""
    path = tmp_path / "deep" / "spool"
    configure(spool_path=f"file://{path}")
    return path


def deliver(folder, entry):
    """Leave the tombstone of a delivery."""
    waiting = Waiting(name=f"{entry.identity}.json", entry=entry)
    Ledger(Folder(folder)).bury(waiting, Todo(key="K-1", link="https://k.example/1"), now=NOON, others=[])


@pytest.mark.parametrize("option", [None, "", "  "])
def test_spool_path_unset_is_below_airflow_home(configure, option):
    """A deployment that sets nothing has a spool."""
    configure(**({} if option is None else {"spool_path": option}))
    assert spool_path() == f"{os.environ['AIRFLOW_HOME']}/bzctrl_spool"


def test_write_entry_makes_private_folder_and_file(folder):
    """Nobody but the user of Airflow reads the incidents, whatever the umask."""
    old = os.umask(0)
    try:
        written = write_entry(new_entry())
    finally:
        os.umask(old)
    (file,) = folder.iterdir()
    assert written == WriteResult(address=f"file://{file}")
    assert file.name == f"{new_entry().identity}.json"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_write_entry_of_the_same_identity_keeps_the_first(folder):
    """A callback that Airflow calls twice is one incident."""
    first = write_entry(new_entry(title="first"))
    second = write_entry(new_entry(title="second"))
    assert (first.already, second.already) == (False, True)
    assert second.address == first.address
    (file,) = folder.iterdir()
    assert json.loads(file.read_text())["todo"]["title"] == "first"


def test_write_entry_of_a_delivered_identity_returns_its_link(folder):
    """The tombstone keeps a second callback from raising it again."""
    write_entry(new_entry())
    deliver(folder, new_entry())
    again = write_entry(new_entry())
    assert again == WriteResult(
        address=f"file://{folder}/delivered/{new_entry().identity}.json",
        already=True,
        key="K-1",
        link="https://k.example/1",
    )
    assert [path.name for path in folder.iterdir()] == ["delivered"]


def test_write_entry_with_a_damaged_tombstone_writes_nothing(folder):
    """It was delivered; only its link is unknown."""
    (folder / "delivered").mkdir(parents=True)
    (folder / "delivered" / f"{new_entry().identity}.json").write_text("[")
    again = write_entry(new_entry())
    assert (again.already, again.key, again.link) == (True, None, None)


def test_write_entry_while_it_is_delivered_leaves_no_file(folder, monkeypatch):
    """A delivery that ends between the look for a tombstone and the write does not make a duplicate."""
    create = Folder.create

    def deliver_before(self, path, content):
        deliver(folder, new_entry())
        return create(self, path, content)

    monkeypatch.setattr(Folder, "create", deliver_before)
    assert write_entry(new_entry()).key == "K-1"
    assert [path.name for path in folder.iterdir()] == ["delivered"]


def test_write_entry_of_a_rejected_identity_writes_nothing(folder):
    """It would be rejected again."""
    waiting = Waiting(name=f"{new_entry().identity}.json", entry=new_entry())
    Ledger(Folder(folder)).reject(waiting, "422", others=[])
    again = write_entry(new_entry())
    assert (again.already, again.address.rpartition("/")[0]) == (True, f"file://{folder}/rejected")


@pytest.mark.parametrize("path", ["file:///proc/spool", "nosuchscheme://bucket", "relative/path", "off"])
def test_write_entry_to_an_unusable_path_raises_os_error(configure, path):
    """A callback has one kind of error to expect; it names the spool, the reason and the remedy."""
    configure(spool_path=path)
    with pytest.raises(OSError, match=f"(?s)could not be written into the spool {path}: .* set spool_path"):
        write_entry(new_entry())


def test_write_entry_to_another_path_writes_there(tmp_path, configure):
    """For a spool that is not the configured one."""
    configure(spool_path="/dev/null/spool")
    assert write_entry(new_entry(), path=tmp_path).address.startswith(f"file://{tmp_path}/")


def test_spool_todo_without_identity_writes_each(folder):
    """Each is a todo of its own; one of unknown outcome says so."""
    addresses = [
        spool_todo({"title": "T"}, bzctrl_conn_id="a", reason="r", now=NOON, outcome_unknown=unknown)
        for unknown in (False, True)
    ]
    contents = [json.loads(Path(address.removeprefix("file://")).read_text()) for address in addresses]
    assert [content.get("unanswered_at") for content in contents] == [None, ["2026-11-21T12:00:00Z"]]


def test_spool_todo_with_identity_writes_once(folder):
    """As a task does on its last try, which may run twice."""
    identity = identify("a", "dag", "run", "task")
    for _ in range(2):
        spool_todo({"title": "T"}, bzctrl_conn_id="a", reason="r", identity=identity, facts={"dag_id": "dag"})
    (file,) = folder.iterdir()
    assert json.loads(file.read_text())["facts"] == {"dag_id": "dag"}


def test_write_entry_is_light(tmp_path):
    """A callback loads no HTTP library, no model and no object storage, and needs less than 5 ms for an entry."""
    code = (
        "import sys, time\n"
        "from datetime import UTC, datetime\n"
        "from airflow.configuration import conf, get_airflow_home\n"
        "from airflow.providers.common.compat.sdk import redact\n"
        "before = set(sys.modules)\n"
        "from bzctrl_provider.spool import Entry, deliver_soon, identify, write_entry\n"
        "def write(n):\n"
        "    fields = {'title': 'T', 'description': 'D' * 2000, 'order_id': 'O'}\n"
        "    write_entry(Entry(fields=fields, bzctrl_conn_id='a', identity=identify(n), spooled_at=datetime.now(UTC)))\n"
        "write(0)\n"
        "began = time.process_time()\n"
        "for n in range(1, 101): write(n)\n"
        "print((time.process_time() - began) / 100)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new & {'requests', 'pydantic', 'fsspec', 'urllib3', 'aiohttp', 'upath'}))\n"
        "ours = {name for name in sys.modules if name.startswith('bzctrl_provider.')}\n"
        "print(*sorted(name for name in ours if 'client' in name or 'hooks' in name))"
    )
    env = os.environ | {"AIRFLOW__BZCTRL__SPOOL_PATH": str(tmp_path / "spool")}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True, env=env
    )
    cpu_s, heavy, ours = result.stdout.splitlines()[-3:]
    assert (heavy, ours) == ("", "")
    assert float(cpu_s) < 0.005


@pytest.mark.security
def test_spool_todo_object_in_field_is_written_as_its_type(tmp_path, monkeypatch):
    """Its type does: the file is read by people, and its own text may be a secret."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", f"file://{tmp_path}")
    spool_todo(
        {"title": "t", "lrn": Secretive(), "category": [RaisingInComparisons()]},
        bzctrl_conn_id="bzctrl_default",
        reason="r",
    )
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["todo"] == {
        "title": "t",
        "lrn": "an object of type Secretive",
        "category": ["an object of type RaisingInComparisons"],
    }
