"""What the streams of a site are: subjects of every partition in exactly one shard, settings that say what is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core.bus.setup import SiteInfo, _same, archive_stream, buckets, payloads_stream, run_stream
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology


def matches(pattern: str, subject: str) -> bool:
    want, have = pattern.split("."), subject.split(".")
    for index, token in enumerate(want):
        if token == ">":
            return len(have) > index
        if index >= len(have) or token not in ("*", have[index]):
            return False
    return len(want) == len(have)


def site(replicas: int = 1) -> SiteInfo:
    return SiteInfo(
        site="x",
        site_id="id",
        format=1,
        partitions=16,
        shards=1,
        replicas=replicas,
        retention_ms=1000,
        durability="always",
        domain="",
        server_version="2.15.1",
        api_level=5,
    )


@given(st.integers(min_value=1, max_value=4), st.integers(min_value=0, max_value=15))
def test_a_subject_is_in_the_stream_of_its_partition_alone(shards: int, partition: int) -> None:
    topology, subjects = Topology("x", shards), Subjects("x")
    streams = [run_stream(topology, shard, 16, 1, {}) for shard in range(shards)]
    for subject in (
        subjects.start(partition, "r"),
        subjects.timer(partition, "r"),
        subjects.task(partition, "r", "t~a@g", 3),
        subjects.own(partition),
        subjects.floor(partition),
    ):
        takers = [config["name"] for config in streams if any(matches(p, subject) for p in config["subjects"])]
        assert takers == [topology.run_stream(partition)]


@pytest.mark.parametrize("shards", [1, 2])
def test_no_stream_takes_what_is_never_stored(shards: int) -> None:
    topology, subjects = Topology("x", shards), Subjects("x")
    configs = [run_stream(topology, shard, 16, 1, {}) for shard in range(shards)]
    configs += [payloads_stream(topology, 1), *buckets(topology, 1)]
    patterns = [pattern for config in configs for pattern in config["subjects"]]
    for subject in (
        subjects.report(1, "t", "r", "s"),
        subjects.progress("t", "r", "s"),
        subjects.cancel_notice("t"),
        subjects.api("run", "get"),
        subjects.archive(1),
    ):
        assert not any(matches(pattern, subject) for pattern in patterns), subject


def test_the_archive_is_written_asynchronously_only_without_replicas() -> None:
    topology = Topology("x")
    assert archive_stream(topology, site())["persist_mode"] == "async"
    assert "persist_mode" not in archive_stream(topology, site(replicas=3))


def test_metadata_of_the_server_is_not_taken_over() -> None:
    config = run_stream(Topology("x"), 0, 16, 1, {"dagnats.site": "x", "_nats.level": "5"})
    assert config["metadata"] == {"dagnats.site": "x"}


def test_settings_are_the_same_if_the_server_says_at_least_that() -> None:
    assert _same({"a": [1, {"b": 2}], "c": False}, {"a": [1, {"b": 2, "more": 1}], "d": 4})
    assert not _same({"a": [1]}, {"a": [1, 2]})
    assert not _same({"a": 1}, {"a": 2})
    assert not _same({"a": True}, {})
