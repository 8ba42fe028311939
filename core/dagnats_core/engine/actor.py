"""One run in memory: its state, what is waiting to be taken in, and the one decision that is on its way to the log.

An actor takes in what has arrived, decides, hands the messages to the committer, and only when they are stored does it
answer. Of one run at most one decision is unacknowledged. There is no await between reading the state and changing it:
everything here is a plain function, and what must wait (a read, a payload) is a task that calls back.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.publish import OutMessage as Publish
from dagnats_core.bus.subjects import task_token
from dagnats_core.errors import NotFound, TooLarge
from dagnats_core.flow.plan import StepPlan
from dagnats_core.run import messages as m
from dagnats_core.run.decide import Decided, Outcome, OutMessage, decide, digest_of, park
from dagnats_core.run.fold import LogMessage, apply_input
from dagnats_core.run.state import RunState

if TYPE_CHECKING:
    from dagnats_core.engine.partition import Partition

REPORTS_BYTES_MAX = 256 * limits.KIB
"""Reports taken into one decision: so many bytes, so that their message stays below the server's max_payload."""


class Request(NamedTuple):
    """A report that waits for its answer."""

    reply: str
    step: str
    token: str
    report: m.Report
    digest: str
    size: int


class DefinitionNeeded(Exception):
    """The definition that a start names is not in memory."""

    def __init__(self, start: m.Start) -> None:
        super().__init__(start.hash)
        self.start = start


