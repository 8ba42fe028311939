"""Runs seeds: `python -m tests.fault.simulate --seeds 20000 [--first N] [--jobs 2]`, or one of them with its trace:
`python -m tests.fault.simulate --seed N --trace`.

A seed is a site of engines, workers and clients over a log with the server's rules. Faults happen until the horizon;
then they stop, everything that is fair runs on, and what was acknowledged must have ended.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import structlog

from dagnats_core import limits
from dagnats_core.engine import committer, ownership, partition
from dagnats_core.run.fold import fold
from tests.fault.clients import Clients, Housekeeping
from tests.fault.clockwork import Process, Violation, World
from tests.fault.engines import Engine, Site, WatchedPartition
from tests.fault.network import Network
from tests.fault.scenario import POISON, Chaos, Scenario, draw, plans
from tests.fault.truth import Truth
from tests.fault.wiring import log_message
from tests.fault.workers import Workforce

DRAIN_S = 400.0
"""Virtual time that everything fair gets once faults have stopped: longer than any deadline of a scenario."""
STEPS_MAX = 60_000
CHUNK = 100


on_built: Callable[[Simulation], None] | None = None
"""Changes each simulation once it is built (plants)."""


class Simulation:
    """One seed, built and run. `trace` collects what happened, if it is a list."""

    def __init__(self, scenario: Scenario, trace: list[str] | None = None) -> None:
        self.scenario = scenario
        self.world = world = World(scenario.seed, trace)
        world.eager, world.latency_s = scenario.eager, scenario.latency_s
        compiled, payloads = plans(), {}
        self.truth = Truth(world, compiled, payloads)
        self.truth.poisoned = {run.start.hash for run in scenario.runs if run.start.hash.startswith(POISON)}
        self.network = network = Network(world, scenario.rates, self.truth)
        network.plans, network.payloads = compiled, payloads
        network.subjects_read_max = scenario.subjects_read_max
        network.replicated = scenario.setting.replicated
        network.on_crash = self._crash_process
        self.site = Site(world, network, self.truth, scenario.setting, scenario.partitions)
        self.force = Workforce(world, network, self.truth, scenario.habits, scenario.workers)
        self.clients = Clients(world, network, self.truth, scenario.setting.synced)
        self.house = Housekeeping(world, network, self.truth, self.clients, scenario.hot_s)
        self.truth.archived = lambda run_id: run_id in self.clients.archive
        self.chaos = scenario.chaos
        for _ in range(scenario.engines):
            self.site.start_engine()
        for spec in scenario.runs:
            self.clients.expect(spec)
        if on_built is not None:
            on_built(self)

    # ---- the two phases

    def run(self) -> None:
        """Raises Violation."""
        world = self.world
        try:
            self._tick()
            for name in Chaos.__struct_fields__:
                self._next(name)
            if self.scenario.cleans:
                self._keep_house()
            world.run(self.scenario.horizon_s, steps_max=STEPS_MAX)
            world.note("", "---- faults stop ----")
            self._calm()
            world.run(world.now + DRAIN_S, self._done, STEPS_MAX)
            self._judge()
        finally:
            world.close()

    def _tick(self) -> None:
        """Somebody owns each partition, and floors are written, now and then."""
        self.site.fill()
        if self.world.chance() < 0.5:
            self.site.write_floors()
        self.world.after(self.world.between(0.05, 0.6), self._tick)

    def _keep_house(self) -> None:
        self.house.copy_to_archive()
        self.house.read()
        self.world.after(self.world.between(0.5, 3.0), self._keep_house)

    # ---- faults

    def _next(self, name: str) -> None:
        rate = getattr(self.chaos, name)
        if rate > 0:
            self.world.after(-_log(1.0 - self.world.chance()) / rate, self._strike, name)

    def _strike(self, name: str) -> None:
        if getattr(self.chaos, name) > 0:
            getattr(self, f"_{name}")()
            self._next(name)

    def _steals(self) -> None:
        if self.site.engines:
            thief = self.world.pick(self.site.engines)
            self.site.steal(self.world.pick(list(self.site.numbers)), thief)
            if self.world.chance() < 0.2:
                thief.process.stall(self.world.between(0.0, 3.0))

    def _crashes(self) -> None:
        if self.site.engines:
            self._crash_process(self.world.pick(self.site.engines).process)

    def _crash_process(self, process: Process) -> None:
        """An engine dies, another one starts; the API's process does not die here."""
        for engine in self.site.engines:
            if engine.process is process:
                engine.crash()
                self.world.after(self.world.between(0.0, 2.0), self.site.start_engine)
                return

    def _deafens(self) -> None:
        if self.site.engines:
            engine = self.world.pick(self.site.engines)
            self.world.note(engine.name, "is deaf for a while")
            reports_s = self.world.between(0.0, 2.0)
            self.network.deafen(engine.process, reports_s, reports_s + self.world.between(0.0, 4.0))
            self._maybe_rob(engine)

    def _stalls(self) -> None:
        if not self.site.engines:
            return
        engine = self.world.pick(self.site.engines)
        self.world.note(engine.name, "stalls")
        engine.process.stall(self.world.between(0.0, 6.0))
        self._maybe_rob(engine)

    def _maybe_rob(self, engine: Engine) -> None:
        """Who is not heard of for a while mostly loses what it owns."""
        for number in list(engine.partitions):
            if self.world.chance() < 0.7:
                thief = self.world.pick(self.site.engines)
                self.world.after(self.world.between(0.0, 1.0), self.site.steal, number, thief)

    def _disconnects(self) -> None:
        if self.site.engines:
            engine = self.world.pick(self.site.engines)
            self.world.note(engine.name, "loses its connection")
            engine.log.disconnect()
        self.clients.log.disconnect()

    def _stops(self) -> None:
        if self.site.engines:
            engine = self.world.pick(self.site.engines)
            self.world.note(engine.name, "leaves in order")
            engine.process.create_task(engine.stop())

    def _full(self) -> None:
        self.network.stream.full = True
        self.world.after(self.world.between(0.0, 3.0), self._room)

    def _room(self) -> None:
        self.network.stream.full = False

    # ---- the end

    def _calm(self) -> None:
        self.chaos = Chaos()
        self.network.rates.calm()
        self._room()
        self.force.calm()
        for engine in self.site.engines:
            engine.process.calm()
        self.clients.process.calm()
        if not self.site.engines:
            self.site.start_engine()
        for run in self.truth.runs.values():
            if run.parked and not run.ended:
                self.clients.cancel(run.run_id)
        self.world.after(5.0, self._release_parked)

    def _release_parked(self) -> None:
        """A run that is parked stays so until somebody cancels it."""
        for run in self.truth.runs.values():
            if run.parked and not run.ended and not run.cancel_seq:
                self.clients.cancel(run.run_id)
        self.world.after(5.0, self._release_parked)

    def _done(self) -> bool:
        return (
            not self.clients.open
            and not self.truth.unfinished()
            and all(not worker.executions for worker in self.force.workers)
        )

    def _judge(self) -> None:
        for run in self.truth.unfinished():
            raise self.world.broken("P1", f"run {run.run_id} of {run.start.workflow} has not ended")
        if self.clients.open:
            raise self.world.broken("P1", f"{self.clients.open} requests of clients are not answered")
        for run in self.truth.runs.values():
            if not run.cleaned and run.plan is not None:
                self._replay(run.run_id)

    def _replay(self, run_id: str) -> None:
        """The log alone tells the end that was told."""
        run = self.truth.runs[run_id]
        number = int(next(s for s in self.network.stream.last if run_id in s).split(".")[3])
        stored = self.network.stream.run(self.network.subjects.run(number, run_id))
        plan = run.plan
        assert plan is not None
        state = fold(run_id, [log_message(message) for message in stored], lambda start: plan)
        told = {step_id: step.status for step_id, step in run.steps.items()}
        folded = {step_id: step.status for step_id, step in state.steps.items()}
        if run.ended and run.final is not None:
            final = {step.id: step.status for step in run.final.steps}
            if final != folded or run.final.status != state.status:
                raise self.world.broken("P5", f"{run_id}: the record says {final}, the log {folded}")
        for step_id, status in told.items():
            if status in ("completed", "skipped", "failed") and folded[step_id] != status:
                raise self.world.broken("P5", f"{run_id}: {step_id} is {folded[step_id]}, and was {status}")


