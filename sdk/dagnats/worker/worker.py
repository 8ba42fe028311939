"""`Worker`: what tasks a program can do, and its life. What happens at a site is the session's affair."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from dagnats.connect import connect_options, wanted_site
from dagnats.worker.handlers import handler_of
from dagnats.worker.session import Plan, Registration, Session
from dagnats_core import ids, limits
from dagnats_core.errors import Invalid, Problem

if TYPE_CHECKING:
    from dagnats.workflow import Workflow

F = TypeVar("F", bound=Callable[..., Any])
SUFFIX_CHARS = 6
CONCURRENCY_MAX = 10_000


class Worker:
    """Does tasks.

    Register handlers with `@worker.task("name")`; then `worker.run()`, or `async with worker:`.

    workflows: registered when the worker starts; content that is known already changes nothing.
    name: what the worker is called in lists, with a suffix that makes it unique; default: the host's name.
    max_concurrent: handlers that run at once, over all tasks (1 to 10,000).
    group: serve only steps of this worker group, for all tasks that name no group of their own.
    nats_url, site, creds: default to DAGNATS_NATS_URL, DAGNATS_SITE and DAGNATS_CREDS, then to the local
    server and the site found there.
    """

    def __init__(
        self,
        workflows: Sequence[Workflow | Mapping[str, Any]] = (),
        *,
        name: str | None = None,
        max_concurrent: int = limits.WORKER_CONCURRENCY_DEFAULT,
        group: str | None = None,
        nats_url: str | None = None,
        site: str | None = None,
        creds: str | None = None,
    ) -> None:
        self.worker_id = _worker_id(name)
        """Unique for each Worker object: `<name>-<6 characters>`."""
        self.nats_url = nats_url
        self.site = site
        self.creds = creds
        self._workflows = tuple(workflows)
        self._max_concurrent = _concurrency(max_concurrent, limits.WORKER_CONCURRENCY_DEFAULT)
        self._group = _group(group)
        self._registrations: dict[tuple[str, str | None], Registration] = {}
        self._session: Session | None = None

    def task(self, name: str, *, max_concurrent: int | None = None, group: str | None = None) -> Callable[[F], F]:
        """Register the decorated function as the handler of task `name`; it may be async or not.

        It takes the context, or the context and the input: `async def count(ctx: Context, part: Part) ->
        Count`. A function that is not async runs in a thread. `max_concurrent` bounds this task within the
        worker's own bound. Raises ValueError for a name that is none or that has a handler already,
        TypeError for a function that cannot be a handler.
        """
        if not ids.is_task(name):
            raise ValueError(f"{name!r} is not a task name: it must match {ids.TASK_PATTERN}")
        key = (name, _group(group) or self._group)
        if key in self._registrations:
            raise ValueError(f"task {name!r} has a handler already")
        bound = _concurrency(max_concurrent, self._max_concurrent)

        def register(function: F) -> F:
            if key in self._registrations:
                raise ValueError(f"task {name!r} has a handler already")
            self._registrations[key] = Registration(*key, handler_of(function, name), bound)
            return function

        return register

    def run(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Be the whole program: read flags, work until SIGTERM or SIGINT, finish what runs, exit with a code.

        Flags: --nats-url, --site, --creds, --log-format; each also as DAGNATS_<NAME>. Tasks that do not
        finish within 10 s are given back for others to do; a second signal exits at once.
        """
        from dagnats.worker.main import main

        raise SystemExit(main(self, argv))

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped yet."""
        return self._session is not None

    async def serve(self) -> None:
        """Work until cancelled, then stop as `stop` does."""
        async with self:
            await asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Return once connected, registered and pulling; waits for a server that is not there yet.

        Raises DagNatsError for what waiting cannot mend, RuntimeError if the worker runs already.
        """
        if self._session is not None:
            raise RuntimeError("the worker runs already")
        if not self._registrations:
            raise Invalid(
                "the worker has no task",
                [Problem("tasks", "required", "register handlers with @worker.task")],
            )
        session = Session(
            Plan(
                worker_id=self.worker_id,
                options=connect_options(self.nats_url, self.creds, self.worker_id),
                site=wanted_site(self.site),
                registrations=tuple(self._registrations.values()),
                definitions=[_definition(workflow) for workflow in self._workflows],
                max_concurrent=self._max_concurrent,
            )
        )
        self._session = session
        try:
            await session.start()
        except BaseException:
            self._session = None
            raise

    async def stop(self) -> None:
        """Take no more tasks, let handlers finish for up to 10 s, give back the others, disconnect."""
        session = self._session
        if session is not None:
            await session.stop()
            self._session = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _definition(workflow: Workflow | Mapping[str, Any]) -> Mapping[str, Any]:
    return workflow if isinstance(workflow, Mapping) else workflow.definition()


def _worker_id(name: str | None) -> str:
    if name is None:
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()).lstrip("-_") or "worker"
        name = host[: limits.NAME_LENGTH_MAX - SUFFIX_CHARS - 1]
    worker_id = f"{name}-{ids.base32(secrets.randbits(5 * SUFFIX_CHARS), SUFFIX_CHARS)}"
    if not ids.is_name(worker_id):
        raise ValueError(f"{name!r} is not a worker name: letters, digits, `_` and `-`, at most 57")
    return worker_id


def _group(group: str | None) -> str | None:
    if group is not None and not ids.is_name(group):
        raise ValueError(f"{group!r} is not a worker group: it must match {ids.NAME_PATTERN}")
    return group


def _concurrency(value: int | None, default: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= CONCURRENCY_MAX:
        raise ValueError(f"max_concurrent={value!r} is not between 1 and {CONCURRENCY_MAX}")
    return value
