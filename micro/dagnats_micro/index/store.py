"""The visibility index on disk: one SQLite file, its tables and its writes. Knows no NATS and no event loop.

Everything in it can be thrown away: the run log and the archive are the truth. A batch of rows and the positions that
it reaches are one transaction, and every write is idempotent, so that reading the same messages again changes
nothing. Rows arrive as one JSON text a table, which SQLite takes apart itself: no Python runs while it writes, and
other threads do. What may not live here: queries (`query`), how rows are made from messages (`rows`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

SCHEMA_VERSION = 1
WRITER_CACHE_KIB = 16_000
READER_CACHE_KIB = 4_000
CHECKPOINT_PAGES = 4_000
"""Pages of 4 KiB that the write-ahead log may hold before it is folded into the file."""

_TERM = "iif(json_type({0}.tags) = 'array', value, key || '=' || value)"
_SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE positions(stream TEXT PRIMARY KEY, seq INT NOT NULL) WITHOUT ROWID;
CREATE TABLE counts(workflow TEXT, status TEXT, n INT NOT NULL, PRIMARY KEY(workflow, status)) WITHOUT ROWID;

CREATE TABLE runs(
  run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version INT NOT NULL, status TEXT NOT NULL,
  created_at INT NOT NULL, ended_at INT NOT NULL, error TEXT, tags TEXT, retry_of TEXT, archive_seq INT
) WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs(created_at, run_id);
CREATE INDEX runs_by_workflow ON runs(workflow, created_at, run_id);
CREATE INDEX runs_by_status ON runs(status, created_at, run_id);
CREATE INDEX runs_by_both ON runs(workflow, status, created_at, run_id);
CREATE INDEX runs_by_origin ON runs(retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX runs_by_archive ON runs(archive_seq) WHERE archive_seq IS NOT NULL;

CREATE TABLE tags(
  tag TEXT, created_at INT, run_id TEXT, workflow TEXT, status TEXT, PRIMARY KEY(tag, created_at, run_id)
) WITHOUT ROWID;
CREATE INDEX tags_by_workflow ON tags(tag, workflow, created_at, run_id);
CREATE INDEX tags_by_status ON tags(tag, status, created_at, run_id);
CREATE INDEX tags_by_both ON tags(tag, workflow, status, created_at, run_id);

CREATE TABLE dead(
  run_id TEXT PRIMARY KEY, kind TEXT NOT NULL, workflow TEXT NOT NULL, version INT NOT NULL, step TEXT, task TEXT,
  attempts INT NOT NULL, error TEXT NOT NULL, at INT NOT NULL, replayed_by TEXT
) WITHOUT ROWID;
CREATE INDEX dead_by_time ON dead(at, run_id);
CREATE INDEX dead_by_workflow ON dead(workflow, at, run_id);
CREATE INDEX dead_open ON dead(at, run_id) WHERE replayed_by IS NULL;
CREATE INDEX dead_open_by_workflow ON dead(workflow, at, run_id) WHERE replayed_by IS NULL;

CREATE TRIGGER runs_added AFTER INSERT ON runs BEGIN
  INSERT INTO counts VALUES(NEW.workflow, NEW.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER runs_tagged AFTER INSERT ON runs WHEN NEW.tags IS NOT NULL BEGIN
  INSERT OR IGNORE INTO tags
    SELECT {_TERM.format("NEW")}, NEW.created_at, NEW.run_id, NEW.workflow, NEW.status FROM json_each(NEW.tags);
END;
CREATE TRIGGER runs_moved AFTER UPDATE OF status ON runs WHEN OLD.status <> NEW.status BEGIN
  UPDATE counts SET n = n - 1 WHERE workflow = OLD.workflow AND status = OLD.status;
  INSERT INTO counts VALUES(NEW.workflow, NEW.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER runs_retagged AFTER UPDATE OF status ON runs WHEN OLD.status <> NEW.status AND NEW.tags IS NOT NULL
BEGIN
  UPDATE tags SET status = NEW.status WHERE created_at = NEW.created_at AND run_id = NEW.run_id
    AND tag IN (SELECT {_TERM.format("NEW")} FROM json_each(NEW.tags));
END;
CREATE TRIGGER runs_dropped AFTER DELETE ON runs BEGIN
  UPDATE counts SET n = n - 1 WHERE workflow = OLD.workflow AND status = OLD.status;
  DELETE FROM dead WHERE run_id = OLD.run_id;
END;
CREATE TRIGGER runs_untagged AFTER DELETE ON runs WHEN OLD.tags IS NOT NULL BEGIN
  DELETE FROM tags WHERE created_at = OLD.created_at AND run_id = OLD.run_id
    AND tag IN (SELECT {_TERM.format("OLD")} FROM json_each(OLD.tags));
END;
"""
_PUT_RUNS = """
INSERT INTO runs SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
  value->>8, value->>9 FROM json_each(?) WHERE true
ON CONFLICT(run_id) DO UPDATE SET status = excluded.status, ended_at = excluded.ended_at, error = excluded.error,
  archive_seq = coalesce(excluded.archive_seq, archive_seq)
WHERE excluded.ended_at > 0
"""
_PUT_DEAD = """
INSERT INTO dead SELECT run_id, item.value->>1, workflow, version, item.value->>2, item.value->>3, item.value->>4,
  item.value->>5, item.value->>6, (SELECT min(run_id) FROM runs AS again WHERE again.retry_of = runs.run_id)
FROM json_each(?) AS item JOIN runs ON run_id = item.value->>0
  AND (item.value->>1 = 'failed' OR ended_at = 0)
ON CONFLICT(run_id) DO UPDATE SET kind = excluded.kind, step = excluded.step, task = excluded.task,
  attempts = excluded.attempts, error = excluded.error, at = excluded.at
"""
_PARK = """
UPDATE runs SET status = 'paused', error = item.value->>5 FROM json_each(?) AS item
WHERE run_id = item.value->>0 AND ended_at = 0 AND item.value->>1 = 'parked'
"""
_UNDEAD = """
DELETE FROM dead WHERE replayed_by IS NULL AND run_id IN
  (SELECT value->>0 FROM json_each(?) WHERE value->>3 IN ('completed', 'cancelled'))
"""
_REPLAYED = """
UPDATE dead SET replayed_by = item.value->>0 FROM json_each(?) AS item
WHERE dead.run_id = item.value->>8 AND replayed_by IS NULL
"""
_PUT_ARCHIVED = """
UPDATE runs SET archive_seq = item.value->>1 FROM json_each(?) AS item WHERE run_id = item.value->>0 AND ended_at > 0
"""
_NOT_ENDED = """
SELECT item.value->>1 FROM json_each(?) AS item LEFT JOIN runs ON run_id = item.value->>0
WHERE coalesce(ended_at, 0) = 0
"""
_PUT_POSITION = "INSERT INTO positions VALUES(?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq"


