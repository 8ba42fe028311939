"""Makes what a site keeps in JetStream, or checks it: streams, buckets, task consumers. Starters may race.

The settings of every stream stand here and nowhere else (docs/wire.md lists them). The run stream of shard
0 is the site: its metadata says the site's id, format, partitions and shards, and whoever creates it first
has decided.
"""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any, Literal

import msgspec

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import STREAM_NAME_IN_USE, ApiError
from dagnats_core.bus.jetstream import ConsumerInfo, StreamInfo, api
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Conflict, NotFound, Unavailable

FORMAT = 1
"""Of the site's layout. A site of a newer one is refused."""
API_LEVEL_MIN = 4
"""nats-server 2.14: message schedules, atomic batches."""
REPLICAS_WANTED = 3

NS_PER_MS = 1_000_000
REPLICAS_NOT_SUPPORTED = 10074
MARKER_TTL_NS = 1_000_000_000

Config = dict[str, Any]


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a site is made with. Partitions, shards and replicas of a site that exists stay as they are."""

    site_id: str | None = None
    """The id that the site must have. None takes any, and draws one for a new site."""
    adopt: bool = False
    """The store is this program's own, so whoever made the site on it first (an engine that was waiting for the server)
    made this program's site: its id is right, whatever `site_id` says."""
    durability: Literal["always", "1s", "os"] = "always"
    replicas: int | None = None
    """None: 3, or 1 where the server is not clustered."""
    partitions: int = limits.PARTITIONS
    retention_ms: int = limits.RETENTION_MS
    """How long ended runs are kept in the archive."""


class SiteInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A site as it stands in JetStream."""

    site: str
    site_id: str
    format: int
    partitions: int
    shards: int
    replicas: int
    retention_ms: int
    durability: str
    domain: str
    server_version: str
    api_level: int

    @property
    def synced(self) -> bool:
        """Every acknowledged message is on the disk."""
        return self.durability == "always"


class _Api(msgspec.Struct):
    level: int = 0


class _AccountInfo(msgspec.Struct):
    api: _Api = msgspec.field(default_factory=_Api)


async def ensure(connection: Connection, topology: Topology, settings: SiteSettings) -> SiteInfo:
    """Make the site, or check and complete it. Idempotent, also when several start at once.

    Raises Unavailable if JetStream does not answer or the server is too old (it names its version),
    Conflict if the site has a newer format, another id than expected (it names both), or other replicas
    than asked for.
    """
    level = (await api(connection, "INFO", None, _AccountInfo)).api.level
    version = str(connection.server_info.get("version", "unknown"))
    if level < API_LEVEL_MIN:
        raise Unavailable(
            f"nats-server {version} at {connection.url} has JetStream API level {level}: level {API_LEVEL_MIN} is "
            "needed (nats-server 2.14 or later)"
        )
    root = await _ensure_root(connection, topology, settings)
    metadata = root.config.get("metadata") or {}
    info = SiteInfo(
        site=topology.site,
        site_id=metadata.get("dagnats.site_id", ""),
        format=int(metadata.get("dagnats.format", "0")),
        partitions=int(metadata.get("dagnats.partitions", "0")),
        shards=int(metadata.get("dagnats.shards", "0")),
        replicas=root.config["num_replicas"],
        retention_ms=settings.retention_ms,
        durability=settings.durability,
        domain=connection.options.domain or str(connection.server_info.get("domain", "")),
        server_version=version,
        api_level=level,
    )
    _check(info, settings)
    made = Topology(info.site, info.shards)
    runs = [run_stream(made, shard, info.partitions, info.replicas, metadata) for shard in range(info.shards)]
    await asyncio.gather(*(_ensure_stream(connection, config) for config in runs))
    rest = [archive_stream(made, info), payloads_stream(made, info.replicas), *buckets(made, info.replicas)]
    await asyncio.gather(*(_ensure_stream(connection, config) for config in rest))
    return info


async def ensure_task_consumer(
    connection: Connection,
    topology: Topology,
    token: str,
    *,
    ack_wait_ms: int = limits.ACK_WAIT_MS,
    max_ack_pending: int = limits.TASKS_IN_FLIGHT_MAX,
) -> list[ConsumerInfo]:
    """The durable consumer that hands out the tasks of one token, made or brought to these settings: one a
    shard."""
    name = topology.task_consumer(token)
    config = {
        "name": name,
        "durable_name": name,
        "filter_subject": Subjects(topology.site).tasks_of(token),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": ack_wait_ms * NS_PER_MS,
        "max_deliver": -1,
        "max_ack_pending": max_ack_pending,
        "max_waiting": limits.PULLS_WAITING_MAX,
        "replay_policy": "instant",
    }
    return list(
        await asyncio.gather(
            *(
                api(
                    connection,
                    f"CONSUMER.CREATE.{stream}.{name}",
                    {"stream_name": stream, "config": config},
                    ConsumerInfo,
                )
                for stream in topology.run_streams
            )
        )
    )


# -- what the streams are


def run_stream(topology: Topology, shard: int, partitions: int, replicas: int, metadata: dict[str, str]) -> Config:
    """The run log of one shard. Every subject is written once but own, floor and timer, whose last message
    counts."""
    prefix = Subjects(topology.site).prefix
    if topology.shards == 1:
        subjects = [f"{prefix}.run.>", f"{prefix}.own.*", f"{prefix}.floor.*"]
    else:
        mine = range(shard, partitions, topology.shards)
        subjects = [f"{prefix}.{what}" for p in mine for what in (f"run.{p}.>", f"own.{p}", f"floor.{p}")]
    return {
        "name": topology.run_streams[shard],
        "subjects": subjects,
        "storage": "file",
        "retention": "limits",
        "discard": "old",  # nats-server refuses `new` beside schedules; no limit is set that could discard
        "max_msgs_per_subject": 1,
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_msg_schedules": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "metadata": {key: value for key, value in metadata.items() if key.startswith("dagnats.")},
    }


def archive_stream(topology: Topology, site: SiteInfo) -> Config:
    """Ended runs, copied by the server itself from the run log, on one subject a partition.

    Without replicas it is written asynchronously: what a crash takes is copied again, for the run log keeps
    it longer than the server's sync interval. Otherwise each ended run would cost an fsync of its own under
    `always`.
    """
    subjects = Subjects(topology.site)
    transform = {"src": subjects.all_ended(), "dest": subjects.archive("{{wildcard(1)}}")}
    config: Config = {
        "name": topology.archive_stream,
        "storage": "file",
        "max_age": site.retention_ms * NS_PER_MS,
        "num_replicas": site.replicas,
        "allow_direct": True,
        "sources": [{"name": stream, "subject_transforms": [transform]} for stream in topology.run_streams],
    }
    if site.replicas == 1:
        config["persist_mode"] = "async"
    return config


def payloads_stream(topology: Topology, replicas: int) -> Config:
    """Chunks of payloads, each on a subject of its own that is written once (`objects`)."""
    return {
        "name": topology.payloads_bucket,
        "subjects": [Subjects(topology.site).all_payloads()],
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "allow_direct": True,
    }


def buckets(topology: Topology, replicas: int) -> list[Config]:
    """The site's key-value buckets, as ADR-8 lays them out, with one value a key and TTLs allowed.

    All of them in files: a single nats-server forgets its memory streams altogether when it restarts.
    """
    return [
        _bucket(topology.definitions_bucket, replicas),
        _bucket(topology.leases_bucket, replicas, marker=True),
        _bucket(topology.workers_bucket, replicas, ttl_ms=limits.WORKER_TTL_MS),
        _bucket(topology.requests_bucket, replicas, ttl_ms=limits.REQUEST_ANSWER_TTL_MS),
    ]


def _bucket(name: str, replicas: int, *, ttl_ms: int = 0, marker: bool = False) -> Config:
    config: Config = {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "max_age": ttl_ms * NS_PER_MS,
    }
    if marker:
        config["subject_delete_marker_ttl"] = MARKER_TTL_NS
    return config


# -- making them


async def _ensure_root(connection: Connection, topology: Topology, settings: SiteSettings) -> StreamInfo:
    """The run stream of shard 0: as it stands, or made now by us or by a faster one."""
    name = topology.run_streams[0]
    info = await _stream_info(connection, name)
    if info is not None:
        return info
    metadata = {
        "dagnats.site": topology.site,
        "dagnats.site_id": settings.site_id or token_hex(8),
        "dagnats.format": str(FORMAT),
        "dagnats.partitions": str(settings.partitions),
        "dagnats.shards": str(topology.shards),
    }
    for replicas in (settings.replicas,) if settings.replicas else (REPLICAS_WANTED, 1):
        config = run_stream(topology, 0, settings.partitions, replicas, metadata)
        try:
            return await api(connection, f"STREAM.CREATE.{name}", config, StreamInfo)
        except ApiError as error:
            if error.err_code == STREAM_NAME_IN_USE:
                return await api(connection, f"STREAM.INFO.{name}", None, StreamInfo)
            if error.err_code != REPLICAS_NOT_SUPPORTED or replicas == 1 or settings.replicas:
                raise
    raise AssertionError("unreachable: one replica is always tried last")


def _check(info: SiteInfo, settings: SiteSettings) -> None:
    if info.format > FORMAT:
        raise Conflict(
            f"site {info.site} ({info.site_id}) has format {info.format}; this version knows {FORMAT}: upgrade dagnats"
        )
    if not info.site_id or info.format < 1 or info.partitions < 1 or info.shards < 1:
        raise Conflict(f"the run stream of site {info.site} was not made by dagnats: its metadata is missing")
    if not settings.adopt and settings.site_id not in (None, info.site_id):
        raise Conflict(
            f"two sites are called {info.site}: {settings.site_id} is expected here, "
            f"{info.site_id} is what JetStream holds"
        )
    if settings.replicas not in (None, info.replicas):
        raise Conflict(f"site {info.site} was made with replicas: {info.replicas}, not {settings.replicas}")


async def _ensure_stream(connection: Connection, config: Config) -> None:
    name = config["name"]
    info = await _stream_info(connection, name)
    if info is None:
        try:
            await api(connection, f"STREAM.CREATE.{name}", config, StreamInfo)
            return
        except ApiError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise
            info = await api(connection, f"STREAM.INFO.{name}", None, StreamInfo)
    changed = {key: value for key, value in config.items() if not _same(value, info.config.get(key))}
    if changed:
        await api(connection, f"STREAM.UPDATE.{name}", {**info.config, **changed}, StreamInfo)


def _same(wanted: Any, stored: Any) -> bool:
    """Whether the server's value says what is wanted; it may say more, and leaves out what is false or
    zero."""
    if isinstance(wanted, dict):
        return isinstance(stored, dict) and all(_same(value, stored.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(stored, list) or len(wanted) != len(stored):
            return False
        return all(_same(one, other) for one, other in zip(wanted, stored, strict=True))
    return bool(wanted == stored or (not wanted and stored is None))


async def _stream_info(connection: Connection, name: str) -> StreamInfo | None:
    try:
        return await api(connection, f"STREAM.INFO.{name}", None, StreamInfo)
    except NotFound:
        return None
