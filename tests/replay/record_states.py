"""Records states of runs: `python -m tests.replay.record_states`. A file that stands is never made again."""

from __future__ import annotations

from unittest.mock import patch

from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.canonical import canonical
from dagnats_core.flow.model import Definition, RetryPolicy, SkipIf, Step
from dagnats_core.run import messages as m
from tests.property.run_play import RUN_ID, Move, Play
from tests.replay.states import FOLDER, Head, Line, write

RETRY = RetryPolicy(max_attempts=3, initial_delay="2s", strategy="exponential", jitter=0.2)


def _chain() -> Definition:
    return Definition(
        name="chain",
        timeout="1h",
        steps=(
            Step(id="a", task="text.split", retry=RETRY, queue_timeout="30s"),
            Step(id="b", task="text.count", depends_on=("a",), retry=RETRY, timeout="5s", worker_group="big"),
            Step(id="c", task="report", depends_on=("b",), metadata={"team": "x"}),
        ),
    )


def _fan() -> Definition:
    counts = tuple(
        Step(id=f"count-{i}", task="count", depends_on=("split",), input={"part": f"steps.split.output.n + {i}"})
        for i in range(3)
    )
    return Definition(
        name="fan",
        steps=(
            Step(id="split", task="split"),
            *counts,
            Step(id="maybe", task="maybe", depends_on=("split",), when="steps.split.output.n > 5"),
            Step(
                id="join",
                task="join",
                depends_on=("count-0", "count-1", "count-2", "maybe"),
                skip_if=SkipIf(step_id="split", field="n", op="==", value=9),
            ),
        ),
    )


def _save(name: str, about: str, definition: Definition, play: Play, snapshot: m.Snapshot | None = None) -> None:
    log = [line for line in play.log if snapshot is None or line.seq > snapshot.after or line.kind == "timer"]
    lines = [Line(line.seq, line.kind, Raw(line.data), line.key) for line in log]
    head = Head(RUN_ID, about, Raw(canonical(definition)), snapshot)
    path = FOLDER / f"{name}.jsonl"
    if not path.exists():
        write(path, head, lines, play.state)


DONE = ("complete", 0, 1)
LIVES: list[tuple[str, str, Definition, list[Move]]] = [
    ("chain-alive", "a step runs, its timeout is armed", _chain(), [DONE, ("started", 0, 0)]),
    (
        "chain-retried",
        "an attempt fails, its timer fires, all completes",
        _chain(),
        [("started", 0, 0), ("retry", 0, 1), ("fire", 0, 0), DONE, ("started", 0, 0), DONE, DONE],
    ),
    ("chain-timed-out", "no worker takes the step, three times", _chain(), [("fire", 0, 0)] * 6),
    (
        "chain-cancelled",
        "a cancel ends the run while a step waits for its retry",
        _chain(),
        [("retry", 0, 0), ("cancel", 0, 0)],
    ),
    (
        "fan-joined",
        "values by reference, expressions, a skipped step, two outcomes in one decision",
        _fan(),
        [("complete", 0, 2), ("complete", 0, 3), ("two", 0, 2), DONE],
    ),
]


def _played(play: Play, moves: list[Move]) -> Play:
    for move in moves:
        play.move(move)
    return play


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, about, definition, moves in LIVES:
        _save(name, about, definition, _played(Play(definition), moves))
    seeded = Play(_chain(), {"a": m.Seed(Raw(b'{"n":7}'), attempt=2, worker_id="w0")})
    _save("chain-seeded", "a retried run that took over its first step", _chain(), _played(seeded, [DONE, DONE]))
    with patch.object(limits, "SNAPSHOT_DECISIONS", 4):
        long = _played(Play(_fan()), [("complete", 0, 3), ("complete", 0, 2), ("two", 0, 1)])
    kept = m.decode_snapshot([line for line in long.log if line.kind == "out.snapshot"][-1].data)
    _save("fan-snapshot", "a long run whose log is read from its last snapshot on", _fan(), long, kept)
    poisoned = _played(Play(_chain()), [DONE])
    poisoned.park(ZeroDivisionError("poison"))
    _save("chain-parked", "deciding raised", _chain(), poisoned)
    _save("chain-parked-cancelled", "a parked run is cancelled", _chain(), _played(poisoned, [("cancel", 0, 0)]))


if __name__ == "__main__":
    main()
