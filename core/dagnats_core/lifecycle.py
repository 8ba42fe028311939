"""One start/stop contract for every service, the stack of a program's services, and how a program ends.

The rules, for everything that has a `start` and a `stop`:

* `start` returns when the service works; if it raises or is cancelled, it leaves nothing behind.
* `stop` returns when nothing of the service is left; stopping twice or before a start does nothing.
* Services are started in order and stopped in reverse, under one deadline for all of them. A service bounds
  its own drain if it wants others to have their turn. Whatever still hangs at the deadline is named, and
  the process ends by force: what is durable is in JetStream, so nothing acknowledged is lost by that.

Signals and forced exits live here and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any, Literal, NoReturn, Protocol, TypeVar

import structlog

from dagnats_core import limits
from dagnats_core.errors import EXIT_FORCED, EXIT_OK, EXIT_UNEXPECTED, DagNatsError

log = structlog.get_logger("dagnats.lifecycle")


class Service(Protocol):
    """What a stack holds."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ServiceBase(ABC):
    """The contract, implemented once: a subclass writes `_start` and `_stop`.

    `_stop` runs after a complete start and also after one that failed or was cancelled half way, so it lets
    go of whatever `_start` has got so far. Start and stop wait for each other.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._running = False

    @abstractmethod
    async def _start(self) -> None: ...

    @abstractmethod
    async def _stop(self) -> None: ...

    async def start(self) -> None:
        """Start. Raises RuntimeError if it runs already."""
        async with self._turn:
            if self._running:
                raise RuntimeError(f"{type(self).__name__} is running")
            try:
                await self._start()
            except BaseException:
                await self._stop()
                raise
            self._running = True

    async def stop(self) -> None:
        """Stop; a second stop waits for the first, a stop without a start does nothing."""
        async with self._turn:
            if self._running:
                await self._stop()
                self._running = False


S = TypeVar("S", bound=Service)
State = Literal["starting", "running", "stopping", "stopped"]


class Stack:
    """The services of one program. Not thread-safe, but `step` may be read from anywhere."""

    def __init__(self) -> None:
        self.state: State = "starting"
        self.step = "start"
        """What the stack is doing now, in words: this is what a forced exit names."""
        self._started: list[tuple[str, Service]] = []
        self._watchers: list[asyncio.Task[BaseException]] = []
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether all services have started and none is being stopped."""
        return self.state == "running"

    async def start(self, name: str, service: S) -> S:
        """Start `service` on top of those that run; returns it."""
        self.step = f"start of {name}"
        await service.start()
        self._started.append((name, service))
        return service

    def watch(self, failure: Coroutine[Any, Any, BaseException]) -> None:
        """When `failure` resolves with an error (or raises one), the program fails with it, as by `fail`."""

        def on_done(task: asyncio.Task[BaseException]) -> None:
            if not task.cancelled():
                self.fail(task.exception() or task.result())

        task = asyncio.create_task(failure)
        task.add_done_callback(on_done)
        self._watchers.append(task)

    def fail(self, error: BaseException) -> None:
        """A service cannot go on: the program stops and ends with this error. The first one counts."""
        if self._failure is None:
            self._failure = error
            self._failed.set()

    async def failed(self) -> BaseException:
        """Resolves with the first error that `fail` got."""
        await self._failed.wait()
        assert self._failure is not None
        return self._failure

    async def stop(self) -> tuple[BaseException, ...]:
        """Stop all services in reverse, also when one raises. Returns what they raised; each is logged."""
        self.state = "stopping"
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        errors: list[BaseException] = []
        while self._started:
            name, service = self._started[-1]
            self.step = f"stop of {name}"
            try:
                await service.stop()
            except Exception as error:
                log.exception("stop failed", service=name)
                errors.append(error)
            self._started.pop()
        self.state = "stopped"
        return tuple(errors)


