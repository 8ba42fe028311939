"""Holds the whole run log against what clients and workers were told, and says what does not fit.

Knows the rules of the wire (docs/wire.md), and nothing of the engine's code: no state, no fold, no decisions of ours.
What one run's messages say of each other is `history`; here stands what joins runs, clients and workers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import History, Stored
from tests.chaos.load import Acknowledged
from tests.chaos.witness import Answered, Begun, Seen

FRESH_MS_MAX = 2000
"""A task that is older must be claimed before it is started (`claim_after_ms`)."""
SCHEDULING_MS_MAX = 5000
"""How long a worker on a busy machine may take from deciding to start a handler to its first line."""

Dependencies = Mapping[str, Mapping[str, Sequence[str]]]
"""By workflow: of each step, the steps that it stands on."""


@dataclass
class Verdict:
    """What came of all that was acknowledged.

    `lost`: starts and outcomes whose storing was acknowledged, and that the log does not hold. `stuck`: runs that have
    not ended. `duplicated`: what happened twice, out of turn, or after the end. `violations` says each in words.
    """

    acknowledged: int = 0
    ended: int = 0
    lost: int = 0
    stuck: int = 0
    duplicated: int = 0
    kills: int = 0
    violations: list[str] = field(default_factory=list)


def check(
    log: Iterable[Stored],
    acknowledged: Iterable[Acknowledged],
    seen: Iterable[Seen],
    dependencies: Dependencies,
    ended: Iterable[str] = (),
) -> Verdict:
    """Check every run. `acknowledged`: the answers to starts; `seen`: what the workers wrote down, each in its order;
    `ended`: runs that somebody saw end while the log grew."""
    messages: dict[str, list[Stored]] = defaultdict(list)
    for message in log:
        messages[message.run_id].append(message)
    witnessed: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        witnessed[each.run_id].append(each)
    histories = {run_id: History(sorted(found), dependencies) for run_id, found in messages.items()}
    verdict = Verdict()
    _check_starts(verdict, histories, acknowledged)
    for run_id in ended:
        if run_id not in histories or not histories[run_id].ended:
            verdict.lost += 1
            verdict.violations.append(f"{run_id}: was seen to end, and the log does not hold it")
    for run_id, history in histories.items():
        begun = {each.token for each in witnessed[run_id] if isinstance(each, Begun)}
        problems = history.problems + [
            f"{outcome} of {step}.{attempt} is {token!r}, an execution that no worker has begun"
            for (step, attempt), (outcome, token) in history.outcomes.items()
            if token and token not in begun
        ]
        verdict.duplicated += len(problems)
        verdict.violations += [f"{run_id}: {problem}" for problem in problems]
    for run_id, notes in witnessed.items():
        _check_workers(verdict, run_id, histories.get(run_id), notes)
    return verdict


def _check_starts(verdict: Verdict, histories: Mapping[str, History], acknowledged: Iterable[Acknowledged]) -> None:
    """Each request has one run, which is there and has ended."""
    runs_of: dict[str, set[str]] = defaultdict(set)
    for answer in acknowledged:
        runs_of[answer.request_id].add(answer.run_id)
    for run_id, history in histories.items():
        runs_of[history.request_id].add(run_id)
    for request_id, runs in runs_of.items():
        verdict.acknowledged += 1
        if len(runs) > 1:
            verdict.duplicated += 1
            verdict.violations.append(f"request {request_id!r} has several runs: {sorted(runs)}")
        for run_id in sorted(runs):
            found = histories.get(run_id)
            if found is None or not found.started:
                verdict.lost += 1
                verdict.violations.append(f"{run_id}: its start was acknowledged and is not there")
            elif not found.ended:
                verdict.stuck += 1
                verdict.violations.append(f"{run_id}: has not ended: {found.paths}")
            else:
                verdict.ended += 1


def _check_workers(verdict: Verdict, run_id: str, history: History | None, notes: Sequence[Seen]) -> None:
    """What workers of one run were told is true, and they did nothing that they had not to do."""
    if history is None:
        verdict.lost += 1
        verdict.violations.append(f"{run_id}: workers ran it, and the log does not hold it")
        return
    told_to_go: set[tuple[str, str, int]] = set()
    for note in notes:
        key = (note.step, note.attempt)
        if isinstance(note, Begun):
            queued_at = history.queued_at.get(key)
            if queued_at is None:
                _duplicated(verdict, run_id, note, "was begun, and the log does not hold its task")
            elif note.at > queued_at + FRESH_MS_MAX + SCHEDULING_MS_MAX and (note.worker, *key) not in told_to_go:
                _duplicated(verdict, run_id, note, f"was begun {note.at - queued_at} ms old, and never claimed")
        elif note.answer == "go":
            told_to_go.add((note.worker, *key))
            over_at = history.over_at(*key)
            if over_at is not None and note.asked_at > over_at:
                _duplicated(verdict, run_id, note, f"may go, was the answer {note.asked_at - over_at} ms after its end")
        elif note.answer == "stored":
            _check_stored(verdict, run_id, history, note)


def _check_stored(verdict: Verdict, run_id: str, history: History, note: Answered) -> None:
    key = (note.step, note.attempt)
    if note.kind == "started":
        held = key in history.started_steps
    elif note.kind in ("completed", "failed"):
        held = history.outcomes.get(key) == (note.kind, note.token)
    else:
        return
    if not held:
        verdict.lost += 1
        verdict.violations.append(
            f"{run_id}: {note.kind} of {note.step}.{note.attempt} by {note.token!r} was acknowledged; "
            f"the log holds {history.outcomes.get(key)}"
        )


def _duplicated(verdict: Verdict, run_id: str, note: Seen, what: str) -> None:
    verdict.duplicated += 1
    verdict.violations.append(f"{run_id}: {note.step}.{note.attempt} {what}")
