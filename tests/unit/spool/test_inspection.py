from __future__ import annotations

import pytest
from support.spool import MINUTE, NOON, StoreInMemory, new_entry

from bzctrl_provider.spool.inspection import inspect_spool


class FailingStore(StoreInMemory):
    """A storage that cannot read."""

    def read(self, path):
        raise RuntimeError("the storage is down")


class DeliveredMeanwhile(StoreInMemory):
    """A storage whose entries are delivered after they were listed."""

    def read(self, path):
        raise FileNotFoundError(path)


def fill(store, *numbers):
    for number in numbers:
        entry = new_entry(number)
        store.write(f"{entry.identity}.json", entry.as_bytes())
    return store


def test_inspect_spool_counts_and_changes_nothing():
    """Hidden files and tombstones are left out, and the oldest is known."""
    store = fill(StoreInMemory(), 3, 1)
    store.write(".attempt.json", b"{}")
    store.write("delivered/a.json", b"{}")
    store.write("rejected/b.json", b"[")
    before = dict(store.files)
    found = inspect_spool(store)
    assert (found.waiting_count, found.unusable_count, found.rejected_count, found.count) == (2, 0, 1, 3)
    assert [item.entry.fields["title"] for item in found.items[:2]] == ["T001", "T003"]
    assert found.oldest_s(NOON + 2 * MINUTE) == 60
    assert found.items[2].reason.startswith("it is not JSON")
    assert store.files == before


def test_inspect_spool_reads_at_most_a_number_of_files():
    """Of a large spool the rest is only counted."""
    found = inspect_spool(fill(StoreInMemory(), 1, 2, 3), read_max=2)
    assert (len(found.items), found.waiting_count, found.count) == (2, 3, 3)


@pytest.mark.parametrize(("store", "states"), [(FailingStore, ["unusable"]), (DeliveredMeanwhile, [])])
def test_inspect_spool_survives_files_that_cannot_be_read(store, states):
    """A file that fails is unusable, and one that is gone is left out."""
    found = inspect_spool(fill(store(), 1))
    assert [item.state for item in found.items] == states
    assert found.oldest_s(NOON) is None
