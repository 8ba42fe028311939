"""One owned partition: its stamp, its runs, how far its inputs are done. See PROTOCOL.md.

The stamp is the fence: every message of the partition says which stamp it was written under, and the server refuses it
once somebody else has stamped. A publish whose outcome is unknown is settled by stamping again (whatever of it arrives
later is refused) and folding the log; only then is anything decided or answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar

import structlog

from dagnats_core import limits
from dagnats_core.bus.errors import PublishTimeout, WrongSequence
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.publish import OutMessage as Publish
from dagnats_core.bus.schedule import purge_headers, schedule_headers
from dagnats_core.bus.subjects import parse_run_subject, task_token
from dagnats_core.engine.actor import Actor, DefinitionNeeded, reply_bytes, report_of
from dagnats_core.engine.committer import Committer, Verdict
from dagnats_core.engine.offload import offload
from dagnats_core.engine.parts import Parts
from dagnats_core.engine.ports import InputReader
from dagnats_core.engine.reader import fold_run
from dagnats_core.errors import DagNatsError, NotFound, TooLarge
from dagnats_core.flow.plan import Plan, StepPlan
from dagnats_core.run import messages as m
from dagnats_core.run.decide import OutMessage, minter
from dagnats_core.run.fold import LogMessage
from dagnats_core.run.state import RunState

log = structlog.get_logger("dagnats.engine")

ENDED_KEPT_MAX = 256
"""Ended runs a partition keeps in memory, so that repeated reports are answered without reading the log."""
RESTAMP_S = limits.HOT_MS_MIN / limits.SECOND_MS / 2
"""An owner stamps anew so often, so that an old stamp, also of an idle partition, does not hold the purge back."""
RETRY_S = 1.0
"""How long to wait after the store refused a message that it may take later (no room, no leader)."""


T = TypeVar("T")


class Lost(Exception):
    """Somebody else stamped: this engine owns the partition no more."""


class Partition:
    """A partition that this engine owns, from `take` to `lose` or `stop`."""

    def __init__(self, number: int, parts: Parts, committer: Committer, on_lost: Callable[[Partition], None]) -> None:
        self.number = number
        self.lease_until = 0.0
        self.mint = minter(parts.entropy(32))
        self._parts = parts
        self._committer = committer
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._status: Literal["new", "owned", "unsure", "over"] = "new"
        self._stamp = 0
        self._stamped_at = 0.0
        self._taken_at_seq = 0
        self._fence = b""
        self._actors: dict[str, Actor] = {}
        self._ended: dict[str, None] = {}
        self._pending: dict[int, None] = {}
        self._read_seq = 0
        self._floor = 0
        self._floor_in_flight = False
        self._reader: InputReader | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loads = asyncio.Semaphore(limits.LOADS_IN_FLIGHT_MAX)
        self._moved = asyncio.Event()

    # ---- owning

    @property
    def owned(self) -> bool:
        return self._status == "owned"

    @property
    def lag(self) -> int:
        """Inputs that were read and are not done."""
        return len(self._pending)

    def may_answer(self) -> bool:
        """Whether an answer that needed no write may be given: the lease surely still holds by our own clock."""
        return self._loop.time() < self.lease_until

    async def take(self) -> None:
        """Stamp, then read what is not done. Raises Lost if somebody else stamps, or `lose` is called, meanwhile."""
        subjects = self._parts.subjects
        mark = await self._parts.log.last(self.number, subjects.own(self.number))
        if not self.may_answer():
            # Whoever holds the lease now may have stamped before we read: a stamp on top of his would take the log
            # from him while he still answers.
            raise Lost(f"the lease of partition {self.number} ran out before it was taken")
        await self._write_stamp(mark.seq)
        self._taken_at_seq = self._stamp
        floor = await self._parts.log.last(self.number, subjects.floor(self.number))
        self._floor = self._read_seq = m.decode_floor(floor.data).seq if floor.seq else 0
        self._check_not_over()
        self._status = "owned"
        unsubscribe = await self._parts.requests.subscribe(self.number, self._on_report)
        reader = self._parts.log.inputs(self.number, self._floor + 1, self._on_input)
        try:
            await reader.start()
            self._check_not_over()
        except BaseException:
            unsubscribe()
            await reader.stop()
            raise
        self._unsubscribe, self._reader = unsubscribe, reader

    def _check_not_over(self) -> None:
        if self._status == "over":
            raise Lost(f"partition {self.number} was lost while it was taken")

    async def _write_stamp(self, expected: int) -> None:
        """Write our stamp on top of `expected`, whatever it takes to know the outcome. Raises Lost."""
        subject = self._parts.subjects.own(self.number)
        body = m.encode(m.Stamp(m.FORMAT, self._parts.engine_id, self._parts.entropy(8).hex(), self._parts.now_ms()))
        headers = b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % expected
        while True:
            self._check_not_over()
            try:
                seq = (await self._parts.log.publish(subject, body, headers)).seq
                break
            except (WrongSequence, PublishTimeout):
                mark = await self._insist(lambda: self._parts.log.last(self.number, subject))
                if mark.data == body:
                    seq = mark.seq
                    break
                if mark.seq != expected:
                    raise Lost(f"partition {self.number} was stamped by another engine") from None
            except DagNatsError as error:
                log.warning("stamp refused, trying again", partition=self.number, error=str(error))
                await asyncio.sleep(RETRY_S)
        self._stamp = seq
        self._stamped_at = self._loop.time()
        fence = (
            f"Nats-Expected-Last-Subject-Sequence: {seq}\r\nNats-Expected-Last-Subject-Sequence-Subject: {subject}\r\n"
        )
        self._fence = fence.encode()

    def lose(self) -> None:
        """Stop at once and answer nobody: another engine owns the partition, or the lease is gone."""
        if self._status == "over":
            return
        self._status = "over"
        self._moved.set()
        for actor in self._actors.values():
            actor.reset()
        self._actors.clear()
        if self._unsubscribe is not None:
            self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        self._on_lost(self)

    async def close(self) -> None:
        """After `lose`: wait until the reader and the tasks are gone."""
        if self._reader is not None:
            await self._reader.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Leave in order: take in nothing more, let what is on its way be stored, write the floor."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._reader is not None:
            await self._reader.stop()
        await self._until(lambda: not any(actor.busy for actor in self._actors.values()))
        if self.owned:
            self.write_floor()
            await self._until(lambda: not self._floor_in_flight)
        self.lose()
        await self.close()

    async def _until(self, done: Callable[[], bool]) -> None:
        """Return when `done()`, or when the partition is not surely owned any more."""
        while self.owned and not done():
            self._moved.clear()
            await self._moved.wait()

    # ---- what arrives

    def _on_input(self, subject: str, seq: int, data: bytes) -> None:
        if self._status == "over":
            return
        parsed = parse_run_subject(subject)
        self._read_seq = seq
        self._pending[seq] = None
        message = LogMessage(seq, parsed.kind, data)
        actor = self._actors.get(parsed.run_id)
        if actor is None:
            # A start after our stamp is the first message of its run: nobody but us could have decided on it since.
            new = parsed.kind == "in.start" and seq > self._taken_at_seq
            actor = self._add(parsed.run_id, RunState(parsed.run_id) if new else None)
        actor.post_input(message)

    def _on_report(self, message: FastMessage) -> None:
        if self._status == "over" or not message.reply:
            return
        try:
            run_id, step, token = report_of(message)
        except ValueError as error:
            self.answer(message.reply, m.ReportAnswer("not_current", str(error)))
            return
        actor = self._actors.get(run_id) or self._add(run_id, None)
        actor.post_report(message.reply, step, token, message.data)

    def _add(self, run_id: str, state: RunState | None) -> Actor:
        if len(self._actors) >= self._parts.runs_max:
            self._evict()
        actor = self._actors[run_id] = Actor(self, run_id, state)
        return actor

    def _evict(self) -> None:
        """Forget an idle run: the log holds it."""
        for run_id, actor in self._actors.items():
            if actor.idle:
                del self._actors[run_id]
                self._ended.pop(run_id, None)
                return

    def rests(self, actor: Actor) -> None:
        """An actor has nothing to do. Ended runs make room first."""
        self._moved.set()
        if actor.state is None or actor.state.start is None:
            self._actors.pop(actor.run_id, None)
        elif actor.state.ended and actor.run_id not in self._ended:
            self._ended[actor.run_id] = None
            if len(self._ended) > ENDED_KEPT_MAX:
                oldest = next(iter(self._ended))
                del self._ended[oldest]
                kept = self._actors.get(oldest)
                if kept is not None and kept.idle:
                    del self._actors[oldest]

    # ---- what actors ask for

    def now_ms(self) -> int:
        return self._parts.now_ms()

    def plan_of(self, start: m.Start) -> Plan:
        plan = self._parts.definitions.cached(start.hash)
        if plan is None:
            raise DefinitionNeeded(start)
        return plan

    async def fetch_plan(self, start: m.Start) -> Plan:
        return await self._insist(lambda: self._parts.definitions.plan(start.workflow, start.hash))

    async def load_payload(self, ref: m.Ref) -> bytes:
        return await self._insist(lambda: self._parts.payloads.get(ref))

    async def offload(self, body: m.Decision | m.Snapshot | m.Timer) -> m.Decision | m.Snapshot | m.Timer:
        """The same message with its large part in the payload store."""
        return await self._insist(lambda: offload(self._parts.payloads, body))

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask a store until it answers. That it does not hold something, or never will (TooLarge), is an answer."""
        while True:
            self._check_not_over()
            try:
                return await ask()
            except (NotFound, TooLarge):
                raise
            except DagNatsError as error:
                log.warning("a store does not answer, trying again", partition=self.number, error=str(error))
                await asyncio.sleep(RETRY_S)

    def answer(self, reply: str, answer: m.ReportAnswer) -> None:
        self._parts.requests.send(reply, reply_bytes(answer))

    def notify(self, run_id: str, steps: Sequence[StepPlan]) -> None:
        """Tell the workers of these steps that their run has ended."""
        data = m.encode(m.CancelNotice(run_id))
        for token in dict.fromkeys(task_token(step.task, step.worker_group) for step in steps):
            self._parts.requests.send(self._parts.subjects.cancel_notice(token), data)

    def log_parked(self, run_id: str, cause: Exception) -> None:
        log.error("run parked", run_id=run_id, partition=self.number, exc_info=cause)

    def commit(self, unit: Sequence[Publish], verdict: Verdict) -> None:
        self._committer.submit(unit, verdict)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what must wait; if it fails, all that is on its way starts afresh a little later."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("engine task failed", partition=self.number, exc_info=error)
            self._loop.call_later(RETRY_S, self.lose if self._status == "unsure" else self._unsure)

    async def load_run(self, run_id: str) -> tuple[RunState, Exception | None]:
        """The run folded from the log, and why that failed, if it did (the run is then parked)."""
        async with self._loads:
            return await self._insist(lambda: self._load_run(run_id))

    async def _load_run(self, run_id: str) -> tuple[RunState, Exception | None]:
        messages = await self._parts.log.read_run(self.number, run_id)
        return await fold_run(run_id, messages, self._parts.definitions, self._parts.payloads)

    # ---- how commits end

    def commit_failed(self, actor: Actor, error: BaseException) -> None:
        """A unit of `actor` was not stored, or nobody knows."""
        if self._status != "owned":
            return  # stamping again resets every actor that has something on its way
        if isinstance(error, WrongSequence):
            log.warning("refused by a newer stamp: the partition is somebody else's", partition=self.number)
            self.lose()
        elif isinstance(error, TooLarge):
            actor.park_because(error)
        elif isinstance(error, PublishTimeout | asyncio.CancelledError):
            self._unsure()
        else:
            log.warning("the store refused a decision, trying again", partition=self.number, error=str(error))
            actor.reset()
            self._moved.set()
            self._loop.call_later(RETRY_S, actor.advance)

    def _unsure(self) -> None:
        if self._status == "owned":
            self._status = "unsure"
            self._moved.set()
            self.spawn(self._settle())

    async def _settle(self) -> None:
        """Stamp again: what is still on its way is refused from now on. Then everybody reads back."""
        try:
            await self._write_stamp(self._stamp)
        except Lost:
            self.lose()
            return
        self._status = "owned"
        self._floor_in_flight = False
        self._floor = 0
        for actor in list(self._actors.values()):
            if actor.busy:
                actor.reset()
        for actor in list(self._actors.values()):
            actor.advance()

    # ---- the floor

    def input_done(self, seq: int) -> None:
        """Everything that this input called for is stored."""
        self._pending.pop(seq, None)

    def write_floor(self) -> None:
        """Store how far the inputs are done, if that moved; and now and then a new stamp."""
        if not self.owned or self._floor_in_flight:
            return
        if self._loop.time() - self._stamped_at > RESTAMP_S:
            self._unsure()
            return
        done = next(iter(self._pending)) - 1 if self._pending else self._read_seq
        if done <= self._floor:
            return
        self._floor_in_flight = True
        data = m.encode(m.Floor(m.FORMAT, done))
        unit = [Publish(self._parts.subjects.floor(self.number), data, self._fence)]
        stamp = self._stamp

        def verdict(error: BaseException | None) -> None:
            if stamp != self._stamp:
                return
            self._floor_in_flight = False
            self._moved.set()
            if error is None:
                self._floor = done
            elif isinstance(error, WrongSequence) and self._status == "owned":
                self.lose()
            elif isinstance(error, PublishTimeout):
                self._unsure()

        self._committer.submit(unit, verdict)

    # ---- messages onto the wire

    def encode(self, run_id: str, message: OutMessage, purge_timer: bool) -> Publish:
        """The message as it is published: subject, body, and headers with the fence."""
        subjects, number = self._parts.subjects, self.number
        body = message.body
        if isinstance(body, m.Timer):
            target = subjects.timer_input(number, run_id, body.key)
            data = m.encode(m.TimerFired(m.FORMAT, body.due))
            return Publish(subjects.timer(number, run_id), data, self._fence + schedule_headers(body.due, target))
        data = m.encode(body)
        if message.kind == "task":
            assert message.task is not None
            token = task_token(message.task.task, message.task.worker_group)
            return Publish(subjects.task(number, run_id, token, message.n), data, self._fence)
        if message.kind == "ended":
            headers = self._fence
            if purge_timer:
                headers += purge_headers(subjects.timer(number, run_id))
            return Publish(subjects.ended(number, run_id), data, headers)
        if message.kind == "events":
            return Publish(subjects.events(number, run_id, message.n), data, self._fence)
        if message.kind == "snapshot":
            return Publish(subjects.snapshot(number, run_id, message.n), data, self._fence)
        return Publish(subjects.parked(number, run_id, message.n), data, self._fence)
