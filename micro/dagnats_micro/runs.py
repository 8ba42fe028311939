"""One run, wherever it stands: in the log while it lives and a while after, then in the archive."""

from __future__ import annotations

from typing import NamedTuple

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.read import get_by_seq
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.ports import PayloadsPort
from dagnats_core.engine.reader import RunReader
from dagnats_core.errors import NotFound
from dagnats_core.run import messages as m
from dagnats_micro.index import Index
from dagnats_micro.index.rows import copy_of


class Archived(NamedTuple):
    """A run's record, and the sequence that its end had in the run log."""

    final: m.FinalRun
    ended_seq: int


class Runs:
    """Reads runs of a site by id."""

    def __init__(
        self, connection: Connection, topology: Topology, reader: RunReader, index: Index, payloads: PayloadsPort
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._reader = reader
        self._index = index
        self._payloads = payloads

    async def get(self, run_id: str) -> m.FinalRun:
        """The run as it stands. Raises NotFound, Unavailable."""
        final = await self.find(run_id)
        if final is None:
            raise NotFound(f"there is no run {run_id}")
        return final

    async def find(self, run_id: str) -> m.FinalRun | None:
        """The run as it stands; None if there is none, or none any more."""
        final = await self._reader.read(run_id)
        if final is not None:
            return final
        archived = await self.find_archived(run_id)
        return archived.final if archived is not None else None

    async def find_listed(self, run_id: str) -> m.FinalRun | None:
        """The run, if the index knows of it: no read at all for one that is new. Raises as `find_archived`."""
        return await self.find(run_id) if await self._index.find_surely(run_id) is not None else None

    async def find_archived(self, run_id: str) -> Archived | None:
        """The record of a run that has left the log. Raises Unavailable while the index cannot be sure."""
        row = await self._index.find_surely(run_id)
        if row is None or row.archive_seq is None:
            return None
        message = await get_by_seq(self._connection, self._topology.archive_stream, row.archive_seq)
        copy = copy_of(message.headers, row.archive_seq) if message is not None else None
        if message is None or copy is None or copy.run_id != run_id:
            return None
        decision = m.decode_decision(message.data)
        if decision.final is not None:
            return Archived(decision.final, copy.ended_seq)
        if decision.final_ref is None:
            return None
        final = m.decode_final(await self._payloads.get(decision.final_ref))
        return Archived(final, copy.ended_seq)
