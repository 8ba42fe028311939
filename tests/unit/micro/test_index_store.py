"""The index file against an obvious model: any order of any batches, read back by every filter."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnats_core import ids
from dagnats_micro.index import query
from dagnats_micro.index.query import DeadQuery, RunQuery
from dagnats_micro.index.store import Batch, DeadRow, IndexStore, RunRow

T0 = 1_700_000_000_000
STATUSES = ("completed", "failed", "cancelled")


def row_of(number: int, status: str = "running", **fields: Any) -> RunRow:
    """The `number`-th run; half of the ids are time-ordered, half are hashes."""
    at = T0 + number * 1000
    run_id = ids.new_run_id(at, number * 7919, 16) if number % 2 else ids.requested_run_id("w", str(number), 16)
    tags = [None, '["nightly"]', '{"team":"a"}', '["nightly","nightly"]'][number % 4]
    ended_at = at + 5 if status in STATUSES else 0
    return RunRow(run_id, f"wf-{number % 3}", 1, status, at, ended_at, tags=tags, **fields)


def terms_of(row: RunRow) -> set[str]:
    tags = msgspec.json.decode(row.tags) if row.tags else []
    return {f"{key}={value}" for key, value in tags.items()} if isinstance(tags, dict) else set(tags)


def fits(row: RunRow, wanted: RunQuery) -> bool:
    return (
        wanted.workflow in (None, row.workflow)
        and wanted.status in (None, row.status)
        and (wanted.tag is None or wanted.tag in terms_of(row))
        and (wanted.since_ms is None or row.created_at >= wanted.since_ms)
        and (wanted.until_ms is None or row.created_at < wanted.until_ms)
        and (wanted.prefix is None or row.run_id.startswith(wanted.prefix))
        and (wanted.after is None or (row.created_at, row.run_id) < wanted.after)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IndexStore]:
    store = IndexStore(tmp_path / "index.sqlite", "site")
    yield store
    store.close()


def put(store: IndexStore, *rows: RunRow, dead: list[DeadRow] | None = None) -> None:
    store.apply(Batch(rows, dead or [], [], {}))


changes = st.lists(
    st.lists(st.tuples(st.integers(0, 23), st.sampled_from(("running", *STATUSES))), min_size=1, max_size=8),
    max_size=8,
)
queries = st.builds(
    RunQuery,
    workflow=st.none() | st.sampled_from(["wf-0", "wf-2", "wf-9"]),
    status=st.none() | st.sampled_from(("running", *STATUSES)),
    tag=st.none() | st.sampled_from(["nightly", "team=a", "team"]),
    since_ms=st.none() | st.integers(T0 - 1, T0 + 25_000),
    until_ms=st.none() | st.integers(T0 - 1, T0 + 25_000),
    prefix=st.none() | st.sampled_from(["0", "h", row_of(3).run_id[:8], row_of(4).run_id[:3], row_of(5).run_id]),
    after=st.none() | st.tuples(st.integers(T0, T0 + 25_000), st.just("h")),
)


@settings(max_examples=60, deadline=None)
@given(changes, st.lists(queries, min_size=1, max_size=6))
def test_lists_and_counts_are_those_of_the_model(
    batches: list[list[tuple[int, str]]], questions: list[RunQuery]
) -> None:
    model: dict[str, RunRow] = {}
    with TemporaryDirectory() as directory:
        store = IndexStore(Path(directory) / "index.sqlite", "site")
        for batch in batches:
            rows = {number: row_of(number, status) for number, status in batch}
            put(store, *rows.values())
            for row in rows.values():
                if row.run_id not in model or row.ended_at:
                    model[row.run_id] = row
        newest_first = sorted(model.values(), key=lambda row: (row.created_at, row.run_id), reverse=True)
        for wanted in questions:
            expected = [row for row in newest_first if fits(row, wanted)]
            assert query.list_runs(store, wanted, 100) == expected
            assert query.list_runs(store, wanted, 3) == expected[:3]
            assert query.count_runs(store, wanted) == len(expected)
        store.close()


def test_a_run_that_has_ended_never_runs_again(store: IndexStore) -> None:
    put(store, row_of(1, "failed"))
    put(store, row_of(1, "running"))
    assert [row.status for row in query.list_runs(store, RunQuery(), 10)] == ["failed"]
    assert query.count_runs(store, RunQuery(status="failed")) == 1
    assert query.count_runs(store, RunQuery(status="running")) == 0


def test_the_same_batch_again_changes_nothing(store: IndexStore) -> None:
    batch = Batch(
        [row_of(0), row_of(1, "failed"), row_of(2, "completed", retry_of=row_of(1).run_id)],
        [DeadRow(row_of(1).run_id, "failed", "a", "t", 2, "{}", T0)],
        [(row_of(2).run_id, 9)],
        {"log": 7},
    )

    def everything() -> list[Any]:
        tables = ("runs", "tags", "dead", "counts", "positions")
        return [store.reader().execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]

    store.apply(batch)
    before = everything()
    store.apply(batch)
    assert everything() == before
    assert [found.replayed_by for found in query.list_dead(store, DeadQuery(replayed=True), 9)] == [row_of(2).run_id]


def test_a_replay_is_seen_in_either_order(store: IndexStore) -> None:
    old, again = row_of(1, "failed"), row_of(2, retry_of=row_of(1).run_id)
    dead = DeadRow(old.run_id, "failed", None, None, 1, "{}", T0)
    put(store, again)
    put(store, old, dead=[dead])
    assert query.list_dead(store, DeadQuery(), 9) == []
    assert [found.replayed_by for found in query.list_dead(store, DeadQuery(replayed=True), 9)] == [again.run_id]


def test_a_parked_run_is_paused_until_it_ends(store: IndexStore) -> None:
    run = row_of(1)
    parked = DeadRow(run.run_id, "parked", None, None, 0, '{"code":"x","message":"y"}', T0)
    put(store, run)
    put(store, dead=[parked])
    assert [row.status for row in query.list_runs(store, RunQuery(status="paused"), 9)] == ["paused"]
    assert [(found.kind, found.workflow) for found in query.list_dead(store, DeadQuery(), 9)] == [("parked", "wf-1")]
    put(store, row_of(1, "cancelled"))
    put(store, dead=[parked])
    assert query.count_runs(store, RunQuery(status="paused")) == 0
    assert query.list_dead(store, DeadQuery(), 9) == []


def test_dead_letters_page_by_keyset_and_filter(store: IndexStore) -> None:
    rows = [row_of(number, "failed") for number in range(10)]
    dead = [DeadRow(row.run_id, "failed", "a", "t", 1, "{}", row.ended_at) for row in rows]
    put(store, *rows, dead=dead)
    first = query.list_dead(store, DeadQuery(), 4)
    rest = query.list_dead(store, DeadQuery(after=(first[-1].at, first[-1].run_id)), 10)
    assert [found.run_id for found in first + rest] == [row.run_id for row in reversed(rows)]
    assert {found.workflow for found in query.list_dead(store, DeadQuery(workflow="wf-1"), 10)} == {"wf-1"}
    assert [found.run_id for found in query.list_dead(store, DeadQuery(run_id=rows[3].run_id), 10)] == [rows[3].run_id]


def test_archived_runs_are_known_by_sequence_and_dropped_below_one(store: IndexStore) -> None:
    rows = [row_of(number, "failed") for number in range(6)]
    dead = [DeadRow(rows[0].run_id, "failed", "a", "t", 1, "{}", T0)]
    archived = [(row.run_id, number + 1) for number, row in enumerate(rows)]
    assert store.not_ended(archived) == [1, 2, 3, 4, 5, 6]
    put(store, *rows, row_of(7), dead=dead)
    assert store.not_ended([*archived, (row_of(7).run_id, 8), ("x", 9)]) == [8, 9]
    store.apply(Batch([], [], archived, {}))
    assert store.drop_archived_below(4, 2) == 2
    assert store.drop_archived_below(4, 100) == 1
    assert query.count_runs(store, RunQuery()) == 4
    assert query.count_runs(store, RunQuery(tag="nightly")) == len([3, 5, 7])
    assert query.list_dead(store, DeadQuery(replayed=True), 9) == []


def test_rows_and_positions_are_one_transaction(store: IndexStore) -> None:
    bad: Any = row_of(2)
    bad.workflow = None
    with pytest.raises(sqlite3.IntegrityError):
        store.apply(Batch([row_of(1), bad], [], [], {"log": 5}))
    assert store.positions() == {}
    assert query.count_runs(store, RunQuery()) == 0
    store.apply(Batch([row_of(1)], [], [], {"log": 5}))
    assert store.positions() == {"log": 5}


def test_a_file_is_kept_for_its_own_site_and_made_anew_for_another(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"

    def reopened(identity: str, usable: Any = lambda positions: True) -> int:
        store = IndexStore(path, identity, usable)
        count = query.count_runs(store, RunQuery())
        store.close()
        return count

    store = IndexStore(path, "one")
    store.apply(Batch([row_of(1)], [], [], {"log": 5}))
    store.close()
    assert reopened("one") == 1
    assert reopened("one", lambda positions: positions == {"log": 5}) == 1
    assert reopened("one", lambda positions: False) == 0
    store = IndexStore(path, "one")
    put(store, row_of(1))
    store.close()
    assert reopened("two") == 0


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be one" * 100])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(damage)
    store = IndexStore(path, "site")
    put(store, row_of(1))
    assert query.count_runs(store, RunQuery()) == 1
    store.close()


def test_threads_read_while_another_writes(store: IndexStore) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(200):
                query.list_runs(store, RunQuery(), 10)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(200):
        put(store, row_of(number))
    for reader in readers:
        reader.join()
    assert failures == []
    assert query.count_runs(store, RunQuery()) == 200


def test_every_list_stands_on_an_index(store: IndexStore) -> None:
    """No filter makes SQLite sort or scan: what a page costs does not grow with the table."""
    put(store, *(row_of(number) for number in range(50)))
    seen: list[str] = []
    reader = store.reader()
    for workflow in (None, "wf-1"):
        for status in (None, "running"):
            for tag in (None, "nightly"):
                wanted = RunQuery(workflow, status, tag, T0, T0 + 9000, None, (T0 + 8000, "h"))
                reader.set_trace_callback(seen.append)
                query.list_runs(store, wanted, 10)
                reader.set_trace_callback(None)
                plan = [row[3] for row in reader.execute("EXPLAIN QUERY PLAN " + seen[-1])]
                steps = [step for step in plan if "SEARCH" in step or "SCAN" in step]
                assert any("created_at>? AND created_at<?" in step for step in steps), plan
                assert not any(step.startswith(("SCAN runs", "SCAN tags")) for step in plan), plan
