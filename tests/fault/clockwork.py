"""Virtual time and simulated processes: an event loop for each process, and one seeded choice of what runs next.

A `Process` keeps its callbacks in order, as a real event loop does; which process runs next, and when a message
arrives, is drawn from the seed. So each run of a seed is the same, and a crash falls between any two callbacks.
Nothing here knows NATS or runs.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from random import Random
from typing import Any

from dagnats_core.errors import DagNatsError

EPOCH_MS = 1_700_000_000_000
"""The wall clock at virtual time 0."""


SLOWNESS_S = 0.01
"""How far time may go on while a callback is ready: so slow a process may be without being stalled."""


class Violation(AssertionError):
    """A property of the protocol does not hold. `rule` is its name: P1 … P9, or `exception`."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Handle:
    """A callback that waits: `cancel()` is all that asyncio asks of it."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., object] | None, args: tuple[Any, ...], context: Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None


class World:
    """Time, chance, and everything that happens. `trace` collects what happened, if it is a list."""

    def __init__(self, seed: int, trace: list[str] | None = None) -> None:
        self.random = Random(seed)
        self.chance = self.random.random
        self.now = 0.0
        self.trace = trace
        self.processes: list[Process] = []
        self.eager = 0.9
        """How often a callback that is ready runs before the next event."""
        self.latency_s = 0.002
        self.steps = 0
        self.violation: Violation | None = None
        self._heap: list[tuple[float, int, Handle]] = []
        self._count = 0

    def note(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {who:8} {what}")

    def broken(self, rule: str, text: str) -> Violation:
        """A property does not hold: to be raised, and known even if the code under test catches it."""
        violation = Violation(rule, text)
        if self.violation is None:
            self.violation = violation
            self.note("********", str(violation))
        return violation

    def now_ms(self) -> int:
        return EPOCH_MS + int(self.now * 1000)

    def hits(self, rate: float) -> bool:
        return rate > 0.0 and self.chance() < rate

    def pick(self, items: list[Any]) -> Any:
        return items[int(self.chance() * len(items))]

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.chance()

    def after(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call back after `delay_s` of virtual time, whatever becomes of any process."""
        return self.at(self.now + delay_s, callback, *args)

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> Handle:
        handle = Handle(callback, args, None)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, handle))
        return handle

    def delay(self) -> float:
        """How long a message is on its way; now and then much longer."""
        c = self.chance()
        return c * self.latency_s if c > 0.02 else self.between(0.0, 0.4)

    def step(self) -> bool:
        """Run one callback, or let time go on to the next event. False: nothing is left."""
        self.steps += 1
        ready = [process for process in self.processes if process.ready and not process.stalled]
        heap = self._heap
        if ready and (not heap or heap[0][0] > self.now + SLOWNESS_S or self.chance() < self.eager):
            ready[int(self.chance() * len(ready)) if len(ready) > 1 else 0].run_one()
            return True
        while heap:
            when, _, handle = heapq.heappop(heap)
            if handle.callback is not None:
                self.now = max(self.now, when)
                handle.callback(*handle.args)
                return True
        return bool(ready)

    def run(self, until: float, done: Callable[[], bool] | None = None, steps_max: int = 1_000_000) -> None:
        """Go on until `done()`, until time reaches `until`, or nothing is left. Raises Violation beyond `steps_max`."""
        end = self.steps + steps_max
        try:
            while self.now < until and not (done is not None and self.steps % 16 == 0 and done()):
                if not self.step():
                    return
                if self.violation is not None:
                    raise self.violation
                if self.steps > end:
                    raise self.broken("P1", f"no rest after {steps_max} steps")
        finally:
            asyncio._set_running_loop(None)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self._heap.clear()


class Process(asyncio.AbstractEventLoop):
    """One operating-system process with its event loop and its connection: messages keep their order each way."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.ready: deque[Handle] = deque()
        self.alive = True
        self.stalled = False
        self.cut_at = float("inf")
        """Messages that would arrive later than this are lost: the connection was cut."""
        self._up_at = 0.0
        self._down_at = 0.0
        world.processes.append(self)

    # ---- the process

    def run_one(self) -> None:
        handle = self.ready.popleft()
        if handle.callback is None:
            return
        asyncio._set_running_loop(self)
        try:
            if handle.context is None:
                handle.callback(*handle.args)
            else:
                handle.context.run(handle.callback, *handle.args)
        except Violation:
            return
        except Exception as error:
            text = f"{self.name}: {type(error).__name__}: {error}"
            raise self.world.broken("exception", text) from error

    def stall(self, seconds: float) -> None:
        """Run nothing for a while; what arrives meanwhile waits."""
        self.stalled = True
        self.world.after(seconds, self._wake)

    def _wake(self) -> None:
        self.stalled = False

    def calm(self) -> None:
        """Faults stop: nothing is stalled, and what is on its way no more holds up what comes after."""
        self.stalled = False
        self._up_at = self._down_at = 0.0

    def kill(self) -> None:
        """Die between two callbacks: no line of code runs here any more."""
        if not self.alive:
            return
        self.alive = False
        self.cut_at = self.world.now + self.world.chance() * self.world.latency_s
        self.world.processes = [process for process in self.world.processes if process is not self]
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(RuntimeError):  # it awaits in its cleanup, which a dead process does not
                task.get_coro().close()  # type: ignore[union-attr]
        self.ready.clear()

    # ---- its connection

    def send(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back on the other side once what was sent before has arrived."""
        self._up_at = max(self._up_at, self.world.now + self.world.delay())
        self.world.at(self._up_at, self._arrive, callback, args)

    def _arrive(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.world.now <= self.cut_at:
            callback(*args)

    def receive(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back in this process once what was sent to it before has arrived."""
        self._down_at = max(self._down_at, self.world.now + self.world.delay())
        self.world.at(self._down_at, self.call_soon, callback, *args)

    # ---- what asyncio asks of a loop

    def time(self) -> float:
        return self.world.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, context)
        if self.alive:
            self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context)
        if self.alive:
            self.world.at(when, self._due, handle)
        return handle

    def _due(self, handle: Handle) -> None:
        if self.alive and handle.callback is not None:
            self.ready.append(handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        if not self.alive:
            coro.close()
            return self.create_future()  # type: ignore[return-value]
        return asyncio.Task(coro, loop=self, name=name or "task", context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody asked for; those that the ports raise by contract are left to the properties."""
        error = context.get("exception")
        if self.alive and error is not None and not isinstance(error, Violation | DagNatsError):
            self.world.broken("exception", f"{self.name}: {context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.alive
