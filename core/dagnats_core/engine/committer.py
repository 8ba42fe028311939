"""Group commit: packs what is ready into publishes. Decides how things are sent, never what.

A *unit* is all or nothing for its caller: the messages of one decision, or one start. Little to do: each message is a
publish of its own (one round trip). Much to do under `always`, or units of several messages: one atomic batch for many
units, which commits with a few fsyncs (design, section 9). A refused batch stored nothing, so it is halved and sent
again until each unit that is refused stands alone and gets its own verdict.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from dagnats_core import limits
from dagnats_core.bus.errors import ApiError, BatchRefused, WrongSequence
from dagnats_core.bus.publish import OutMessage, PubAck
from dagnats_core.engine.ports import PublishPort
from dagnats_core.errors import TooLarge

Verdict = Callable[[BaseException | None], None]
"""None = all of the unit is stored; else the error, one of `bus.publish.Publisher`'s."""

SINGLES_MAX = 16
"""Messages below which `always` publishes one by one: an atomic batch costs 5-20 ms on a file stream."""
PIECES_MAX = 4
"""A unit of so few messages goes piece by piece when nothing else is waiting."""
BATCHES_IN_FLIGHT_MAX = 2
"""One is being stored while the next is on its way; the server stores one at a time."""
REFUSALS = (WrongSequence, BatchRefused, TooLarge, ApiError)
"""What a single unit may have brought upon a whole batch."""


class Unit:
    __slots__ = ("messages", "verdict")

    def __init__(self, messages: Sequence[OutMessage], verdict: Verdict) -> None:
        self.messages = messages
        self.verdict = verdict


class Committer:
    """Commits units of one stream. `synced`: every publish waits for an fsync; `replicated`: pipelined singles that
    check one subject are refused by the server (10164), so everything goes in batches, one at a time."""

    def __init__(self, log: PublishPort, *, synced: bool, replicated: bool = False) -> None:
        self._log = log
        self._synced = synced
        self._replicated = replicated
        self._batches_max = 1 if replicated else BATCHES_IN_FLIGHT_MAX
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Unit] = deque()
        self._refused: deque[list[Unit]] = deque()
        self._waiting_messages = 0
        self._singles = 0
        self._batches = 0
        self._flush_due = False
        self.sent_messages = 0
        self.sent_batches = 0

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._refused and not self._singles and not self._batches

    def submit(self, messages: Sequence[OutMessage], verdict: Verdict) -> None:
        """Commit `messages` in order, all in one stream; `verdict` is called once, never from within this call."""
        self._waiting.append(Unit(messages, verdict))
        self._waiting_messages += len(messages)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._refused:
            self._flush_refused()
        if not self._waiting:
            return
        if not self._replicated and not self._synced:
            self._flush_relaxed()
        elif self._replicated or self._waiting_messages + self._singles >= SINGLES_MAX or not self._all_small():
            # What is being sent singly flushes again when it is stored: what waits meanwhile makes the batch fuller.
            if not self._singles:
                self._flush_batches()
        elif not self._batches:
            self._flush_singly()

    def _all_small(self) -> bool:
        return all(len(unit.messages) <= PIECES_MAX for unit in self._waiting)

    def _flush_relaxed(self) -> None:
        """Without fsync a pipelined publish is cheapest; only units of several messages gain from a batch."""
        several: deque[Unit] = deque()
        while self._waiting:
            unit = self._waiting.popleft()
            if len(unit.messages) == 1:
                self._waiting_messages -= 1
                self._send_single(unit)
            else:
                several.append(unit)
        self._waiting = several
        if len(several) == 1 and len(several[0].messages) <= PIECES_MAX and not self._batches:
            self._flush_singly()
        elif several:
            self._flush_batches()

    def _flush_singly(self) -> None:
        while self._waiting:
            unit = self._waiting.popleft()
            self._waiting_messages -= len(unit.messages)
            if len(unit.messages) == 1:
                self._send_single(unit)
            else:
                self._send_piece(unit, 0)

    def _flush_batches(self) -> None:
        while self._waiting and self._batches < self._batches_max:
            units: list[Unit] = []
            count = 0
            while self._waiting:
                unit = self._waiting[0]
                if units and count + len(unit.messages) > limits.BATCH_MESSAGES_TARGET:
                    break
                if len(unit.messages) > limits.BATCH_MESSAGES_MAX:
                    if units:
                        break
                    self._waiting.popleft()
                    self._waiting_messages -= len(unit.messages)
                    self._send_slice(unit, 0)
                    break
                units.append(self._waiting.popleft())
                count += len(unit.messages)
            if units:
                self._waiting_messages -= count
                self._send_batch(units)

    def _flush_refused(self) -> None:
        while self._refused and self._batches < self._batches_max:
            self._send_batch(self._refused.popleft())

    # ---- sending

    def _send_single(self, unit: Unit) -> None:
        self._singles += 1
        self.sent_messages += 1
        message = unit.messages[0]
        future = self._log.publish(message.subject, message.data, message.headers)
        future.add_done_callback(partial(self._single_done, unit))

    def _single_done(self, unit: Unit, future: asyncio.Future[PubAck]) -> None:
        self._singles -= 1
        self._again()
        _tell(unit, future)

    def _send_piece(self, unit: Unit, index: int) -> None:
        self._singles += 1
        self.sent_messages += 1
        message = unit.messages[index]
        future = self._log.publish(message.subject, message.data, message.headers)
        future.add_done_callback(partial(self._piece_done, unit, index))

    def _piece_done(self, unit: Unit, index: int, future: asyncio.Future[PubAck]) -> None:
        self._singles -= 1
        if index + 1 < len(unit.messages) and _succeeded(future):
            self._send_piece(unit, index + 1)
            return
        self._again()
        _tell(unit, future)

    def _send_slice(self, unit: Unit, start: int) -> None:
        """A unit larger than a batch goes in batches, each after the one before it is stored."""
        self._batches += 1
        part = unit.messages[start : start + limits.BATCH_MESSAGES_MAX]
        self.sent_messages += len(part)
        self.sent_batches += 1
        future = self._log.publish_batch(part)
        future.add_done_callback(partial(self._slice_done, unit, start + len(part)))

    def _slice_done(self, unit: Unit, start: int, future: asyncio.Future[PubAck]) -> None:
        self._batches -= 1
        if start < len(unit.messages) and _succeeded(future):
            self._send_slice(unit, start)
            return
        self._again()
        _tell(unit, future)

    def _send_batch(self, units: list[Unit]) -> None:
        self._batches += 1
        messages = [message for unit in units for message in unit.messages]
        self.sent_messages += len(messages)
        self.sent_batches += 1
        future = self._log.publish_batch(messages)
        future.add_done_callback(partial(self._batch_done, units))

    def _batch_done(self, units: list[Unit], future: asyncio.Future[PubAck]) -> None:
        self._batches -= 1
        error = None if future.cancelled() else future.exception()
        if len(units) > 1 and isinstance(error, REFUSALS):
            half = len(units) // 2
            self._refused.extendleft((units[half:], units[:half]))
            units = []
        self._again()
        for unit in units:
            _tell(unit, future)

    def _again(self) -> None:
        if (self._waiting or self._refused) and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)


def _succeeded(future: asyncio.Future[PubAck]) -> bool:
    return not future.cancelled() and future.exception() is None


def _tell(unit: Unit, future: asyncio.Future[PubAck]) -> None:
    unit.verdict(asyncio.CancelledError() if future.cancelled() else future.exception())
