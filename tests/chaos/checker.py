"""Reads the whole run log and says what is wrong with it. Knows the rules of the wire (docs/wire.md), and nothing of
the engine's code: no state, no fold, no decisions of ours."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Stored(NamedTuple):
    """A message of the run log: `path` is the subject behind the run id, `in.start` or `out.task.t.3`."""

    seq: int
    run_id: str
    path: str
    body: Any


@dataclass
class Verdict:
    """What came of all acknowledged runs. `violations` says what `duplicated` counts, in words."""

    acknowledged: int = 0
    ended: int = 0
    lost: int = 0
    stuck: int = 0
    duplicated: int = 0
    kills: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.stuck or self.duplicated)


def check(
    log: Iterable[Stored],
    acknowledged: Iterable[str],
    effects: Iterable[tuple[str, str, int]],
    dependencies: Mapping[str, Mapping[str, list[str]]],
) -> Verdict:
    """Check every run. `effects`: (run id, step, attempt) of each start of a handler that a worker wrote down."""
    runs: dict[str, list[Stored]] = defaultdict(list)
    for message in sorted(log):
        runs[message.run_id].append(message)
    verdict = Verdict()
    for run_id in acknowledged:
        verdict.acknowledged += 1
        paths = {message.path for message in runs.get(run_id, [])}
        if "out.ended" in paths:
            verdict.ended += 1
        elif "in.start" not in paths:
            verdict.lost += 1
            verdict.violations.append(f"{run_id}: its start was acknowledged and is not there")
        else:
            verdict.stuck += 1
            verdict.violations.append(f"{run_id}: has not ended: {sorted(paths)}")
    done: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for run_id, step, attempt in effects:
        done[run_id].add((step, attempt))
    for run_id, messages in runs.items():
        for problem in check_run(messages, done[run_id], dependencies):
            verdict.duplicated += 1
            verdict.violations.append(f"{run_id}: {problem}")
    return verdict


def check_run(
    messages: list[Stored], effects: set[tuple[str, int]], dependencies: Mapping[str, Mapping[str, list[str]]]
) -> list[str]:
    """What is wrong with one run: transitions that happen twice, out of turn, or after the end."""
    problems: list[str] = []
    start = next((message.body for message in messages if message.path == "in.start"), None)
    if start is None:
        return ["messages of a run that has no start"]
    needs = dependencies[start["workflow"]]
    n = 0
    ended = False
    queued: dict[str, int] = {}
    over: dict[str, set[int]] = defaultdict(set)
    satisfied: set[str] = set()
    for message in messages:
        if not message.path.startswith("out."):
            continue
        if ended:
            problems.append(f"{message.path}@{message.seq} after the end")
        if message.body["n"] != n + 1:
            problems.append(f"{message.path}@{message.seq} is number {message.body['n']} after number {n}")
        n = message.body["n"]
        for event in message.body.get("events", []):
            problems += _event(event, queued, over, satisfied, effects)
        task = message.body.get("task")
        if task is not None:
            problems += _task(task, queued, over, satisfied, needs)
        ended = ended or message.path == "out.ended"
    return problems


def _event(
    event: dict[str, Any],
    queued: dict[str, int],
    over: dict[str, set[int]],
    satisfied: set[str],
    effects: set[tuple[str, int]],
) -> list[str]:
    problems = []
    kind, step = event["type"], event.get("step", "")
    if kind in ("step_completed", "step_failed"):
        attempt = event["attempt"]
        if queued.get(step) != attempt:
            problems.append(f"{kind} of {step}.{attempt}, handed out was {queued.get(step)}")
        if attempt in over[step]:
            problems.append(f"{kind} of {step}.{attempt} a second time")
        if step in satisfied:
            problems.append(f"{kind} of {step}, which had completed")
        if event.get("worker_id") and (step, attempt) not in effects:
            problems.append(f"{kind} of {step}.{attempt}, which no worker ever started")
        over[step].add(attempt)
        if kind == "step_completed":
            satisfied.add(step)
    elif kind == "step_skipped":
        satisfied.add(step)
    return problems


def _task(
    task: dict[str, Any],
    queued: dict[str, int],
    over: dict[str, set[int]],
    satisfied: set[str],
    needs: Mapping[str, list[str]],
) -> list[str]:
    problems = []
    step, attempt = task["step"], task["attempt"]
    before = queued.get(step, 0)
    if attempt != before + 1:
        problems.append(f"{step}.{attempt} handed out after {step}.{before}")
    if before and before not in over[step]:
        problems.append(f"{step}.{attempt} handed out while {step}.{before} was out")
    if step in satisfied:
        problems.append(f"{step}.{attempt} handed out, which had completed")
    missing = [need for need in needs[step] if need not in satisfied]
    if missing:
        problems.append(f"{step}.{attempt} handed out before {missing} completed")
    queued[step] = attempt
    return problems


def stored(seq: int, subject: str, data: bytes) -> Stored:
    """A message of the log, for the checker."""
    tokens = subject.split(".", 5)
    return Stored(seq, tokens[4], tokens[5], json.loads(data))
