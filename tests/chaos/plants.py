"""Planted bugs: each leaves one rule of the protocol out, and the checker must find what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagnats.worker.execution import Execution
from dagnats_core.engine.actor import STORED, Actor
from dagnats_core.engine.partition import Partition


def answer_early() -> None:
    """A report is answered before its decision is stored."""
    commit = Actor._commit

    def planted(self: Actor, decided: Any) -> None:
        for request in self._taken_requests:
            if request.report.kind in ("completed", "failed"):
                self._partition.answer(request.reply, STORED)
        commit(self, decided)

    Actor._commit = planted  # type: ignore[method-assign]


def floor_early() -> None:
    """The floor moves when an input is read, and not when what it called for is stored."""
    on_input = Partition._on_input

    def planted(self: Partition, subject: str, seq: int, data: bytes) -> None:
        on_input(self, subject, seq, data)
        self._pending.clear()
        self.write_floor()

    Partition._on_input = planted  # type: ignore[method-assign]


def no_stamp() -> None:
    """Nothing that the owner writes says under which stamp it was written."""
    write_stamp = Partition._write_stamp

    async def planted(self: Partition, expected: int) -> None:
        await write_stamp(self, expected)
        self._fence = b""

    Partition._write_stamp = planted  # type: ignore[method-assign]


def no_new_stamp() -> None:
    """After a publish whose outcome is unknown the log is read back under the old stamp."""

    async def planted(self: Partition) -> None:
        self._status = "owned"
        self._floor_in_flight = False
        for actor in list(self._actors.values()):
            if actor.busy:
                actor.reset()
        for actor in list(self._actors.values()):
            actor.advance()

    Partition._settle = planted  # type: ignore[method-assign]


def no_claim() -> None:
    """A worker starts whatever it is handed, however old or often."""

    def planted(self: Execution) -> None:
        self.start()

    Execution.claim = planted  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    "answer-early": answer_early,
    "floor-early": floor_early,
    "no-stamp": no_stamp,
    "no-new-stamp": no_new_stamp,
    "no-claim": no_claim,
}