def _log(x: float) -> float:
    from math import log

    return log(max(x, 1e-12))


@contextmanager
def patched(scenario: Scenario) -> Iterator[None]:
    """The constants that the scenario makes small."""
    before: dict[str, tuple[Any, object]] = {"Partition": (ownership, ownership.Partition)}
    ownership.Partition = WatchedPartition  # type: ignore[misc]
    for name, value in scenario.limits_.items():
        where = next(module for module in (committer, partition, limits) if hasattr(module, name))
        before[name] = where, getattr(where, name)
        setattr(where, name, value)
    try:
        yield
    finally:
        for name, (where, value) in before.items():
            setattr(where, name, value)


def run_seed(
    seed: int, trace: list[str] | None = None, focus: Callable[[Scenario], None] | None = None
) -> Violation | None:
    """What a seed breaks, None if nothing. `focus` changes its scenario, so that it meets a fault more often."""
    if seed % 20 == 0:
        gc.collect()
    scenario = draw(seed)
    if focus is not None:
        focus(scenario)
    with patched(scenario):
        try:
            Simulation(scenario, trace).run()
        except Violation as violation:
            return violation
    return None


# ---- command line


@contextmanager
def silenced() -> Iterator[None]:
    """What engines log is not shown, and cyclic garbage is collected only now and then, by `run_seed`."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**before)


def _run_chunk(seeds: range) -> list[tuple[int, str]]:
    with silenced():
        return [(seed, str(violation)) for seed in seeds if (violation := run_seed(seed)) is not None]


def run_seeds(first: int, count: int, jobs: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """(seeds done so far, violations of the last chunk), chunk after chunk."""
    chunks = [range(a, min(a + CHUNK, first + count)) for a in range(first, first + count, CHUNK)]
    done = 0
    if jobs == 1:
        for chunk in chunks:
            done += len(chunk)
            yield done, _run_chunk(chunk)
        return
    with get_context("fork").Pool(jobs) as pool:
        for found in pool.imap_unordered(_run_chunk, chunks):
            done = min(done + CHUNK, count)
            yield done, found


def print_seed(seed: int) -> int:
    """Run one seed and show what happened, with what the engines log."""
    trace: list[str] = []

    def into_trace(logger: object, level: str, event: dict[str, Any]) -> str:
        trace.append(f"{'':19} {level}: {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[into_trace])
    try:
        violation = run_seed(seed, trace)
    finally:
        structlog.configure(**before)
    print("\n".join(trace))
    print(f"seed {seed}: {violation or 'nothing found'}")
    if violation is not None and violation.__cause__ is not None:
        import traceback

        traceback.print_exception(violation.__cause__)
    return 1 if violation else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args(argv)
    if options.seed is not None:
        return print_seed(options.seed)
    began = time.monotonic()
    kinds: Counter[str] = Counter()
    for done, found in run_seeds(options.first, options.seeds, options.jobs):
        for seed, text in found:
            kinds[text.split(":")[0]] += 1
            if sum(kinds.values()) <= 20:
                print(f"seed {seed}: {text}\n    python -m tests.fault.simulate --seed {seed} --trace", flush=True)
        if sys.stderr.isatty():
            print(f"\r{done} seeds", end="", file=sys.stderr)
    took = time.monotonic() - began
    print(f"{options.seeds} seeds in {took:.1f} s: {dict(kinds) or 'nothing found'}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
