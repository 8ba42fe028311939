"""A run played by the pure core alone: decisions are stored in a list, workers and time are moves that a test draws."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw

from dagnats_core.flow.model import Definition, RetryPolicy, Step
from dagnats_core.flow.plan import Plan, compile_plan
from dagnats_core.run import messages as m
from dagnats_core.run.decide import Decided, Outcome, OutMessage, decide, digest_of, minter, park
from dagnats_core.run.fold import LogMessage, apply_input, fold
from dagnats_core.run.state import RunState, StepState

RUN_ID = "01hf7yat2kmap2qvrzde0b6srm00"
EPOCH_MS = 1_700_000_000_000
CONDITION = "steps.{}.output.n > 1"


# ---- what is drawn


@st.composite
def definitions(draw: st.DrawFn, *, timed: bool = True, shaped: bool = True) -> Definition:
    """Up to seven steps in any shape. `timed`: with timeouts and delayed retries; `shaped`: with `when` and `input`."""
    steps: list[Step] = []
    for i in range(draw(st.integers(1, 7))):
        before = [step.id for step in steps]
        chosen = draw(st.sets(st.sampled_from(before), max_size=3)) if before else set()
        depends_on = tuple(sorted(chosen))
        delay = draw(st.sampled_from(["0s", "1s"])) if timed else "0s"
        policy = RetryPolicy(max_attempts=draw(st.integers(1, 3)), initial_delay=delay)
        first = depends_on[0] if depends_on else None
        steps.append(
            Step(
                id=f"s{i}",
                task=f"task.{draw(st.integers(0, 1))}",
                depends_on=depends_on,
                retry=draw(st.sampled_from([None, policy])),
                timeout=draw(st.sampled_from([None, "3s"])) if timed else None,
                queue_timeout=draw(st.sampled_from([None, None, "5s"])) if timed else None,
                when=CONDITION.format(first) if first and shaped and draw(st.booleans()) else None,
                input={"got": f"steps.{first}.output.n"} if first and shaped and draw(st.integers(0, 3)) == 0 else None,
            )
        )
    timeout = draw(st.sampled_from([None, None, "60s"])) if timed else None
    return Definition(name="played", steps=tuple(steps), timeout=timeout)


MOVES = ("complete", "complete", "complete", "fail", "retry", "started", "stale", "wait", "fire", "two", "cancel")
Move = tuple[str, int, int]


def moves(*kinds: str) -> st.SearchStrategy[list[Move]]:
    """What workers, clients and time do: a kind, and two numbers that choose among what is possible then."""
    return st.lists(st.tuples(st.sampled_from(kinds or MOVES), st.integers(0, 9), st.integers(0, 3)), max_size=40)


# ---- the play


class Play:
    """One run: its state as `decide` leaves it, and the log of what was stored."""

    def __init__(self, definition: Definition, seed: dict[str, m.Seed] | None = None) -> None:
        self.plan: Plan = compile_plan(definition)
        self.state = RunState(RUN_ID)
        self.log: list[LogMessage] = []
        self.out: list[OutMessage] = []
        self.payloads: dict[str, Raw] = {}
        self.now = EPOCH_MS
        self.seq = 0
        self.timers = 0
        start = m.Start(m.FORMAT, self.now, "played", 1, "h", input=Raw(b'{"n":1}'), seed=seed or {})
        self._take_in("in.start", m.encode(start))
        self.decide()

    def plan_of(self, start: m.Start) -> Plan:
        return self.plan

    # ---- the log

    def _store(self, kind: str, data: bytes, key: str = "") -> None:
        self.seq += 1
        self.log.append(LogMessage(self.seq, kind, data, key))

    def _take_in(self, kind: str, data: bytes) -> None:
        self._store(kind, data)
        apply_input(self.state, self.seq, kind, data, self.plan_of)

    def decide(self, *outcomes: Outcome) -> Decided:
        """Decide and store all that is called for, payloads included; the last decision."""
        loaded: dict[str, Raw] = {}
        decided = self._decide_once(outcomes, loaded)
        while decided.needs or decided.more:
            loaded |= {ref.id: self.payloads[ref.id] for ref in decided.needs}
            decided = self._decide_once((), loaded)
        return decided

    def _decide_once(self, outcomes: tuple[Outcome, ...], loaded: dict[str, Raw]) -> Decided:
        decided = decide(self.state, self.now, minter(b"secret"), outcomes, loaded)
        for message in decided.messages:
            self.out.append(message)
            if isinstance(message.body, m.Timer):
                self.timers += 1
                self.log = [stored for stored in self.log if stored.kind != "timer"]
                self._store("timer", m.encode(m.TimerFired(m.FORMAT, message.body.due)), message.body.key)
            else:
                self._store(f"out.{message.kind}", m.encode(message.body))
        if self.state.ended:
            self.log = [stored for stored in self.log if stored.kind != "timer"]
        return decided

    def folded(self, upto: int | None = None) -> RunState:
        return fold(RUN_ID, self.log, self.plan_of, upto=upto)

    # ---- moves

    def move(self, move: Move) -> None:
        """Carry out a move if it is possible now."""
        kind, which, value = move
        live = [step_id for step_id, step in self.state.steps.items() if step.status in ("queued", "running")]
        if kind == "wait":
            self.now += 700 * (which + 1)
            self.decide()
        elif kind == "fire":
            self.fire()
        elif kind == "cancel":
            self.cancel()
        elif kind == "stale":
            self.decide(*(self.outcome(step, "completed", value, attempt=9) for step in list(self.state.steps)[:1]))
        elif live and kind == "two":
            chosen = live[: 2 + which % 2]
            self.decide(*(self.outcome(step, "completed", value) for step in chosen))
        elif live:
            step = live[which % len(live)]
            said = {"complete": "completed", "fail": "failed", "retry": "failed", "started": "started"}[kind]
            self.decide(self.outcome(step, said, value, retryable=kind == "retry"))

    def fire(self) -> None:
        """The server's timer fires, if one is armed: time has come to its deadline."""
        armed = next((stored for stored in self.log if stored.kind == "timer"), None)
        if armed is not None:
            self.log.remove(armed)
            self.now = max(self.now, m.decode_timer(armed.data).due)
            self._take_in("in.timer", armed.data)
            self.decide()

    def cancel(self) -> None:
        if not any(stored.kind == "in.cancel" for stored in self.log):
            self._take_in("in.cancel", m.encode(m.Cancel(m.FORMAT, self.now, "asked")))
            self.decide()

    def park(self, cause: Exception) -> None:
        """The run is parked, as an engine does when deciding raises."""
        message = park(self.state, self.now, cause)
        self._store("out.parked", m.encode(message.body))
        self.state = self.folded()

    def outcome(
        self, step_id: str, kind: Any, value: int, attempt: int | None = None, retryable: bool = True
    ) -> Outcome:
        """A report of the current attempt (or of another). Every fourth value goes by reference."""
        step = self.state.steps[step_id]
        output = Raw(json.dumps({"n": value, "of": step_id}).encode())
        ref = None
        if value == 3:
            digest = hashlib.sha256(bytes(output)).hexdigest()
            ref = m.Ref(f"{step_id}.{step.attempt}", len(bytes(output)), digest)
            self.payloads[ref.id] = output
        report = m.Report(
            m.FORMAT,
            kind,
            step.attempt if attempt is None else attempt,
            step.nonce,
            "w",
            started_at=self.now,
            ended_at=self.now,
            retryable=retryable,
        )
        if kind == "completed":
            fields: dict[str, Any] = {"output_ref": ref} if ref else {"output": output}
            report = m.Report(**{name: getattr(report, name) for name in report.__struct_fields__} | fields)
        elif kind == "failed":
            error = m.ErrorInfo("handler_error", f"no {value}")
            report = m.Report(**{name: getattr(report, name) for name in report.__struct_fields__} | {"error": error})
        return Outcome(step_id, report, digest_of(report))


def facts(state: RunState) -> dict[str, object]:
    """All that a state says, in a form that compares."""

    def plain(value: object) -> object:
        return bytes(value) if isinstance(value, Raw) else value

    told = {
        name: plain(getattr(state, name)) for name in RunState.__slots__ if name not in ("plan", "steps", "earliest")
    }
    for step_id, step in state.steps.items():
        told |= {f"{step_id}.{name}": plain(getattr(step, name)) for name in StepState.__slots__}
    return told
