"""Whose data this is: lock, mode and site of a data dir. What JetStream stores in it is not touched here.

    <data dir>/          made with 0700
      site.json          mode, site and site id: checked at every start
      serve.lock         held while a `serve` lives on this data dir; says who it is
      store.lock         held until the nats-server of that `serve` is gone, too: it inherits the descriptor
      jetstream/         the store
      nats-server.conf, ports/    written at each start

Two locks, because a `serve` that was killed leaves a nats-server behind that dies some milliseconds later:
`serve.lock` taken means that somebody lives, which is an error at once; `store.lock` taken means to wait a
little. nats-server itself does not lock its store.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from dagnats_core import limits
from dagnats_core.errors import Conflict, Unavailable

SITE_FILE = "site.json"


class Mode(StrEnum):
    """How the store was made: nats-server deletes the streams of the one when it is started as the other."""

    STANDALONE = "standalone"
    CLUSTERED = "clustered"


class SiteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a data dir knows about itself."""

    v: int = 1
    mode: Mode
    site: str
    site_id: str
    """Tells two sites of the same name apart: 32 hex characters, or what stands in the store."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a data dir. `since` is RFC 3339, UTC."""

    pid: int
    host: str
    since: str


class DataDir:
    """An open data dir: locked, and proven to belong to this site and mode."""

    def __init__(self, path: Path, record: SiteRecord, serve_lock: int, store_lock: int) -> None:
        self.path = path
        self.record = record
        self.store_lock = store_lock
        """File descriptor that a nats-server on this store has to inherit."""
        self._serve_lock = serve_lock

    @classmethod
    async def open(cls, path: Path, site: str, mode: Mode = Mode.STANDALONE) -> Self:
        """Make, lock and check the data dir `path`.

        Raises `Conflict` if another process lives on it or if it belongs to another site or mode,
        `Unavailable` if the file system does not allow it or an earlier nats-server does not let go of the
        store.
        """
        try:
            serve_lock = _make_and_lock(path)
            try:
                record = _read_or_make_record(path, site, mode)
                return cls(path, record, serve_lock, await _wait_for_store(path))
            except BaseException:
                os.close(serve_lock)
                raise
        except OSError as error:
            raise Unavailable(f"the data dir {path} cannot be used: {error}") from error

    def adopt(self, site_id: str) -> None:
        """The store holds a site with this id: so that is the site of this data dir."""
        if site_id != self.record.site_id:
            self.record = msgspec.structs.replace(self.record, site_id=site_id)
            _write_durably(self.path / SITE_FILE, msgspec.json.encode(self.record))

    def close(self) -> None:
        """Let go of the data dir. The store stays locked as long as a nats-server holds its descriptor."""
        os.close(self.store_lock)
        os.close(self._serve_lock)


def _lock(file: Path) -> int | None:
    """A descriptor that holds the lock on `file`, or None if it is held elsewhere. Closing it lets go."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_and_lock(path: Path) -> int:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path / "serve.lock"
    descriptor = _lock(file)
    if descriptor is None:
        raise Conflict(f"the data dir {path} is in use by {_describe_holder(file)}: stop it or use another data dir")
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(pid=os.getpid(), host=socket.gethostname(), since=since)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.encode(holder), 0)
    return descriptor


def _describe_holder(file: Path) -> str:
    with suppress(OSError, msgspec.DecodeError):
        holder = msgspec.json.decode(file.read_bytes(), type=Holder)
        return f"process {holder.pid} on {holder.host} since {holder.since}"
    return "another process"


async def _wait_for_store(path: Path) -> int:
    try:
        async with asyncio.timeout(limits.SERVER_LOCK_MS_MAX / 1000):
            while (descriptor := _lock(path / "store.lock")) is None:  # noqa: ASYNC110 (a dying process holds it)
                await asyncio.sleep(0.005)
            return descriptor
    except TimeoutError:
        pids = ", ".join(file.stem.rpartition("_")[2] for file in (path / "ports").glob("*.ports"))
        raise Unavailable(
            f"a nats-server of an earlier life (process {pids or 'unknown'}) still runs on {path}: end it"
        ) from None


def _read_or_make_record(path: Path, site: str, mode: Mode) -> SiteRecord:
    file = path / SITE_FILE
    try:
        record = msgspec.json.decode(file.read_bytes(), type=SiteRecord)
    except FileNotFoundError:
        if (path / "jetstream").exists():
            raise Conflict(f"{path} holds a store but no site.json: put back the one it was made with") from None
        record = SiteRecord(mode=mode, site=site, site_id=uuid.uuid4().hex)
        _write_durably(file, msgspec.json.encode(record))
    except msgspec.DecodeError as error:
        raise Conflict(f"{file} cannot be read: {error}") from error
    if record.mode is not mode:
        raise Conflict(
            f"the data dir {path} was made {record.mode} and cannot be used {mode}: nats-server would delete"
            " its streams. Make a backup there and restore it into a new data dir"
        )
    if record.site != site:
        raise Conflict(f"the data dir {path} belongs to site {record.site!r}, not to {site!r}")
    return record


def _write_durably(file: Path, content: bytes) -> None:
    """All of it or nothing, also when the power fails."""
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
