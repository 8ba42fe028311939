"""The chaos checker says of each kind of damage what it is, and nothing of a log that is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.checker import FRESH_MS_MAX, SCHEDULING_MS_MAX
from tests.chaos.load import Acknowledged
from tests.unit.chaos.stories import RUN, Story, completed, failed, half, middle, output, waiting, whole

Tell = Callable[[], Story]
OLD_MS = FRESH_MS_MAX + SCHEDULING_MS_MAX


def joined() -> Story:
    """Two steps at once; the first message holds no task, the last completion stands in its event."""
    story = Story("join").task("a", {"number": 1}).task("b", {"number": 1}).begun("a", "ta").begun("b", "tb")
    story.events(completed("a", output=output("ta"))).events(completed("b", output=output("tb")))
    story.task("c", {"anything": True}).begun("c", "tc")
    return story.end("completed", completed("c", output_in="final"), outputs={"c": output("tc")})


def tried_again() -> Story:
    story = waiting().task("a", {"number": 1}, attempt=2).begun("a", "ta2", attempt=2)
    story.task("b", output("ta2"), completed("a", 2, output_in="task")).begun("b", "tb")
    return story.end("completed", completed("b", output_in="final"), outputs={"b": output("tb")})


def cancelled() -> Story:
    story = middle().cancel()
    return story.end("cancelled", after=len(story.messages))


def lost_worker() -> Story:
    """An outcome that no handler of ours made: nobody has begun it."""
    lost = {**failed("a", 1, ""), "error": {"code": "worker_lost", "message": "…"}, "retry_at": 1}
    story = Story().task("a", {"number": 1}).events(lost).task("a", {"number": 1}, attempt=2).begun("a", "ta", 2)
    story.task("b", output("ta"), completed("a", 2, output_in="task")).begun("b", "tb")
    return story.end("completed", completed("b", output_in="final"), outputs={"b": output("tb")})


def well_told() -> Story:
    """Every kind of answer that is right."""
    story = half().answered("a", "claim", "go").begun("a", "ta-again").answered("a", "started", "not_current")
    story.events({"type": "step_started", "step": "a", "attempt": 1}).answered("a", "started", "stored")
    story.task("b", output("ta"), completed("a", output_in="task"))
    story.answered("a", "completed", "stored", "ta").answered("a", "completed", "not_current", "ta-again")
    story.answered("a", "claim", "not_current").begun("b", "tb")
    story.end("completed", completed("b", output_in="final"), outputs={"b": output("tb")})
    return story.answered("b", "completed", "stored", "tb")


def claimed_late() -> Story:
    story = half()
    old = story.now + OLD_MS + 1
    story.answered("a", "claim", "go", at=story.now).begun("a", "ta", at=old)
    story.task("b", output("ta"), completed("a", output_in="task")).begun("b", "tb")
    return story.end("completed", completed("b", output_in="final"), outputs={"b": output("tb")})


@pytest.mark.parametrize(
    "tell",
    [whole, joined, tried_again, cancelled, lost_worker, well_told, claimed_late],
    ids=lambda tell: tell.__name__,
)
def test_what_is_right_is_called_right(tell: Tell) -> None:
    verdict = tell().verdict()
    assert verdict.violations == []
    assert (verdict.acknowledged, verdict.ended) == (1, 1)
    assert (verdict.lost, verdict.stuck, verdict.duplicated) == (0, 0, 0)


# ---- what clients were told


def without_start() -> Story:
    story = whole()
    story.messages.clear()
    story.seen.clear()
    return story


def ended_and_gone() -> Story:
    story = middle()
    story.ended.add(RUN)
    return story


def emptied(story: Story) -> Story:
    story.messages.clear()
    return story


LOST: dict[str, Tell] = {
    "was acknowledged and is not there": without_start,
    "was seen to end, and the log does not hold it": ended_and_gone,
    "workers ran it, and the log does not hold it": lambda: emptied(whole()),
    "completed of b.1 by 'tb' was acknowledged; the log holds None": lambda: middle().answered(
        "b", "completed", "stored", "tb"
    ),
    "completed of b.1 by 'other' was acknowledged; the log holds ('completed', 'tb')": lambda: whole().answered(
        "b", "completed", "stored", "other"
    ),
    "failed of b.1 by 'tb' was acknowledged": lambda: whole().answered("b", "failed", "stored", "tb"),
    "started of a.1 by '' was acknowledged": lambda: half().answered("a", "started", "stored"),
}


@pytest.mark.parametrize("words", LOST)
def test_what_was_acknowledged_and_is_gone_is_lost(words: str) -> None:
    verdict = LOST[words]().verdict()
    assert verdict.lost >= 1
    assert any(words in violation for violation in verdict.violations), verdict.violations


@pytest.mark.parametrize("tell", [Story, half, middle, waiting], ids=["start", "half", "middle", "waiting"])
def test_what_has_not_ended_is_stuck(tell: Tell) -> None:
    verdict = tell().verdict()
    assert (verdict.stuck, verdict.ended, verdict.lost, verdict.duplicated) == (1, 0, 0, 0)
    assert "has not ended" in verdict.violations[0]


def test_a_run_that_nobody_was_told_of_must_end_too() -> None:
    story = middle()
    story.acknowledged.clear()
    assert story.verdict().stuck == 1


def test_a_request_that_has_two_runs_was_started_twice() -> None:
    story = whole()
    story.acknowledged.append(Acknowledged(story.acknowledged[0].request_id, "run2"))
    verdict = story.verdict()
    assert (verdict.duplicated, verdict.lost) == (1, 1)
    assert "has several runs" in verdict.violations[0]


# ---- what happened twice, out of turn, after the end


def late_message() -> Story:
    story = whole()
    return story.events(n=story.n + 1)


def replaced() -> Story:
    """A second writer wrote the first task again: its message takes the place of the first one."""
    story = middle()
    story.messages.pop(1)
    return story.task("a", {"number": 1}, n=1)


def asked_too_late() -> Story:
    return middle().cancel().end("cancelled")


DUPLICATED: dict[str, Tell] = {
    "out.events.4@5 after the end": late_message,
    "is number 1 after number 2": replaced,
    "is number 3 after number 1": lambda: half().events(n=3),
    "is number 1 after number 1": lambda: half().events(n=1),
    "knows inputs up to 0, the one before up to 1": lambda: half().events(after=0),
    "knows inputs up to 3, the one before up to 1": lambda: half().events(after=3),
    "messages of a run that has no start": lambda: whole().write("out.events.1", {"n": 1}, run_id="run2"),
    "step_completed of a.1, whose outcome was ('completed', 'ta')": lambda: middle().events(
        completed("a", output=output("ta"))
    ),
    "step_completed of a.1, which had completed": lambda: middle().events(completed("a", output=output("ta"))),
    "step_failed of a.1, which had completed": lambda: middle().events(failed("a", 1, "ta", 1)),
    "step_completed of b.1; handed out was b.None": lambda: half().events(completed("b", output=output("ta"))),
    "step_completed of a.1; handed out was a.2": lambda: (
        waiting().task("a", {"number": 1}, attempt=2).events(completed("a", 1, output=output("ta")))
    ),
    "step_started of a.2; handed out was a.1": lambda: half().events(
        {"type": "step_started", "step": "a", "attempt": 2}
    ),
    "step_started of a.1, whose outcome was ('failed', 'ta')": lambda: waiting().events(
        {"type": "step_started", "step": "a", "attempt": 1}
    ),
    "a.1 handed out after a.1": lambda: half().task("a", {"number": 1}),
    "a.3 handed out after a.1": lambda: waiting().task("a", {"number": 1}, attempt=3),
    "a.2 handed out while a.1 was out": lambda: half().task("a", {"number": 1}, attempt=2),
    "a.2 handed out, which had completed": lambda: middle().task("a", {"number": 1}, attempt=2),
    "a.2 handed out before its delay was over": lambda: waiting(retry_at=10_000).task("a", {"number": 1}, attempt=2),
    "b.1 handed out before ['a'] completed": lambda: half().task("b", output("ta")),
    "b.1 handed out with the input {'token': 'other'}, which should be {'token': 'ta'}": lambda: (
        half().events(completed("a", output=output("ta"))).task("b", output("other"))
    ),
    "a.1 handed out with the input None": lambda: Story().task("a", None),
    "cancelled, and nobody had asked for it": lambda: middle().end("cancelled"),
    "cancelled, and nobody had asked": asked_too_late,
    "completed without ['b']": lambda: middle().end("completed"),
    "failed, which no run here has a reason for": lambda: middle().end("failed"),
    "run_parked, which no run here calls for": lambda: half().events({"type": "run_parked", "error": {}}),
    "is 'nobody', an execution that no worker has begun": lambda: half().events(
        completed("a", output=output("nobody"))
    ),
    "b.1 was begun, and the log does not hold its task": lambda: half().begun("b", "tb"),
    "ms old, and never claimed": lambda: half().begun("a", "ta", at=2 * 100 + OLD_MS + 1),
    "a.1 may go, was the answer 1 ms after its end": lambda: middle().answered("a", "claim", "go", at=301),
    "b.1 may go, was the answer 1 ms after its end": lambda: whole().answered("b", "claim", "go", at=401),
}


@pytest.mark.parametrize("words", DUPLICATED)
def test_what_must_not_happen_is_told(words: str) -> None:
    verdict = DUPLICATED[words]().verdict()
    assert verdict.duplicated >= 1
    assert any(words in violation for violation in verdict.violations), verdict.violations


def test_a_claim_of_one_worker_does_not_let_another_one_go() -> None:
    story = half().answered("a", "claim", "go", worker="w1").begun("a", "ta", at=2 * 100 + OLD_MS + 1, worker="w2")
    assert "never claimed" in " ".join(story.verdict().violations)
