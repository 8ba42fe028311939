"""`system`: which site this is, what it guarantees, and how its parts are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dagnats_core import __version__, limits
from dagnats_core.bus.jetstream import StreamInfo
from dagnats_core.bus.jetstream import api as jetstream
from dagnats_core.errors import DagNatsError
from dagnats_micro import table
from dagnats_micro.api import Api, now_ms
from dagnats_micro.present import timestamp
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import system
from dagnats_micro.schemas.common import Empty

CHECK_S = 2.0
CLOCK_SKEW_MS = limits.MINUTE_MS
"""An engine whose key was renewed so long ago is gone, even if the clocks of server and API differ."""
MAY_LOSE = {
    "always": "nothing: every acknowledged message is on the disk",
    "1s": "up to one second of acknowledged messages if the machine loses power; nothing if a process dies",
    "os": "what the operating system had not written yet (up to two minutes) if the machine loses power; "
    "nothing if a process dies",
}


class System:
    def __init__(self, api: Api) -> None:
        self._api = api

    def info(self, _: Empty) -> system.Info:
        site = self._api.site
        return system.Info(
            site=site.site,
            site_id=site.site_id,
            version=__version__,
            domain=site.domain or None,
            role=self._api.role,
            partitions=site.partitions,
            shards=site.shards,
            replicas=site.replicas,
            durability=site.durability,
            may_lose=MAY_LOSE[site.durability],
            nats_version=site.server_version,
            nats_url=self._api.connection.url,
            http_url=self._api.http_url,
            started_at=timestamp(self._api.started_at),
            now=timestamp(now_ms()),
        )

    async def health(self, _: Empty) -> system.Health:
        """Every component by name; the whole is as well as its worst component."""
        checks: dict[str, Callable[[], Awaitable[None]]] = {
            "jetstream": self._jetstream,
            "run-log": self._run_log,
            "archive": self._archive,
            "engine": self._engine,
            "index": self._index,
        }
        components = await asyncio.gather(*(_component(name, check) for name, check in checks.items()))
        ranks = ("ok", "degraded", "failing")
        worst = max(components, key=lambda component: ranks.index(component.status)).status
        return system.Health(status=worst, components=list(components))

    async def _jetstream(self) -> None:
        await jetstream(self._api.connection, "INFO", None, msgspec.Raw)

    async def _run_log(self) -> None:
        for stream in self._api.topology.run_streams:
            await jetstream(self._api.connection, f"STREAM.INFO.{stream}", None, StreamInfo)

    async def _archive(self) -> None:
        stream = self._api.topology.archive_stream
        await jetstream(self._api.connection, f"STREAM.INFO.{stream}", None, StreamInfo)

    async def _engine(self) -> None:
        oldest = now_ms() - CLOCK_SKEW_MS  # a nats-server that was killed may have forgotten a dead engine's TTL
        if not any(entry.time_ms > oldest for entry in (await self._api.leases.entries("engine.*")).values()):
            raise DagNatsError("no engine lives: runs are accepted and stand still")

    async def _index(self) -> None:
        age_ms = await self._api.index.age_ms()
        if age_ms:
            raise Degraded(f"lists are {age_ms} ms old")


class Degraded(Exception):
    """A component does its work, but not as it should."""


async def _component(name: str, check: Callable[[], Awaitable[None]]) -> system.Component:
    try:
        await asyncio.wait_for(check(), CHECK_S)
    except Degraded as cause:
        return system.Component(name=name, status="degraded", cause=str(cause))
    except TimeoutError:
        return system.Component(name=name, status="failing", cause=f"no answer within {CHECK_S:g} s")
    except DagNatsError as error:
        return system.Component(name=name, status="failing", cause=error.message)
    return system.Component(name=name, status="ok", cause=None)


def bind(api: Api) -> list[Bound[Any, Any]]:
    parts = System(api)
    return [Bound(table.SYSTEM_INFO, parts.info), Bound(table.SYSTEM_HEALTH, parts.health)]
