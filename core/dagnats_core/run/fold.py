"""A run from its messages: the same state, whoever folds it and whenever. Pure.

The order of the log is the order in which the engine took things, not the order of the stream: each `out` message says
with `after` which `in` messages its decision knew, and those are applied before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from dagnats_core.flow.plan import Plan
from dagnats_core.run import messages as m
from dagnats_core.run.state import RunState, apply_decision, ask_cancel, fire_timer, restore, start_run

PlanOf = Callable[[m.Start], Plan]


class LogMessage(NamedTuple):
    """A message of one run's log. `kind` is `in.start`, `in.cancel`, `in.timer`, `out.task`, `out.events`,
    `out.ended`, `out.parked`, `out.snapshot` or `timer`; `key` is the arming's key for `timer`."""

    seq: int
    kind: str
    data: bytes
    key: str = ""


def fold(
    run_id: str, log: Iterable[LogMessage], plan_of: PlanOf, snapshot: m.Snapshot | None = None, upto: int | None = None
) -> RunState:
    """The state of `run_id` after `log`. `snapshot`: the decoded latest one, if the log begins there.
    `upto`: leave out `in` messages above it, as the engine that did not know them would have."""
    ordered = sorted(log)
    inputs = [x for x in ordered if x.kind.startswith("in.") and (upto is None or x.seq <= upto)]
    state = RunState(run_id)
    if snapshot is not None:
        state = restore(run_id, snapshot, plan_of(snapshot.start))
        inputs = [x for x in inputs if x.seq > snapshot.after]
    taken = 0
    for message in ordered:
        if not message.kind.startswith("out."):
            continue
        if message.kind == "out.snapshot":
            n = m.decode_snapshot(message.data).n
            if n > state.n:
                state.n = state.snapshot_n = n
            continue
        decision = m.decode_decision(message.data)
        if decision.n <= state.n:
            continue
        while taken < len(inputs) and inputs[taken].seq <= decision.after:
            apply_input(state, inputs[taken].seq, inputs[taken].kind, inputs[taken].data, plan_of)
            taken += 1
        state.folded = max(state.folded, decision.after)
        apply_decision(state, decision)
    for message in inputs[taken:]:
        apply_input(state, message.seq, message.kind, message.data, plan_of)
    _find_timer(state, ordered)
    return state


def apply_input(state: RunState, seq: int, kind: str, data: bytes, plan_of: PlanOf) -> None:
    """Apply one `in` message. One that is already known (`seq` <= `folded`) changes nothing."""
    if seq <= state.folded:
        return
    if kind == "in.start":
        start = m.decode_start(data)
        start_run(state, seq, start, plan_of(start))
    elif kind == "in.cancel":
        ask_cancel(state, seq, m.decode_cancel(data))
    elif kind == "in.timer":
        fire_timer(state, seq, m.decode_timer(data))
    else:
        state.folded = seq


def _find_timer(state: RunState, ordered: list[LogMessage]) -> None:
    """The schedule that is armed is the one that stands in the log."""
    for message in ordered:
        if message.kind == "timer":
            state.armed = m.Timer(m.decode_timer(message.data).due, message.key)


def broken_state(
    run_id: str, log: Iterable[LogMessage], cached: Callable[[str], Plan | None] | None = None
) -> RunState:
    """What can be said of a run whose log cannot be folded: enough to park it, to show it, and to cancel it."""
    state = RunState(run_id)
    ordered = sorted(log)
    for message in ordered:
        if message.kind.startswith("in."):
            state.folded = max(state.folded, message.seq)
        with contextlib.suppress(msgspec.DecodeError, KeyError):
            _take_what_stands(state, message, cached)
    with contextlib.suppress(msgspec.DecodeError):
        _find_timer(state, ordered)
    if state.parked is not None and not state.ended:
        state.status = "paused"
        state.error = state.parked
    return state


def _take_what_stands(state: RunState, message: LogMessage, cached: Callable[[str], Plan | None] | None) -> None:
    if message.kind == "in.start":
        start = m.decode_start(message.data)
        plan = cached(start.hash) if cached is not None else None
        start_run(state, message.seq, start, plan or _NO_PLAN)
    elif message.kind == "in.cancel":
        state.cancel = m.decode_cancel(message.data).reason
    elif message.kind.startswith("out."):
        head = msgspec.json.decode(message.data, type=_Head)
        state.n = max(state.n, head.n)
        if message.kind == "out.parked":
            state.parked = next(e.error for e in m.decode_decision(message.data).events if isinstance(e, m.RunParked))
        elif message.kind == "out.ended":
            decision = m.decode_decision(message.data)
            ended = next(e for e in decision.events if isinstance(e, m.RunEnded))
            state.status, state.error, state.ended_at = ended.status, ended.error, decision.at


_NO_PLAN = Plan("", {}, (), (), 0, None, None)
"""Stands for a definition that is gone: what is left of its run can be shown and cancelled."""


class _Head(msgspec.Struct):
    n: int
