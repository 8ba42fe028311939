"""Planted violations: each leaves out one rule of design.md, sections 3 to 6. The simulation must catch every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dagnats_core.engine import actor, reader
from dagnats_core.engine.actor import Actor
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.partition import Partition
from dagnats_core.run import decide, fold, state
from dagnats_core.run.state import RunState
from tests.fault import clients, engines, executions, left_out, simulate
from tests.fault.scenario import Scenario
from tests.fault.simulate import Simulation

Patch = tuple[object, str, object]
SAFETY = ("P2", "P3", "P4", "P5", "P7", "P8")
"""What may show first when two write one log: whichever message comes next."""


@dataclass(frozen=True)
class Plant:
    """A rule, the properties that its want may break first, and how it is left out: attributes that are replaced, or a
    change of each simulation once it is built. `focus` makes the faults frequent on which the want shows."""

    rule: str
    caught_by: tuple[str, ...]
    patches: Sequence[Patch] = ()
    change: Callable[[Simulation], None] | None = None
    focus: Callable[[Scenario], None] | None = None


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """While this lasts the rule is left out."""
    before = [(where, what, getattr(where, what)) for where, what, _ in plant.patches]
    for where, what, how in plant.patches:
        setattr(where, what, how)
    simulate.on_built = plant.change
    try:
        yield
    finally:
        simulate.on_built = None
        for where, what, how in reversed(before):
            setattr(where, what, how)


# ---- where to look


def on_zombies(scenario: Scenario) -> None:
    scenario.engines = 2
    scenario.chaos.deafens, scenario.chaos.steals = 1.5, 1.0
    scenario.habits.slow, scenario.habits.redelivered = 0.5, 0.4


def on_late_takers(scenario: Scenario) -> None:
    on_zombies(scenario)
    scenario.setting.leased = False
    scenario.chaos.stalls, scenario.chaos.steals = 1.5, 2.0


def on_pieces(scenario: Scenario) -> None:
    scenario.rates.crash, scenario.habits.crashes = 0.15, 0.4
    scenario.setting.synced, scenario.setting.replicated = True, False
    scenario.limits_.update(SINGLES_MAX=16, PIECES_MAX=4)


def on_repeats(scenario: Scenario) -> None:
    scenario.habits.repeats, scenario.habits.retries = 0.8, 0.5


def on_batches(scenario: Scenario) -> None:
    scenario.limits_.update(SINGLES_MAX=1, BATCH_MESSAGES_TARGET=600)
    for run in scenario.runs:
        run.at, run.again = 0.5, [0.5]


def on_cleaning(scenario: Scenario) -> None:
    scenario.cleans, scenario.horizon_s, scenario.hot_s, scenario.rates.late_s = True, 30.0, 3.0, 2.0
    scenario.habits.repeats, scenario.habits.hangs, scenario.habits.redelivered = 0.8, 0.2, 0.5
    scenario.setting.runs_max = 1


def on_hasty_cleaning(scenario: Scenario) -> None:
    on_cleaning(scenario)
    scenario.hot_s, scenario.rates.late_s = 1.0, 0.3
    scenario.rates.ack_lost, scenario.habits.hangs, scenario.eager = 0.3, 0.1, 0.5


def _set(path: str, value: object) -> Callable[[Simulation], None]:
    part, name = path.split(".")

    def change(simulation: Simulation) -> None:
        setattr(getattr(simulation, part), name, value)

    return change


FOLDS = (reader, engines, simulate)

PLANTS: dict[str, Plant] = {
    "no-fence": Plant(
        "every message carries the stamp's check",
        ("P1", *SAFETY),
        [(Partition, "_write_stamp", left_out.without_fence)],
    ),
    "read-back-only": Plant(
        "after a publish of unknown outcome: stamp again, then read back",
        SAFETY,
        [(Partition, "_settle", left_out.read_back_only)],
    ),
    "floor-early": Plant(
        "the floor moves past an input when all that it called for is stored",
        ("P1",),
        [(Partition, "_on_input", left_out.done_when_read)],
    ),
    "lease-ignored": Plant(
        "no answer without a write once the lease may be over",
        ("P3", "P6", "P8"),
        [(Partition, "may_answer", lambda self: True)],
        focus=on_zombies,
    ),
    "stamp-without-lease": Plant(
        "a partition is not stamped once the lease may be over",
        ("P3", "P6", "P8"),
        [(Partition, "take", left_out.stamps_without_lease)],
        focus=on_late_takers,
    ),
    "answer-early": Plant(
        "a report is answered when it is stored",
        ("P4",),
        [(Actor, "_commit", left_out.answers_first)],
    ),
    "notice-early": Plant(
        "workers are told of an end that is stored",
        ("P2",),
        [(Actor, "_commit", left_out.notifies_first)],
    ),
    "pipelined": Plant(
        "of one run at most one decision is unacknowledged",
        SAFETY,
        [(Actor, "_commit", left_out.does_not_wait)],
    ),
    "refused-batch-lost": Plant(
        "a rejected batch is not a lost batch",
        ("P1",),
        [(Committer, "_batch_done", left_out.loses_refused_batches)],
        focus=on_batches,
    ),
    "claim-only-reads": Plant(
        "a claim is answered when all that the state calls for is stored",
        ("P1", "P3", "P6"),
        [(Actor, "_decide", left_out.claims_are_only_read)],
        focus=on_pieces,
    ),
    "poison-blocks": Plant(
        "a run on which deciding raises is parked, and the partition goes on",
        ("P1",),
        [(Actor, "_load", left_out.stays_poisoned)],
    ),
    "any-subject": Plant(
        "an outcome counts only on the subject of its own task",
        ("P3",),
        [(Actor, "_owns_step", lambda self, request: request.step in self.state.steps)],
    ),
    "nonce-ignored": Plant(
        "a report carries the nonce of its attempt",
        ("P3",),
        [(RunState, "current", left_out.current_without_nonce)],
    ),
    "no-after": Plant(
        "a decision says which inputs it knew",
        ("P5",),
        [(module, "fold", left_out.in_order_of_storing) for module in FOLDS],
    ),
    "old-attempts-forgotten": Plant(
        "outcomes of earlier attempts are remembered",
        ("P8",),
        [(state, "_remember", left_out.only_the_last)],
        focus=on_repeats,
    ),
    "no-digest": Plant(
        "another outcome of a reported attempt is not current",
        ("P3", "P4"),
        [(actor, "digest_of", lambda report: "same")],
        focus=on_repeats,
    ),
    "snapshot-forgets": Plant(
        "a snapshot holds the whole state",
        ("P5", "P8"),
        [(decide, "snapshot_of", left_out.forgetful_snapshot)],
    ),
    "one-timer-target": Plant(
        "each arming of a timer has a target of its own",
        ("P5", "P7"),
        [(decide, "m", left_out.Messages(Timer=left_out.same_key))],
    ),
    "timer-not-rearmed": Plant(
        "when a timer has fired the next deadline is armed",
        ("P1", "P5"),
        [(fold, "fire_timer", left_out.stays_armed)],
    ),
    "timer-outlives": Plant(
        "the end of a run takes its timer away",
        ("timer",),
        [(Partition, "encode", left_out.timer_outlives)],
    ),
    "timer-purged-in-life": Plant(
        "the timer of a live run is never purged",
        ("P1", "P5"),
        [(engines.WatchedPartition, "rests", left_out.purges_in_life)],
    ),
    "no-claim": Plant(
        "redelivered tasks and those of runs that ended are claimed first",
        ("P3",),
        change=_set("force.must_claim_rule", False),
    ),
    "ack-early": Plant(
        "a task is acknowledged after its report is answered",
        ("P1",),
        [(executions.Execution, "_report", left_out.acks_first)],
    ),
    "in-without-expect": Plant(
        "every input of a client expects 0 on its subject",
        ("P2", "P7"),
        [(clients, "NEW", b"")],
    ),
    "start-without-index": Plant(
        "a start looks in the archive before it is published",
        ("P2",),
        [(clients.Clients, "_start", left_out.starts_without_looking)],
        focus=on_cleaning,
    ),
    "cleaned-start-taken-in": Plant(
        "an input that was read before its run was cleaned starts nothing",
        ("P2",),
        [(Actor, "_apply", left_out.takes_in_whatever_was_read)],
        focus=on_hasty_cleaning,
    ),
    "deleted-descending": Plant(
        "messages of an ended run are deleted in ascending order, out.ended last",
        ("P2",),
        change=_set("house.ascending", False),
        focus=on_cleaning,
    ),
    "clean-bound-unread": Plant(
        "nothing above what the cleaner has read is removed",
        ("P2", "P7"),
        change=_set("house.bound_is_read", False),
        focus=on_cleaning,
    ),
}
