"""Requests and replies of `system`."""

from __future__ import annotations

from typing import Literal

from dagnats_micro.schemas.common import Reply, Timestamp


class Info(Reply):
    """Which site this is, what runs it, and what a power cut may cost (`may_lose`)."""

    site: str
    site_id: str
    version: str
    domain: str | None
    role: str
    partitions: int
    shards: int
    replicas: int
    durability: str
    may_lose: str
    nats_version: str
    nats_url: str | None
    http_url: str | None
    started_at: Timestamp
    now: Timestamp


class Component(Reply):
    name: str
    status: Literal["ok", "degraded", "failing"]
    cause: str | None


class Health(Reply):
    status: Literal["ok", "degraded", "failing"]
    components: list[Component]
