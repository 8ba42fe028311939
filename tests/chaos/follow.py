"""Looks at the run log while it grows: which runs have ended, who stamped each partition, whether anything moves."""

from __future__ import annotations

import asyncio
import json

import msgspec

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.read import last_by_subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError

LOOK_S = 0.5


class Follower:
    """`ended`: the runs that were seen to end."""

    def __init__(self, connection: Connection, site: str) -> None:
        self.ended: set[str] = set()
        self._connection = connection
        self._prefix = f"dagnats.{site}"
        self._streams = Topology(site).run_streams
        self._readers = [
            OrderedReader(
                connection, stream, [f"{self._prefix}.run.*.*.out.ended"], self._on_ended, start=1, headers_only=True
            )
            for stream in self._streams
        ]

    def _on_ended(self, message: FastMessage, seq: int, time_ms: int) -> None:
        self.ended.add(message.subject.split(".")[4])

    async def start(self) -> None:
        for reader in self._readers:
            await reader.start()

    async def stop(self) -> None:
        for reader in self._readers:
            await reader.stop()

    async def stamps(self) -> dict[int, str]:
        """Who stamped each partition last. Empty while nobody answers."""
        try:
            found = [
                message
                for stream in self._streams
                for message in await last_by_subjects(self._connection, stream, [f"{self._prefix}.own.*"])
            ]
        except DagNatsError:
            return {}
        return {int(m.subject.rpartition(".")[2]): str(json.loads(m.data)["engine"]) for m in found}

    async def rest(self, runs: set[str], quiet_s: float, deadline_s: float) -> bool:
        """Wait until all `runs` have ended. False if nothing was written for `quiet_s`, or the time is over."""
        loop = asyncio.get_running_loop()
        began = moved = loop.time()
        last: list[int] = []
        while not runs <= self.ended:
            await asyncio.sleep(LOOK_S)
            now = loop.time()
            if (seqs := await self._last_seqs()) != last:
                last, moved = seqs, now
            if now - moved > quiet_s or now - began > deadline_s:
                return False
        return True

    async def _last_seqs(self) -> list[int]:
        try:
            infos = [await api(self._connection, f"STREAM.INFO.{stream}", None, StreamInfo) for stream in self._streams]
        except (DagNatsError, msgspec.MsgspecError):
            return []
        return [info.state.last_seq for info in infos]
