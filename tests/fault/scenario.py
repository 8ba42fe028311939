"""What a seed stands for: which workflows run, which faults happen how often, and how everything is set up.

Each seed enables its own few kinds of fault, so that every pair of them meets without all the others in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

import msgspec
from msgspec import Raw

from dagnats_core import ids, limits
from dagnats_core.flow.expressions import References
from dagnats_core.flow.model import Definition, RetryPolicy, SkipIf, Step
from dagnats_core.flow.plan import Plan, compile_plan
from dagnats_core.run import messages as m
from tests.fault.clients import RunSpec
from tests.fault.clockwork import EPOCH_MS
from tests.fault.engines import Setting
from tests.fault.network import Rates
from tests.fault.workers import Habits

RANDOM_DAGS = 40
RETRY = RetryPolicy(max_attempts=3, initial_delay="300ms")
POISON = "poison"
"""Workflows whose names begin so raise when they are decided on."""


class Chaos(msgspec.Struct):
    """Faults of engines, in events per virtual second."""

    steals: float = 0.0
    crashes: float = 0.0
    stalls: float = 0.0
    disconnects: float = 0.0
    stops: float = 0.0
    full: float = 0.0
    deafens: float = 0.0


class Scenario(msgspec.Struct):
    """All that is drawn before the first event. `limits_` replace constants of `dagnats_core.limits` (and of
    `engine.committer`) while the seed runs."""

    seed: int
    runs: list[RunSpec]
    rates: Rates
    habits: Habits
    chaos: Chaos
    setting: Setting
    engines: int
    workers: int
    partitions: int
    horizon_s: float
    cleans: bool
    hot_s: float
    eager: float
    latency_s: float
    subjects_read_max: int
    limits_: dict[str, int]


class _Bomb:
    """A condition that breaks the engine's own code, not the expression's rules."""

    references = References(False, frozenset())
    text = "bomb"

    def evaluate(self, values: object, budget: object = None) -> bool:
        raise ZeroDivisionError("poison")


def _chain(name: str, *tasks: str, **fields: object) -> Definition:
    steps = [
        Step(id=step, task=f"task.{step}", depends_on=(tasks[i - 1],) if i else (), retry=RETRY)
        for i, step in enumerate(tasks)
    ]
    return Definition(name=name, steps=tuple(steps), **fields)  # type: ignore[arg-type]


def _fan(name: str, width: int, **fields: object) -> Definition:
    middle = [Step(id=f"b{i}", task="task.b", depends_on=("a",), retry=RETRY) for i in range(width)]
    join = Step(id="z", task="task.z", depends_on=tuple(step.id for step in middle))
    first = Step(id="a", task="task.a", retry=RETRY)
    return Definition(name=name, steps=(first, *middle, join), **fields)  # type: ignore[arg-type]


def _fixed() -> Iterator[Definition]:
    yield _chain("single", "a")
    yield _chain("chain", "a", "b", "c")
    yield _chain("timed-chain", "a", "b", "c", timeout="20s")
    yield _fan("fan", 3)
    yield _fan("wide", 7, timeout="30s")
    yield Definition(
        name="deadlines",
        steps=(
            Step(id="a", task="task.a", timeout="2s", retry=RETRY),
            Step(id="b", task="task.b", depends_on=("a",), timeout="1500ms", queue_timeout="4s", retry=RETRY),
        ),
    )
    yield Definition(
        name="now-and-then",
        steps=tuple(
            Step(
                id=step,
                task=f"task.{step}",
                depends_on=before,
                queue_timeout="4s" if step in "ac" else None,
                timeout="2s" if step == "d" else None,
                retry=RETRY,
            )
            for step, before in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("c",)))
        ),
    )
    yield Definition(
        name="short",
        timeout="900ms",
        steps=(Step(id="a", task="task.a"), Step(id="b", task="task.b", queue_timeout="500ms", depends_on=("a",))),
    )
    yield Definition(
        name="conditions",
        steps=(
            Step(id="a", task="task.a", retry=RETRY),
            Step(id="b", task="task.b", depends_on=("a",), when="steps.a.output.n > 1", retry=RETRY),
            Step(id="c", task="task.c", depends_on=("a",), input={"n": "steps.a.output.n"}, worker_group="g"),
            Step(
                id="d", task="task.d", depends_on=("b", "c"), skip_if=SkipIf(step_id="c", field="n", op="==", value=0)
            ),
            Step(id="e", task="task.e", depends_on=("d",), input={"by": "steps.c.output.by", "k": "input.k"}),
        ),
    )
    yield Definition(
        name="breaks",
        steps=(
            Step(id="a", task="task.a", retry=RETRY),
            Step(id="b", task="task.b", depends_on=("a",), input={"x": "steps.a.output.missing"}),
            Step(id="c", task="task.c", depends_on=("a",)),
        ),
    )
    yield Definition(
        name="checked",
        output_schema={"type": "object", "properties": {"n": {"maximum": 2}}},
        steps=(Step(id="a", task="task.a", retry=RETRY), Step(id="b", task="task.b", depends_on=("a",), retry=RETRY)),
    )
    yield Definition(
        name="stubborn",
        steps=(
            Step(id="a", task="task.a", retry=RetryPolicy(max_attempts=6, initial_delay="10ms", strategy="linear")),
            Step(id="b", task="task.b"),
            Step(id="c", task="task.c", depends_on=("a", "b"), retry=RetryPolicy(max_attempts=2, initial_delay="1s")),
        ),
    )
    yield _chain("poison-middle", "a", "b", "c", timeout="20s")
    yield _chain("poison-first", "a", "b")
    yield _chain("poison-unknown", "a")


def _random_dag(index: int) -> Definition:
    random = Random(index)
    steps: list[Step] = []
    for i in range(random.randint(2, 7)):
        before = [step.id for step in steps]
        chosen = tuple(sorted(random.sample(before, min(len(before), random.choice((0, 1, 1, 2, 3))))))
        steps.append(
            Step(
                id=f"s{i}",
                task=f"task.{random.randint(0, 2)}",
                depends_on=chosen,
                retry=random.choice((None, RETRY)),
                timeout=random.choice((None, None, "3s")),
                queue_timeout=random.choice((None, None, None, "5s")),
                worker_group=random.choice((None, None, "g")),
            )
        )
    return Definition(name=f"random-{index}", steps=tuple(steps), timeout=random.choice((None, "25s")))


@cache
def plans() -> dict[str, Plan]:
    """Every workflow of the simulation, compiled, by name."""
    made = {definition.name: compile_plan(definition) for definition in _fixed()}
    made |= {f"random-{i}": compile_plan(_random_dag(i)) for i in range(RANDOM_DAGS)}
    made["poison-first"] = _with_bomb(made["poison-first"], "a")
    made["poison-middle"] = _with_bomb(made["poison-middle"], "b")
    del made["poison-unknown"]
    return made


def _with_bomb(plan: Plan, step: str) -> Plan:
    return plan._replace(steps={**plan.steps, step: plan.steps[step]._replace(when=_Bomb())})  # type: ignore[arg-type]


def _workflow(random: Random) -> str:
    """A fixed shape more often than a random one, poison now and then."""
    kind = random.random()
    names = [name for name in (*plans(), "poison-unknown") if name.startswith(POISON) == (kind < 0.06)]
    return random.choice([name for name in names if name.startswith("random-") == (kind > 0.7)])


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(seed)
    some = lambda rate, odds=0.3: rate * random.random() if random.random() < odds else 0.0  # noqa: E731
    partitions = random.choice((1, 1, 2, 3))
    count = random.choice((1, 2, 2, 3, 4, 6))
    cleans = random.random() < 0.15
    count = max(count, 6 * cleans)
    horizon_s = 30.0 if cleans else random.choice((4.0, 8.0, 15.0))
    calm = random.random() < 0.1
    odds = 0.0 if calm else random.choice((0.15, 0.3, 0.5))
    return Scenario(
        seed=seed,
        runs=[
            _run(random, i, partitions, horizon_s) for i in range(6 if cleans else random.choice((1, 2, 2, 3, 4, 6)))
        ],
        rates=Rates(
            lost=some(0.1, odds),
            ack_lost=some(0.2, odds),
            late=some(0.2, odds),
            full=some(0.1, odds),
            read_error=some(0.2, odds),
            request_lost=some(0.3, odds),
            answer_lost=some(0.4, odds),
            answer_late=some(0.3, odds),
            notice_lost=some(1.0, odds),
            forgets_plans=some(0.3, odds),
            crash=some(0.1, odds),
            late_s=2.0 if cleans else 8.0,
        ),
        habits=Habits(
            fails=some(0.4),
            retries=some(0.4),
            slow=some(0.5),
            hangs=some(0.2, odds),
            crashes=some(0.3, odds),
            redelivered=some(0.5, odds),
            ack_lost=some(0.4, odds),
            repeats=some(0.6, odds),
            garbage=some(0.3),
            large=some(0.5),
            by_reference=some(0.5),
            asks_twice=some(0.4, odds),
        ),
        chaos=Chaos(
            steals=some(2.0, odds),
            crashes=some(1.0, odds),
            stalls=some(1.0, odds),
            disconnects=some(1.0, odds),
            stops=some(0.5, odds),
            full=some(0.2, odds),
            deafens=some(1.0, odds),
        ),
        setting=Setting(
            synced=random.random() < 0.6,
            replicated=random.random() < 0.2,
            runs_max=random.choice((1, 1, 2, 50)),
            clock_skew_ms=random.choice((0, 0, 0, 400, 5000)),
            leased=random.random() < 0.3,
            takes_alone=random.random() < 0.5,
        ),
        engines=random.choice((1, 2, 2, 3)),
        workers=random.choice((1, 2, 2, 3)),
        partitions=partitions,
        horizon_s=horizon_s,
        cleans=cleans,
        hot_s=random.choice((3.0, 6.0)),
        eager=random.choice((0.5, 0.9, 0.98)),
        latency_s=random.choice((0.0005, 0.002, 0.02)),
        subjects_read_max=random.choice((6, 1024)),
        limits_={
            "SNAPSHOT_DECISIONS": random.choice((2, 4, 500)),
            "BATCH_MESSAGES_MAX": random.choice((2, 3, 1000)),
            "BATCH_MESSAGES_TARGET": random.choice((2, 600)),
            "SINGLES_MAX": random.choice((1, 3, 16)),
            "PIECES_MAX": random.choice((1, 4)),
            "RESTAMP_S": random.choice((2, 300)),
            "DELIVERIES_BEFORE_LOST": random.choice((1, 5)),
            "DECISION_COST_MAX": random.choice((1, limits.DECISION_COST_MAX)),
            "MESSAGE_BYTES_MAX": random.choice((2000, 960 * 1024, 960 * 1024)),
        },
    )


def _seed(random: Random, name: str) -> dict[str, m.Seed]:
    """Some first steps that a run took over from the one that it retries."""
    steps = list(plans()[name].steps) if name in plans() else []
    output = Raw(b'{"by":"before","n":%d}' % random.randint(0, 3))
    return {step: m.Seed(output, attempt=random.randint(1, 3)) for step in steps[: random.randint(0, len(steps))]}


def _run(random: Random, i: int, partitions: int, horizon_s: float) -> RunSpec:
    name = _workflow(random)
    at = random.random() * 0.5 * horizon_s
    if random.random() < 0.3:
        run_id = ids.requested_run_id(name, f"request-{i}", partitions)
        again = [at + random.random() * 2 * horizon_s for _ in range(random.choice((0, 1, 2)))]
    else:
        run_id = ids.new_run_id(EPOCH_MS + int(at * 1000), random.getrandbits(80), partitions)
        again = []
    start = m.Start(
        m.FORMAT,
        EPOCH_MS + int(at * 1000),
        name,
        1,
        name,
        input=Raw(b'{"k":%d}' % random.randint(0, 9)),
        digest="d",
        seed=_seed(random, name) if random.random() < 0.15 else {},
    )
    cancel_at = at + random.random() * 3 if random.random() < 0.3 else -1.0
    return RunSpec(run_id, start, at, again, cancel_at)