class Actor:
    """A run of an owned partition. `state` is None until the log was folded."""

    __slots__ = (
        "_folded_seq",
        "_generation",
        "_inputs",
        "_loaded",
        "_notices",
        "_partition",
        "_requests",
        "_taken_inputs",
        "_taken_requests",
        "_wrote",
        "busy",
        "run_id",
        "state",
    )

    def __init__(self, partition: Partition, run_id: str, state: RunState | None = None) -> None:
        self.run_id = run_id
        self.state = state
        self.busy = False
        self._partition = partition
        self._inputs: deque[LogMessage] = deque()
        self._requests: deque[Request] = deque()
        self._taken_inputs: list[LogMessage] = []
        self._taken_requests: list[Request] = []
        self._loaded: dict[str, Raw] = {}
        self._notices: list[StepPlan] = []
        self._generation = 0
        self._folded_seq = 0
        self._wrote = False

    @property
    def idle(self) -> bool:
        return not self.busy and not self._inputs and not self._requests

    # ---- what arrives

    def post_input(self, message: LogMessage) -> None:
        self._inputs.append(message)
        if not self.busy:
            self.advance()

    def post_report(self, reply: str, step: str, token: str, data: bytes) -> None:
        report = _read_report(data)
        if report is None:
            self._partition.answer(reply, m.ReportAnswer("not_current", "the report is not readable"))
            return
        if len(self._requests) >= limits.STEPS_MAX:
            return  # the worker sends it again
        self._requests.append(Request(reply, step, token, report, digest_of(report), len(data)))
        if not self.busy:
            self.advance()

    # ---- take in, decide, commit

    def advance(self) -> None:
        """Take in what has arrived, if nothing is on its way."""
        partition = self._partition
        if self.busy or not partition.owned or not (self._inputs or self._requests):
            return
        self.busy = True
        self._wrote = False
        if self.state is None:
            partition.spawn(self._load(self._generation))
            return
        self._take_in()

    def _take_in(self) -> None:
        assert self.state is not None
        self._taken_inputs = list(self._inputs)
        self._inputs.clear()
        size = 0
        while self._requests and size < REPORTS_BYTES_MAX:
            request = self._requests.popleft()
            self._taken_requests.append(request)
            size += request.size
        try:
            for message in self._taken_inputs:
                self._apply(self.state, message)
            self._decide([Outcome(r.step, r.report, r.digest) for r in self._taken_requests if self._owns_step(r)])
        except DefinitionNeeded as needed:
            self._partition.spawn(self._fetch_definition(needed.start, self._generation))
        except Exception as cause:
            self.park_because(cause)

    def _apply(self, state: RunState, message: LogMessage) -> None:
        if message.kind == "in.start" and state.start is None and message.seq <= self._folded_seq:
            return  # the log held it when it was delivered and not when it was read: the run has ended and was cleaned
        apply_input(state, message.seq, message.kind, message.data, self._partition.plan_of)

    def _owns_step(self, request: Request) -> bool:
        """An outcome counts only on the subject of its step's own task type: permissions stand on that."""
        assert self.state is not None
        plan = self.state.plan.steps.get(request.step) if self.state.plan is not None else None
        return plan is not None and task_token(plan.task, plan.worker_group) == request.token

    def _decide(self, outcomes: list[Outcome]) -> None:
        assert self.state is not None
        decided = decide(self.state, self._partition.now_ms(), self._partition.mint, outcomes, self._loaded)
        self._notices += decided.notices
        if decided.messages:
            self._commit(decided)
        else:
            self._proceed(decided)

    def _commit(self, decided: Decided) -> None:
        unit = [self._encode(message) for message in decided.messages]
        verdict = partial(self._committed, self._generation, decided)
        if any(len(message.data) > limits.MESSAGE_BYTES_MAX for message in unit):
            self._partition.spawn(self._offload(decided, unit, verdict))
            return
        self._partition.commit(unit, verdict)

    def _committed(self, generation: int, decided: Decided, error: BaseException | None) -> None:
        if generation != self._generation:
            return  # sent before a new stamp: the fold has told what became of it
        if error is not None:
            self._partition.commit_failed(self, error)
            return
        self._wrote = True
        self._proceed(decided)

    def _proceed(self, decided: Decided) -> None:
        """Everything decided is stored: decide the rest once its payloads are here, or answer."""
        if decided.needs or decided.more:
            self._partition.spawn(self._decide_rest(decided.needs, self._generation))
        else:
            self._complete()

    def _complete(self) -> None:
        partition = self._partition
        for message in self._taken_inputs:
            partition.input_done(message.seq)
        if self._wrote or partition.may_answer():
            for request in self._taken_requests:
                partition.answer(request.reply, self._answer_to(request))
        if self._notices:
            partition.notify(self.run_id, self._notices)
        self._taken_inputs, self._taken_requests, self._notices = [], [], []
        self._loaded = {}
        self.busy = False
        if self._inputs or self._requests:
            self.advance()
        else:
            partition.rests(self)

    def _answer_to(self, request: Request) -> m.ReportAnswer:
        state, report = self.state, request.report
        assert state is not None
        if not self._owns_step(request):
            return NOT_CURRENT
        current = state.current(request.step, report.attempt, report.nonce)
        if report.kind == "claim":
            return GO if current else NOT_CURRENT
        if report.kind in ("started", "alive"):
            return STORED if current else NOT_CURRENT
        step = state.steps.get(request.step)
        if step is not None and step.reports.get(report.attempt) == request.digest:
            return STORED
        return NOT_CURRENT

    def reset(self) -> None:
        """What is on its way is unknown: forget the state, and take in again what was not completed."""
        self._generation += 1
        self._inputs.extendleft(reversed(self._taken_inputs))
        self._requests.extendleft(reversed(self._taken_requests))
        self._taken_inputs, self._taken_requests, self._notices = [], [], []
        self._loaded = {}
        self.state = None
        self.busy = False

    # ---- parking

    def park_because(self, cause: Exception) -> None:
        """Deciding raised, or the log cannot take the decision: fold again, then store that the run stands still."""
        self.state = None
        self._partition.spawn(self._load(self._generation, cause))

    def _park(self, cause: Exception) -> None:
        """A poisoned run never stops its partition: what waits is taken in again by the run that stands still."""
        assert self.state is not None
        self._partition.log_parked(self.run_id, cause)
        unit = [self._encode(park(self.state, self._partition.now_ms(), cause))]
        self._partition.commit(unit, partial(self._parked, self._generation))

    def _parked(self, generation: int, error: BaseException | None) -> None:
        if generation != self._generation:
            return
        if error is not None:
            self._partition.commit_failed(self, error)
            return
        self.reset()
        self.advance()

    # ---- what must wait

    async def _load(self, generation: int, cause: Exception | None = None) -> None:
        """Fold the log, then take in what waits; or park the run because of `cause`, or because it cannot be folded."""
        self._folded_seq = self._inputs[-1].seq if self._inputs else 0
        state, broken = await self._partition.load_run(self.run_id)
        if generation != self._generation:
            return
        self.state = state
        stands = state.parked is not None or state.ended
        if not stands and (why := cause or broken) is not None:
            self._park(why)
        elif cause is not None:
            self._complete()
        else:
            self._take_in()

    async def _fetch_definition(self, start: m.Start, generation: int) -> None:
        try:
            await self._partition.fetch_plan(start)
        except NotFound as cause:
            if generation == self._generation:
                self.park_because(cause)
            return
        if generation != self._generation:
            return
        self._inputs.extendleft(reversed(self._taken_inputs))
        self._requests.extendleft(reversed(self._taken_requests))
        self._taken_inputs, self._taken_requests = [], []
        self._take_in()

    async def _decide_rest(self, needs: list[m.Ref], generation: int) -> None:
        try:
            for ref in needs:
                self._loaded[ref.id] = Raw(await self._partition.load_payload(ref))
            if generation == self._generation:
                self._decide([])
        except Exception as cause:
            if generation == self._generation:
                self.park_because(cause)

    async def _offload(self, decided: Decided, unit: list[Publish], verdict: partial[None]) -> None:
        """A message that would exceed the server's max_payload keeps its large part in the payload store."""
        generation = self._generation
        try:
            for i, message in enumerate(decided.messages):
                if len(unit[i].data) > limits.MESSAGE_BYTES_MAX:
                    slim = await self._partition.offload(message.body)
                    unit[i] = self._encode(message._replace(body=slim))
        except TooLarge as cause:
            if generation == self._generation:
                self.park_because(cause)
            return
        if generation == self._generation:
            self._partition.commit(unit, verdict)

    def _encode(self, message: OutMessage) -> Publish:
        assert self.state is not None
        return self._partition.encode(self.run_id, message, purge_timer=self.state.armed is not None)


