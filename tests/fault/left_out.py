"""The engine's functions with one rule of the protocol left out each, for `plants`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from dagnats_core.bus.publish import OutMessage as Publish
from dagnats_core.engine.actor import Actor
from dagnats_core.engine.committer import REFUSALS, Committer, Unit, _tell
from dagnats_core.engine.partition import Partition
from dagnats_core.run import decide, state
from dagnats_core.run import fold as fold_module
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage
from dagnats_core.run.state import RunState
from tests.fault import clients, engines, executions

_write_stamp = Partition._write_stamp
_commit = Actor._commit
_on_input = Partition._on_input
_take = Partition.take
_decide = Actor._decide
_load = Actor._load
_fold = fold_module.fold
_snapshot_of = state.snapshot_of
_encode = Partition.encode
_rests = engines.WatchedPartition.rests
_report = executions.Execution._report


# ---- fence, stamps, floor, lease


async def without_fence(self: Partition, expected: int) -> None:
    await _write_stamp(self, expected)
    self._fence = b""


async def read_back_only(self: Partition) -> None:
    self._status = "owned"
    for each in list(self._actors.values()):
        if each.busy:
            each.reset()
    for each in list(self._actors.values()):
        each.advance()


async def stamps_without_lease(self: Partition) -> None:
    until, self.lease_until = self.lease_until, float("inf")
    self._parts.log.process.call_later(0.5, setattr, self, "lease_until", until)  # type: ignore[attr-defined]
    await _take(self)


def done_when_read(self: Partition, subject: str, seq: int, data: bytes) -> None:
    _on_input(self, subject, seq, data)
    self.input_done(seq)


# ---- decisions on their way


def answers_first(self: Actor, decided: decide.Decided) -> None:
    for request in self._taken_requests:
        self._partition.answer(request.reply, self._answer_to(request))
    self._taken_requests = []
    _commit(self, decided)


def notifies_first(self: Actor, decided: decide.Decided) -> None:
    if self._notices:
        self._partition.notify(self.run_id, self._notices)
    _commit(self, decided)


def does_not_wait(self: Actor, decided: decide.Decided) -> None:
    """The next decision of the run is made before this one is stored."""
    unit = [self._encode(message) for message in decided.messages]
    inputs, requests, generation = self._taken_inputs, self._taken_requests, self._generation

    def verdict(error: BaseException | None) -> None:
        if error is not None:
            self._partition.commit_failed(self, error)
        elif generation == self._generation:
            for message in inputs:
                self._partition.input_done(message.seq)
            for request in requests:
                self._partition.answer(request.reply, self._answer_to(request))

    self._partition.commit(unit, verdict)
    self._taken_inputs, self._taken_requests = [], []
    self._wrote = True
    self._proceed(decided)


def loses_refused_batches(self: Committer, units: list[Unit], future: Any) -> None:
    self._batches -= 1
    error = None if future.cancelled() else future.exception()
    self._again()
    if not (len(units) > 1 and isinstance(error, REFUSALS)):
        for unit in units:
            _tell(unit, future)


def claims_are_only_read(self: Actor, outcomes: list[decide.Outcome]) -> None:
    if self._taken_requests and not self._taken_inputs and all(r.report.kind == "claim" for r in self._taken_requests):
        self._complete()
    else:
        _decide(self, outcomes)


async def stays_poisoned(self: Actor, generation: int, cause: Exception | None = None) -> None:
    if cause is None:
        await _load(self, generation)


def takes_in_whatever_was_read(self: Actor, run: RunState, message: LogMessage) -> None:
    fold_module.apply_input(run, message.seq, message.kind, message.data, self._partition.plan_of)


# ---- what the log says


def in_order_of_storing(
    run_id: str, log: Sequence[LogMessage], plan_of: Any, snapshot: m.Snapshot | None = None, upto: int | None = None
) -> RunState:
    """The fold of a log whose decisions do not say what they knew."""
    rewritten = []
    for message in log:
        if message.kind.startswith("out.") and message.kind != "out.snapshot":
            decision = msgspec.structs.replace(m.decode_decision(message.data), after=message.seq - 1)
            rewritten.append(message._replace(data=m.encode(decision)))
        else:
            rewritten.append(message)
    return _fold(run_id, rewritten, plan_of, snapshot, upto)


def current_without_nonce(self: RunState, step_id: str, attempt: int, nonce: str) -> bool:
    step = self.steps.get(step_id)
    live = step is not None and step.status in state.LIVE and step.attempt == attempt
    return live and not self.ended and self.parked is None


def only_the_last(step: state.StepState, attempt: int, digest: str) -> None:
    step.reports = {attempt: digest}


def forgetful_snapshot(run: RunState, n: int, at: int) -> m.Snapshot:
    snapshot = _snapshot_of(run, n, at)
    steps = [msgspec.structs.replace(step, reports={}) for step in snapshot.steps]
    return msgspec.structs.replace(snapshot, steps=steps)


def same_key(due: int, key: str) -> m.Timer:
    return m.Timer(due, "t")


class Messages:
    """`run.messages` as `decide` sees it, with one name replaced."""

    def __init__(self, **replaced: object) -> None:
        self.__dict__.update({name: getattr(m, name) for name in dir(m)}, **replaced)


def stays_armed(run: RunState, seq: int, fired: m.TimerFired) -> None:
    run.folded = max(run.folded, seq)
    run.now = max(run.now, fired.due)


def timer_outlives(self: Partition, run_id: str, message: decide.OutMessage, purge_timer: bool) -> Publish:
    return _encode(self, run_id, message, purge_timer=False)


def purges_in_life(self: engines.WatchedPartition, each: Actor) -> None:
    """A live run that has no deadline left takes its timer away, by a purge that nothing fences."""
    run = each.state
    if run is not None and run.armed is not None and not run.ended and not decide.next_due(run):
        timer = self._parts.subjects.timer(self.number, each.run_id)
        world = self._parts.log.network.world
        late_s = world.between(0.0, 3.0) if world.chance() < 0.5 else world.delay()
        world.after(late_s, self._parts.log.network.stream.remove_subject, timer)
        run.armed = None
    _rests(self, each)


# ---- workers and clients


def acks_first(self: executions.Execution, data: bytes) -> None:
    self.delivery.acked = True
    _report(self, data)


def starts_without_looking(self: clients.Clients, spec: clients.RunSpec) -> None:
    subject = self.network.subjects.start(int(clients.partition_of(spec.run_id)), spec.run_id)
    unit = [Publish(subject, m.encode(spec.start), clients.NEW)]
    self.committer.submit(unit, partial(self._started, spec))
