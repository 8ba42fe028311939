"""Laws of a run: the log tells the state, nothing is decided twice, and a message holds what it may hold."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.flow.model import Definition, Step
from dagnats_core.run import messages as m
from dagnats_core.run.decide import decide, minter
from dagnats_core.run.fold import fold
from dagnats_core.run.state import restore, snapshot_of
from dagnats_core.run.views import final_of
from tests.property.run_play import RUN_ID, Move, Play, definitions, facts, moves

law = settings(max_examples=150, deadline=None)


def played(definition: Definition, chosen: list[Move]) -> Play:
    play = Play(definition)
    for move in chosen:
        play.move(move)
    return play


@law
@given(definitions(), moves())
def test_the_log_tells_the_state_that_decisions_left(definition: Definition, chosen: list[Move]) -> None:
    play = Play(definition)
    for move in chosen:
        play.move(move)
        told, kept = facts(play.folded()), facts(play.state)
        # An engine does not hear that the end took its timer away; nobody asks for it any more.
        if play.state.ended:
            told["armed"] = kept["armed"] = None
        assert told == kept
        due = min((play.state.steps[step_id].due for step_id in play.state.timed), default=0)
        assert not due or 0 < play.state.earliest <= due


@law
@given(definitions(), moves())
def test_what_is_decided_is_not_decided_again(definition: Definition, chosen: list[Move]) -> None:
    play = Play(definition)
    for move in chosen:
        play.move(move)
        again = decide(play.state, play.now, minter(b"other"), (), play.payloads)
        assert (again.messages, again.notices, again.needs) == ([], [], [])
        replayed = decide(play.folded(), play.now, minter(b"other"), (), play.payloads)
        assert replayed.messages == []


@law
@given(definitions(), moves())
def test_a_crash_anywhere_leaves_what_the_next_decision_completes(definition: Definition, chosen: list[Move]) -> None:
    """Cut the log behind any message: deciding on what is left calls for the rest, and never for what stands."""
    play = played(definition, chosen)
    outs = [stored for stored in play.log if stored.kind.startswith("out.")]
    for cut in outs:
        left = [stored for stored in play.log if stored.seq <= cut.seq and stored.kind != "timer"]
        state = fold(RUN_ID, left, play.plan_of)
        before = state.n
        decided = decide(state, state.now, minter(b"next"), (), play.payloads)
        numbers = [message.n for message in decided.messages if message.kind != "timer"]
        assert numbers == list(range(before + 1, before + 1 + len(numbers)))
        again = fold(RUN_ID, left, play.plan_of)
        standing = {(step, s.attempt) for step, s in again.steps.items() if s.status in ("queued", "running")}
        tasks = [message.body.task for message in decided.messages if isinstance(message.body, m.Decision)]
        assert not standing & {(task.step, task.attempt) for task in tasks if task is not None}


@law
@given(definitions(), moves(), st.integers(1, 4))
def test_a_snapshot_is_the_state(definition: Definition, chosen: list[Move], every: int) -> None:
    with patch.object(limits, "SNAPSHOT_DECISIONS", every):
        play = played(definition, chosen)
    for message in play.out:
        if isinstance(message.body, m.Snapshot):
            snapshot = m.decode_snapshot(m.encode(message.body))
            later = [stored for stored in play.log if stored.seq > snapshot.after or stored.kind == "timer"]
            told = facts(fold(RUN_ID, later, play.plan_of, snapshot))
            kept = facts(play.folded())
            assert told == kept
    if not play.state.ended and play.state.n:
        snapshot = m.decode_snapshot(m.encode(snapshot_of(play.state, play.state.n, play.state.now)))
        restored, kept = facts(restore(RUN_ID, snapshot, play.plan)), facts(play.state)
        kept["armed"], kept["snapshot_n"] = None, snapshot.n
        assert restored == kept


@law
@given(definitions(), moves())
def test_a_message_holds_what_it_may_hold(definition: Definition, chosen: list[Move]) -> None:
    """n counts on; at most one task each; and a worker sees no event but the completion that is its whole input."""
    play = played(definition, chosen)
    numbers = [message.n for message in play.out if message.kind != "timer"]
    assert numbers == list(range(1, len(numbers) + 1))
    for message in play.out:
        if message.kind != "task":
            continue
        assert isinstance(message.body, m.Decision)
        task, events = message.body.task, message.body.events
        assert task is not None
        step = play.plan.steps[task.step]
        for event in events:
            assert isinstance(event, m.StepCompleted)
            assert step.depends_on == (event.step,)
            assert not step.mapped
            assert (event.output_in, event.output_ref) == ("task", None)
        assert len(events) <= 1


@law
@given(definitions(), moves())
def test_no_more_messages_are_stored_than_promised(definition: Definition, chosen: list[Move]) -> None:
    """At most two a step and attempt, two a run beside; a timer only where there is a deadline."""
    play = played(definition, chosen)
    handed_out = sum(message.kind == "task" for message in play.out)
    started = sum(
        isinstance(event, m.StepStarted)
        for message in play.out
        if isinstance(message.body, m.Decision)
        for event in message.body.events
    )
    stored = sum(message.kind not in ("timer", "snapshot") for message in play.out)
    assert stored <= 2 * handed_out + started + 1
    plan = play.plan
    if not plan.timeout_ms and all(not s.timeout_ms and not s.queue_timeout_ms for s in plan.steps.values()):
        delayed = any(s.retry and s.retry.initial_delay_ms for s in plan.steps.values())
        assert delayed or not play.timers


@given(st.integers(1, 30), st.sampled_from([None, "1h"]))
def test_a_chain_stores_one_message_a_step(length: int, timeout: str | None) -> None:
    steps = [Step(id=f"s{i}", task="t", depends_on=(f"s{i - 1}",) if i else ()) for i in range(length)]
    play = Play(Definition(name="chain", steps=tuple(steps), timeout=timeout))
    for _ in range(length):
        play.move(("complete", 0, 1))
    assert play.state.status == "completed"
    assert [message.kind for message in play.out if message.kind != "timer"] == ["task"] * length + ["ended"]
    assert play.timers == (timeout is not None)


@law
@given(definitions(), moves("complete", "fail", "retry", "retry", "wait", "fire"))
def test_retries_keep_to_max_attempts(definition: Definition, chosen: list[Move]) -> None:
    play = played(definition, chosen)
    for step_id, step in play.plan.steps.items():
        most = step.retry.max_attempts if step.retry else 1
        attempts = [
            message.body.task.attempt
            for message in play.out
            if isinstance(message.body, m.Decision) and message.body.task and message.body.task.step == step_id
        ]
        assert attempts == list(range(1, len(attempts) + 1))
        assert len(attempts) <= most


@law
@given(definitions(), moves())
def test_the_end_is_told_whole(definition: Definition, chosen: list[Move]) -> None:
    """The record in the last message is the folded run; before the end, time alone never wakes what has no deadline."""
    play = played(definition, chosen)
    if play.state.ended:
        last = play.out[-1].body
        assert isinstance(last, m.Decision)
        assert last.final is not None
        assert m.encode(last.final) == m.encode(final_of(play.folded()))
        assert not play.state.timed
        assert all(step.status not in ("queued", "running", "waiting") for step in play.state.steps.values())


@law
@given(definitions(timed=False, shaped=False), moves("complete", "fail"), st.data())
def test_a_retried_run_does_not_do_again_what_was_done(
    definition: Definition, chosen: list[Move], data: st.DataObject
) -> None:
    first = played(definition, chosen)
    done = {step_id: step for step_id, step in first.state.steps.items() if step.status == "completed"}
    seed = {
        step_id: m.Seed(
            *((m.UNSET, step.output) if isinstance(step.output, m.Ref) else (step.output, None)), attempt=step.attempt
        )
        for step_id, step in done.items()
    }
    again = Play(definition, seed)
    again.payloads = first.payloads
    handed_out = {
        message.body.task.step
        for message in again.out
        if isinstance(message.body, m.Decision) and message.body.task is not None
    }
    assert not handed_out & set(done)
    assert again.state.ended == (len(done) == len(again.plan.steps))
