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
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from queue import Empty, SimpleQueue
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
        self.failure: BaseException | None = None
        """The first error that `fail` got."""
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
        if self.failure is None:
            self.failure = error
            self._failed.set()

    async def failed(self) -> BaseException:
        """Resolves with `failure` as soon as there is one."""
        await self._failed.wait()
        assert self.failure is not None
        return self.failure

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
            except (Exception, asyncio.CancelledError) as error:
                if _is_cancelled():
                    raise
                log.exception("stop failed", service=name)
                errors.append(error)
            self._started.pop()
        self.state = "stopped"
        return tuple(errors)


def _is_cancelled() -> bool:
    """Whether the current task itself was asked to end; a CancelledError may also come from what it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Ending:
    """How the process ends: what signals do, and a thread that ends it by force at the deadline.

    Both work while the event loop is blocked, because handlers are plain signal handlers and the deadline has its
    own thread. A handler may interrupt anything, so it takes no lock: `SimpleQueue.put` is made for that.
    """

    def __init__(self, stack: Stack, loop: asyncio.AbstractEventLoop, stop_ms: int) -> None:
        self.asked = asyncio.Event()
        """Set by the first signal."""
        self._stack = stack
        self._loop = loop
        self._stop_ms = stop_ms
        self._begun = False
        self._news: SimpleQueue[Literal["begin", "end"] | signal.Signals] = SimpleQueue()
        self._handlers = [signal.signal(number, self._on_signal) for number in _SIGNALS]
        self._watchdog = threading.Thread(target=self._watch, name="dagnats-forced-exit", daemon=True)
        self._watchdog.start()

    def begin(self) -> None:
        """From now on the deadline runs, and a signal ends the process at once."""
        self._begun = True
        self._news.put("begin")

    def end(self) -> None:
        """Nothing is left to wait for: everything is as it was before."""
        self._news.put("end")
        self._watchdog.join()
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._begun:
            self._news.put(signal.Signals(number))
        else:
            self.begin()
            self._loop.call_soon_threadsafe(self._ask, signal.Signals(number).name)

    def _ask(self, name: str) -> None:
        log.info("stopping", signal=name)
        self.asked.set()

    def _watch(self) -> None:
        deadline: float | None = None
        while True:
            try:
                news = self._news.get(timeout=None if deadline is None else max(0, deadline - time.monotonic()))
            except Empty:
                _exit_now(EXIT_FORCED, "forced exit", hung=self._stack.step, stop_ms_max=self._stop_ms)
            if news == "end":
                return
            if isinstance(news, signal.Signals):
                _exit_now(128 + news, "exit at once", signal=news.name, step=self._stack.step)
            deadline = deadline or time.monotonic() + self._stop_ms / 1000


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _exit_now(code: int, event: str, **fields: object) -> NoReturn:
    """End the process without any clean-up, and say why if anybody reads the log.

    A thread of its own says it: whoever hangs may hang in a write to the log, and hold its lock.
    """
    telling = threading.Thread(target=log.critical, args=(event,), kwargs=fields, daemon=True)
    telling.start()
    telling.join(limits.LAST_WORDS_MS_MAX / 1000)
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
    runner = asyncio.Runner(loop_factory=loop_factory)
    ending = _Ending(stack, runner.get_loop(), stop_ms)
    try:
        with runner:
            code = runner.run(_run(stack, compose, ending))
            stack.step = "end of tasks and executor threads"
        _join_threads(stack)
    finally:
        ending.end()
    return code


async def _run(stack: Stack, compose: Callable[[Stack], Awaitable[None]], ending: _Ending) -> int:
    starting = asyncio.create_task(_compose(stack, compose))
    failing = asyncio.create_task(stack.failed())
    asked = asyncio.create_task(ending.asked.wait())
    await asyncio.wait((failing, asked), return_when=asyncio.FIRST_COMPLETED)
    ending.begin()
    for task in (starting, failing, asked):
        task.cancel()
    await asyncio.gather(starting, failing, asked, return_exceptions=True)
    errors = await stack.stop()
    if stack.failure is not None:
        return _report(stack.failure)
    log.info("stopped")
    return EXIT_UNEXPECTED if errors else EXIT_OK


async def _compose(stack: Stack, compose: Callable[[Stack], Awaitable[None]]) -> None:
    try:
        await compose(stack)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, Exception) or not _is_cancelled():
            stack.fail(error)
    else:
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