class RunRow(msgspec.Struct, array_like=True):
    """One run. `ended_at` 0 = it has not ended; `error` and `tags` are JSON texts; times are milliseconds."""

    run_id: str
    workflow: str
    version: int
    status: str
    created_at: int
    ended_at: int = 0
    error: str | None = None
    tags: str | None = None
    retry_of: str | None = None
    archive_seq: int | None = None


class DeadRow(msgspec.Struct, array_like=True):
    """A dead letter as it is written: a run that `failed` for good, or one that the engine `parked`."""

    run_id: str
    kind: str
    step: str | None
    task: str | None
    attempts: int
    error: str
    at: int


class Batch(NamedTuple):
    """What one transaction writes. `archived`: (run id, archive sequence); positions: the last sequences read."""

    runs: Sequence[RunRow]
    dead: Sequence[DeadRow]
    archived: Sequence[tuple[str, int]]
    positions: dict[str, int]


_encode = msgspec.json.Encoder().encode


def _identity(identity: str) -> str:
    return f"{SCHEMA_VERSION} {identity}"


def _json(rows: Sequence[object]) -> tuple[str]:
    return (_encode(rows).decode(),)


class IndexStore:
    """The file. One thread writes at a time; any thread may read, each over a connection of its own."""

    def __init__(self, path: Path, identity: str, usable: Callable[[dict[str, int]], bool] = lambda _: True) -> None:
        """Open `path`, or make it anew if it is missing, damaged, of another schema or of another `identity`, or if
        `usable` says no to its positions."""
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._open()
            known = self._identity() == _identity(identity) and usable(self.positions())
        except sqlite3.DatabaseError:
            self.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._open()
            known = False
        if not known:
            self.reset(identity)

    def _open(self) -> None:
        self._writer = self._connect(WRITER_CACHE_KIB)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = NORMAL")
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    def _identity(self) -> str | None:
        if not self._tables():
            return None
        row = self._writer.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
        return row[0] if row else None

    def _tables(self) -> list[str]:
        return [name for (name,) in self._writer.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def reset(self, identity: str) -> None:
        """Forget everything, all at once for whoever reads meanwhile."""
        drops = "".join(f"DROP TABLE {name};" for name in self._tables())
        self._writer.executescript(f"BEGIN IMMEDIATE; {drops} {_SCHEMA} COMMIT;")
        self._writer.execute("INSERT INTO meta VALUES('identity', ?)", (_identity(identity),))

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        self._connections.append(connection)
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        return connection

    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(READER_CACHE_KIB)
            connection.execute("PRAGMA query_only = 1")
        return connection

    def close(self) -> None:
        """Close every connection; nothing may use the store after that."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def apply(self, batch: Batch) -> None:
        """Write a batch and the positions that it reaches, all or nothing."""
        execute = self._writer.execute
        execute("BEGIN IMMEDIATE")
        try:
            if batch.runs:
                runs = _json(batch.runs)
                execute(_PUT_RUNS, runs)
                if any(row.retry_of for row in batch.runs):
                    execute(_REPLAYED, runs)
                execute(_UNDEAD, runs)
            if batch.dead:
                dead = _json(batch.dead)
                execute(_PUT_DEAD, dead)
                execute(_PARK, dead)
            if batch.archived:
                execute(_PUT_ARCHIVED, _json(batch.archived))
            for position in batch.positions.items():
                execute(_PUT_POSITION, position)
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def positions(self) -> dict[str, int]:
        """The last sequence of each stream that the rows know."""
        return dict(self._writer.execute("SELECT stream, seq FROM positions"))

    def not_ended(self, archived: Sequence[tuple[str, int]]) -> list[int]:
        """The archive sequences of those runs whose end no row knows."""
        return [seq for (seq,) in self._writer.execute(_NOT_ENDED, _json(archived))]

    def drop_archived_below(self, seq: int, count_max: int) -> int:
        """Forget up to `count_max` runs whose archive record stands below `seq`; how many they were."""
        sql = "DELETE FROM runs WHERE run_id IN (SELECT run_id FROM runs WHERE archive_seq < ? LIMIT ?)"
        return self._writer.execute(sql, (seq, count_max)).rowcount
