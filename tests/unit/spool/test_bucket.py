from __future__ import annotations

import pytest

from bzctrl_provider.spool.bucket import Bucket
from bzctrl_provider.spool.store import MAX_BYTES, UnusableFileError


@pytest.fixture
def bucket(memory_store):
    """Return a bucket in memory."""
    return Bucket("memory://bucket/spool")


def test_bucket_create_keeps_the_first(bucket):
    """The same identity is one object."""
    assert bucket.create("a.json", b"first")
    assert not bucket.create("a.json", b"second")
    assert bucket.read("a.json") == b"first"
    assert bucket.address("a.json") == "memory://bucket/spool/a.json"


def test_bucket_names_are_those_of_one_folder(bucket):
    """Of none, if nothing was written yet."""
    assert bucket.names() == []
    bucket.write("a.json", b"1")
    bucket.write("delivered/b.json", b"2")
    assert sorted(bucket.names()) == ["a.json", "delivered"]
    assert bucket.names("delivered") == ["b.json"]


def test_bucket_move_and_remove(bucket):
    """Removing twice is no error: a delivery that goes on after a kill does it."""
    bucket.write("a.json", b"1")
    bucket.move("a.json", "rejected/a.json")
    assert (bucket.exists("a.json"), bucket.read("rejected/a.json")) == (False, b"1")
    bucket.remove("rejected/a.json")
    bucket.remove("rejected/a.json")
    assert not bucket.exists("rejected/a.json")


def test_bucket_read_of_a_huge_object_is_refused(bucket):
    """No more than the bound is loaded."""
    bucket.write("a.json", b"x" * (MAX_BYTES + 10))
    with pytest.raises(UnusableFileError, match="more than 4,194,304 bytes"):
        bucket.read("a.json")


def test_bucket_modified_at_has_a_time_zone(bucket):
    """Tombstones are pruned by it."""
    bucket.write("a.json", b"1")
    assert bucket.modified_at("a.json").tzinfo is not None


def test_bucket_has_no_lock(bucket):
    """The delivery DAG keeps others out."""
    with (
        bucket.lock(wait_s=0, sleep=lambda _: None) as first,
        bucket.lock(wait_s=0, sleep=lambda _: None) as second,
    ):
        assert first
        assert second


def test_bucket_of_an_unknown_kind_names_the_remedy():
    """The address is wrong, or a provider is missing."""
    with pytest.raises(
        ValueError, match=r"The spool at s4:// cannot be used.*apache-airflow-providers-amazon"
    ):
        Bucket("s4://bucket/spool")
