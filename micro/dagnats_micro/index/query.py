"""Questions to the visibility index: lists by keyset, counts, single rows. Reads only, in the calling thread.

Every filter of `run.list` has an index that ends in (created_at, run_id), so that a page costs what it shows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dagnats_core import limits
from dagnats_micro.index.store import IndexStore, RunRow

PREFIX_ROWS_MAX = 4096
"""Up to so many runs with a prefix are sorted; if there are more, the newest runs are looked through for it."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS = 10
"""Characters of a time-ordered run id that hold its milliseconds."""
_INDEXES = {
    (False, False): "runs_by_time",
    (True, False): "runs_by_workflow",
    (False, True): "runs_by_status",
    (True, True): "runs_by_both",
}
_TAG_INDEXES = {
    (False, False): "tags",
    (True, False): "tags INDEXED BY tags_by_workflow",
    (False, True): "tags INDEXED BY tags_by_status",
    (True, True): "tags INDEXED BY tags_by_both",
}
_COUNT = """
SELECT coalesce(sum(n), 0) FROM counts WHERE workflow = ifnull(?, workflow) AND status = ifnull(?, status)
"""
_HAS_TAG = """
EXISTS (SELECT 1 FROM tags WHERE tag = ? AND tags.created_at = runs.created_at AND tags.run_id = runs.run_id)
"""


class RunQuery(NamedTuple):
    """Which runs. Times in milliseconds, `until_ms` exclusive. `after`: (created_at, run_id) of the last one seen."""

    workflow: str | None = None
    status: str | None = None
    tag: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    prefix: str | None = None
    after: tuple[int, str] | None = None


class DeadQuery(NamedTuple):
    """Which dead letters. `after`: (at, run_id) of the last one seen."""

    workflow: str | None = None
    run_id: str | None = None
    replayed: bool = False
    after: tuple[int, str] | None = None


class DeadLetterRow(NamedTuple):
    """A dead letter as it is read, with what its run's row adds."""

    run_id: str
    kind: str
    workflow: str
    version: int
    step: str | None
    task: str | None
    attempts: int
    error: str
    at: int
    replayed_by: str | None


def find_run(store: IndexStore, run_id: str) -> RunRow | None:
    row = store.reader().execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return RunRow(*row) if row else None


def find_dead(store: IndexStore, run_id: str) -> DeadLetterRow | None:
    row = store.reader().execute("SELECT * FROM dead WHERE run_id = ?", (run_id,)).fetchone()
    return DeadLetterRow(*row) if row else None


def list_runs(store: IndexStore, query: RunQuery, limit: int) -> list[RunRow]:
    """The newest runs first, after `query.after`."""
    source, conditions, values = _where(query, _is_rare(store, query.prefix))
    keys = f"SELECT created_at, run_id FROM {source} WHERE {conditions} ORDER BY created_at DESC, run_id DESC LIMIT ?"
    sql = f"SELECT runs.* FROM ({keys}) AS k JOIN runs USING(run_id) ORDER BY runs.created_at DESC, runs.run_id DESC"
    return [RunRow(*row) for row in store.reader().execute(sql, (*values, limit))]


def count_runs(store: IndexStore, query: RunQuery) -> int:
    """By workflow and status from counters; with any other filter by counting index entries."""
    if query == RunQuery(workflow=query.workflow, status=query.status):
        return int(store.reader().execute(_COUNT, (query.workflow, query.status)).fetchone()[0])
    source, conditions, values = _where(query, query.prefix is not None)
    return int(store.reader().execute(f"SELECT count(*) FROM {source} WHERE {conditions}", values).fetchone()[0])


def list_dead(store: IndexStore, query: DeadQuery, limit: int) -> list[DeadLetterRow]:
    """The newest dead letters first, after `query.after`."""
    conditions: list[str] = ["true"]
    values: list[Any] = []
    for condition, value in (("run_id = ?", query.run_id), ("workflow = ?", query.workflow)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if not query.replayed:
        conditions.append("replayed_by IS NULL")
    if query.after is not None:
        conditions.append("(at, run_id) < (?, ?)")
        values += query.after
    sql = f"SELECT * FROM dead WHERE {' AND '.join(conditions)} ORDER BY at DESC, run_id DESC LIMIT ?"
    return [DeadLetterRow(*row) for row in store.reader().execute(sql, (*values, limit))]


def _is_rare(store: IndexStore, prefix: str | None) -> bool:
    """Whether it is cheaper to sort all runs with the prefix than to look for it among the newest."""
    if prefix is None:
        return False
    sql = "SELECT count(*) FROM (SELECT 1 FROM runs WHERE run_id >= ? AND run_id < ? LIMIT ?)"
    values = (*_prefix_range(prefix), PREFIX_ROWS_MAX + 1)
    return bool(store.reader().execute(sql, values).fetchone()[0] <= PREFIX_ROWS_MAX)


def _prefix_range(prefix: str) -> tuple[str, str]:
    return prefix, prefix + "~"


def _time_range_of(prefix: str) -> tuple[int, int] | None:
    """When runs with this prefix were made (ms, with a minute to spare); None for ids that hold no time."""
    chars = prefix[:_TIME_CHARS]
    if prefix[0] == "h" or not all(char in _ALPHABET for char in chars):
        return None
    value = 0
    for char in chars:
        value = value * 32 + _ALPHABET.index(char)
    shift = 5 * (_TIME_CHARS - len(chars))
    return (value << shift) - limits.MINUTE_MS, (value + 1 << shift) + limits.MINUTE_MS


def _where(query: RunQuery, rare_prefix: bool) -> tuple[str, str, list[Any]]:
    """What to read from, the conditions and their values."""
    by = query.workflow is not None, query.status is not None
    terms: list[tuple[str, Any]] = [("workflow = ?", query.workflow), ("status = ?", query.status)]
    if rare_prefix:
        source = "runs"
        terms.append((_HAS_TAG, query.tag))
    elif query.tag is not None:
        source = _TAG_INDEXES[by]
        terms.append(("tag = ?", query.tag))
    else:
        source = f"runs INDEXED BY {_INDEXES[by]}"
    terms += [("created_at >= ?", query.since_ms), ("created_at < ?", query.until_ms)]
    if query.prefix is not None:
        low, high = _prefix_range(query.prefix)
        terms += [("run_id >= ?", low), ("run_id < ?", high)]
        times = _time_range_of(query.prefix)
        if times is not None and not rare_prefix:
            terms += [("created_at >= ?", times[0]), ("created_at < ?", times[1])]
    conditions = ["true"] + [condition for condition, value in terms if value is not None]
    values = [value for _, value in terms if value is not None]
    if query.after is not None:
        conditions.append("(created_at, run_id) < (?, ?)")
        values += query.after
    return source, " AND ".join(conditions), values