class _Ending:
    """How the process ends: what signals do, and a thread that ends it by force at the deadline.

    Both work while the event loop is blocked: handlers are plain signal handlers, the deadline has its own
    thread.
    """

    def __init__(self, stack: Stack, stop_ms: int) -> None:
        self.asked = asyncio.Event()
        """Set by the first signal."""
        self._stack = stack
        self._stop_ms = stop_ms
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()
        self._watchdog = threading.Thread(target=self._force, name="dagnats-forced-exit", daemon=True)

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def begin(self) -> None:
        """From now on the deadline runs."""
        if self._watchdog.ident is None:
            self._watchdog.start()

    def end(self) -> None:
        """Nothing is left to wait for: no deadline any more."""
        self._over.set()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        loop = self._loop
        if loop is None or loop.is_closed() or self._watchdog.ident is not None:
            log.warning("exit at once", signal=name, step=self._stack.step)
            _exit_now(128 + number)
        self.begin()
        loop.call_soon_threadsafe(self._ask, name)

    def _ask(self, name: str) -> None:
        log.info("stopping", signal=name)
        self.asked.set()

    def _force(self) -> None:
        if not self._over.wait(self._stop_ms / 1000):
            log.critical("forced exit", hung=self._stack.step, stop_ms_max=self._stop_ms)
            _exit_now(EXIT_FORCED)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(
    compose: Callable[[Stack], Awaitable[None]],
    *,
    stop_ms: int = limits.STOP_MS_MAX,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Be the whole program: start what `compose` starts, wait for a signal or a failure, stop; the exit code.

    The first SIGINT or SIGTERM stops gracefully (also in the middle of the start), one that comes while the
    program stops ends it at once with 128 + its number. `stop_ms` after the stop began the process ends
    with `EXIT_FORCED` and names the step that hung; this counts until the last thread is gone. An error of
    `compose` or one given to `Stack.fail` is logged and becomes the exit code of its class. For the main
    thread only.
    """
    stack = Stack()
    ending = _Ending(stack, stop_ms)
    before = [signal.getsignal(number) for number in _SIGNALS]
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            ending.listen(runner.get_loop())
            code = runner.run(_run(stack, compose, ending))
            stack.step = "end of tasks and executor threads"
        _join_threads(stack)
    finally:
        ending.end()
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
    return code


async def _run(stack: Stack, compose: Callable[[Stack], Awaitable[None]], ending: _Ending) -> int:
    starting = asyncio.create_task(_compose(stack, compose))
    failing = asyncio.create_task(stack.failed())
    asked = asyncio.create_task(ending.asked.wait())
    await asyncio.wait((starting, failing, asked), return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is None:
        await asyncio.wait((failing, asked), return_when=asyncio.FIRST_COMPLETED)
    ending.begin()
    failure = failing.result() if failing.done() else None
    for task in (starting, failing, asked):
        task.cancel()
    start_result, *_ = await asyncio.gather(starting, failing, asked, return_exceptions=True)
    if isinstance(start_result, Exception):
        failure = start_result
    errors = await stack.stop()
    if failure is not None:
        return _report(failure)
    log.info("stopped")
    return EXIT_UNEXPECTED if errors else EXIT_OK


async def _compose(stack: Stack, compose: Callable[[Stack], Awaitable[None]]) -> None:
    await compose(stack)
    stack.state = "running"
    stack.step = "running"


def _report(failure: BaseException) -> int:
    if isinstance(failure, DagNatsError):
        problems = [f"{problem.path}: {problem.message}" for problem in failure.problems]
        log.error("failed", error=failure.message, code=failure.code, problems=problems)
        return failure.error_class.exit_code
    log.error("failed", exc_info=failure)
    return EXIT_UNEXPECTED


def _join_threads(stack: Stack) -> None:
    """Wait for every thread that would keep the interpreter alive; the deadline bounds it."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            stack.step = f"end of thread {thread.name}"
            thread.join()
