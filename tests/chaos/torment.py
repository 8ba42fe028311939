"""What is done to the processes, and when: a shuffled deck of deeds, and meanwhile a worker killed about once a second.

Each deed makes one kind of accident happen for sure, where blows at random would seldom hit the moment:

* a kill while many decisions are on their way (a rush of starts just before it);
* an engine that sleeps over the end of its lease and wakes up as a zombie, with its runs as they were in memory;
* the same, while its successor dies: nobody but the zombie hears the reports;
* an engine that dies while it takes in what its dead predecessor had left;
* a connection that is cut with publishes on their way, which arrive when the engine has come back and gone on.

So each deed first makes sure that its victim owns something. `counts` says how often each was really done.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.chaos.follow import Follower
from tests.chaos.load import Load
from tests.chaos.world import ENGINES, WORKERS, World

WORKER_EVERY_S = (0.6, 1.8)
BETWEEN_S = (0.1, 1.0)
RUSH_RUNS = 150
LOOK_S = 0.02
OWNER_S_MAX = 12.0
"""How long a deed waits for a victim that owns something: a program's start, and a round of balancing."""
TAKEOVER_S_MAX = 10.0
"""A lease runs out after 4 s; others see that half a second later, on a machine that has time."""
TAKING_S = 0.15
"""While a successor reads and folds what was left to it."""
WAKE_S = 1.0
"""How long a zombie is left alone after it woke up."""


class Torment:
    """Seeded: the same seed does the same deeds in the same order, as far as the processes let it. `deeds`: only these
    of DEEDS; workers are always killed."""

    def __init__(self, world: World, load: Load, follower: Follower, seed: int, deeds: Sequence[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._load = load
        self._follower = follower
        self._names = list(deeds or DEEDS)
        self._random = random.Random(f"torment {seed}")
        self._worker_random = random.Random(f"workers {seed}")

    async def run(self, duration_s: float) -> None:
        """Torment for so long; the deed that is being done then is finished."""
        until = asyncio.get_running_loop().time() + duration_s
        await asyncio.gather(self._kill_workers(until), self._do_deeds(until))

    async def _kill_workers(self, until: float) -> None:
        while await self._pause(WORKER_EVERY_S, until, self._worker_random):
            self._world.kill(self._worker_random.choice(WORKERS))

    async def _do_deeds(self, until: float) -> None:
        deck: list[str] = []
        while await self._pause(BETWEEN_S, until, self._random):
            if not deck:
                deck = self._names * 2
                self._random.shuffle(deck)
            await DEEDS[deck.pop()](self)

    async def _pause(self, between_s: tuple[float, float], until: float, source: random.Random) -> bool:
        """Wait a while; False if the time is over."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(min(source.uniform(*between_s), max(0.0, until - now)))
        return asyncio.get_running_loop().time() < until

    # ---- deeds

    async def _hit_serve(self) -> None:
        await self._rush()
        self._world.kill("serve")

    async def _hit_nats_server(self) -> None:
        await self._rush()
        self._world.kill_nats_server()

    async def _hit_engine(self) -> None:
        if (owner := await self._owner(ENGINES)) is not None:
            await self._rush()
            self._world.kill(owner[0])

    async def _hit_successor(self) -> None:
        """An owner dies, runs pile up, and whoever takes them over dies at once."""
        if (owner := await self._owner((*ENGINES, "serve"))) is None:
            return
        name, engine_id = owner
        await self._rush()
        self._world.kill(name)
        if (successor := await self._taken_over(engine_id, at_once=True)) is not None:
            await asyncio.sleep(self._random.uniform(0, TAKING_S))
            self._kill_engine(successor)

    async def _zombie(self) -> None:
        """An engine sleeps until others have taken what it owns, and wakes up."""
        if (owner := await self._owner((*ENGINES, "serve"))) is None:
            return
        name, engine_id = owner
        self._world.stall(name)
        try:
            if await self._taken_over(engine_id) is not None:
                self.counts["zombies"] += 1
        finally:
            self._world.go_on(name)
        await asyncio.sleep(WAKE_S)

    async def _orphans(self) -> None:
        """An engine sleeps until others have taken what it owns; one of them dies; it wakes up, alone with that."""
        if (owner := await self._owner(ENGINES)) is None:
            return
        name, engine_id = owner
        self._world.stall(name)
        try:
            if await self._taken_over(engine_id) is not None:
                self.counts["orphans"] += 1
                await self._rush()
                for other in ENGINES:
                    if other != name:
                        self._world.kill(other)
                await asyncio.sleep(self._random.uniform(0.2, 1.5))
        finally:
            self._world.go_on(name)
        await asyncio.sleep(WAKE_S)

    async def _cut(self) -> None:
        """What an engine has sent arrives after it has come back, read the log, and gone on."""
        if (owner := await self._owner(ENGINES)) is not None:
            await self._rush()
            self.counts["cuts"] += 1
            await self._world.proxies[owner[0]].cut(self._random.uniform(0.1, 2.5), self._random.uniform(1.0, 3.0))

    # ---- what makes them hit

    async def _rush(self) -> None:
        """Many starts at once, and a moment later they are all over the engines."""
        self._load.rush(RUSH_RUNS)
        await asyncio.sleep(self._random.uniform(0.02, 0.4))

    async def _owner(self, names: tuple[str, ...]) -> tuple[str, str] | None:
        """One of these programs whose engine owns something, and as whom it stamps; None if none comes to own."""
        loop = asyncio.get_running_loop()
        until = loop.time() + OWNER_S_MAX
        while loop.time() < until:
            stamps = set((await self._follower.stamps()).values())
            engines = {name: self._world.engine_id(name) for name in names}
            owners = [(name, engine) for name, engine in engines.items() if engine is not None and engine in stamps]
            if owners:
                return self._random.choice(owners)
            await asyncio.sleep(LOOK_S)
        self.counts["no victim"] += 1
        return None

    async def _taken_over(self, engine_id: str, *, at_once: bool = False) -> str | None:
        """Wait until others have stamped all that this engine owned, or (`at_once`) the first of it. One of those who
        did, None if nobody does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TAKEOVER_S_MAX
        before: dict[int, str] = {}
        while loop.time() < until:
            stamps = await self._follower.stamps()
            before = before or {number: owner for number, owner in stamps.items() if owner == engine_id}
            others = [stamps[number] for number in before if stamps.get(number, engine_id) != engine_id]
            if others and (at_once or len(others) == len(before)):
                return others[0]
            await asyncio.sleep(LOOK_S)
        self.counts["not taken over"] += 1
        return None

    def _kill_engine(self, engine_id: str) -> None:
        for name in (*ENGINES, "serve"):
            if self._world.engine_id(name) == engine_id:
                self.counts["successors"] += 1
                self._world.kill(name)


DEEDS: dict[str, Callable[[Torment], Coroutine[Any, Any, None]]] = {
    "serve": Torment._hit_serve,
    "nats-server": Torment._hit_nats_server,
    "engine": Torment._hit_engine,
    "successor": Torment._hit_successor,
    "zombie": Torment._zombie,
    "orphans": Torment._orphans,
    "cut": Torment._cut,
}
"""By the name that the command line takes."""