GO = m.ReportAnswer("go")
STORED = m.ReportAnswer("stored")
NOT_CURRENT = m.ReportAnswer("not_current")


class _ReportHead(msgspec.Struct):
    attempt: int
    nonce: str


_decode_head = msgspec.json.Decoder(_ReportHead).decode


def _read_report(data: bytes) -> m.Report | None:
    """The report, or the failure that an unreadable one means for its attempt; None if not even that can be read."""
    try:
        return m.decode_report(data)
    except msgspec.DecodeError as error:
        try:
            head = _decode_head(data)
        except msgspec.DecodeError:
            return None
        cause = m.ErrorInfo("unreadable_report", f"the worker's report is not valid: {error}")
        return m.Report(m.FORMAT, "failed", head.attempt, head.nonce, error=cause)


def reply_bytes(answer: m.ReportAnswer) -> bytes:
    return _ANSWERS.get(id(answer)) or m.encode(answer)


_ANSWERS = {id(answer): m.encode(answer) for answer in (GO, STORED, NOT_CURRENT)}


def report_of(message: FastMessage) -> tuple[str, str, str]:
    """(run id, step, task token) of a report's subject. Raises ValueError if it has not that form."""
    tokens = message.subject.split(".")
    if len(tokens) != 7:
        raise ValueError(f"not a report subject: {message.subject[:200]}")
    return tokens[5], tokens[6], tokens[4]
