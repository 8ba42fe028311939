"""Waiting for a run: long polls that outlive restarts, and what is said at the end.

What is shown on the way is a `View` (live.py); the run's own end becomes the exit code. Ctrl-C ends the watching only.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter

from dagnats_cli import render
from dagnats_cli.arguments import RUN_ID_HELP
from dagnats_cli.commands import LAST_HELP, OUTPUT_HELP, check_subject
from dagnats_cli.connect import Session, open_session
from dagnats_cli.live import JsonLines, Lines, LiveTable, Silent, View
from dagnats_cli.options import Options
from dagnats_cli.progress import Progress
from dagnats_cli.runids import chosen_id
from dagnats_core.errors import EXIT_OK, Conflict, DagNatsError
from dagnats_micro.endpoint import Endpoint, Rep, Req
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Reply
from dagnats_micro.table import RUN_EVENTS, RUN_GET

WAIT_MS = 5_000
"""How long one poll waits for news; an API process that dies without a word is noticed after this and `GRACE_S`."""
GRACE_S = 2.0
TICK_S = 0.125
AGAIN_S = (0.2, 2.0)
"""First and longest pause before the site is asked again after trouble."""
PASSING = frozenset({"unavailable", "timeout", "busy"})
"""Errors that time heals."""

T = TypeVar("T")


async def watch_command(
    run_id: Annotated[str | None, Parameter(help=RUN_ID_HELP)] = None,
    /,
    *,
    last: Annotated[bool, Parameter(help=LAST_HELP, negative=(), show_default=False)] = False,
    output: Annotated[bool, Parameter(help=OUTPUT_HELP, negative=(), show_default=False)] = False,
    options: Annotated[Options, Parameter(parse=False)],
) -> int:
    """Watch a run that exists."""
    check_subject(run_id, last=last)
    async with open_session(options) as session:
        return await follow(session, await chosen_id(session, "run", run_id), options, watch=True, output=output)


async def follow(
    session: Session, run_id: str, options: Options, *, watch: bool, output: bool, started: Reply | None = None
) -> int:
    """Wait until a run has ended, show it if `watch`, print its output if `output`. Raises the run's failure."""
    view = _view(options, watch=watch, output=output)
    if isinstance(view, JsonLines) and started is not None:
        print(render.json_line(started), flush=True)
    try:
        final = await wait_for_end(session, run_id, view)
    except asyncio.CancelledError:
        print(f"stopped watching; the run goes on\n  dagnats run watch {run_id}", file=sys.stderr)
        raise
    except DagNatsError as error:
        if error.code == "timeout":
            raise DagNatsError(f"{error.message}; the run goes on: {run_id}", code="timeout") from error
        raise
    if final.status != "completed":
        raise failure_of(final)
    if output and not isinstance(view, JsonLines):
        await print_output(session, run_id)
    elif isinstance(view, LiveTable):
        view.show_output(final)
    return EXIT_OK


def failure_of(ended: run.Run | run.Output) -> DagNatsError:
    """The error that a run which did not complete is."""
    why = f": {render.error_text(ended.error)}" if ended.error is not None else ""
    return DagNatsError(f"run {ended.run_id} {ended.status}{why}", code="run_failed")


async def show_output(session: Session, request: run.OutputRequest, reply: run.Output) -> int:
    """Print the output that a reply holds or announces. Raises the run's failure, Conflict while there is none yet."""
    if reply.status == "completed" or (request.step is not None and (reply.chunk or reply.output is not None)):
        await print_output(session, request.run_id, request.step)
        return EXIT_OK
    if reply.status in ("failed", "cancelled"):
        raise failure_of(reply)
    raise Conflict(f"run {reply.run_id} is {reply.status}: there is no output yet")


async def print_output(session: Session, run_id: str, step: str | None = None) -> None:
    """Print an output, however large, as JSON: indented on a terminal, else on one line."""
    data = await session.client.read_output(run_id, step)
    print(render.json_for(render.console(), msgspec.Raw(data)))


def _view(options: Options, *, watch: bool, output: bool) -> View:
    """What is shown: with `output`, stdout is the result's alone, and the watching goes to stderr."""
    if not watch:
        return Silent()
    if options.json:
        return JsonLines()
    out = render.console(stderr=output)
    return LiveTable(out) if out.is_terminal else Lines(out)


async def wait_for_end(session: Session, run_id: str, view: View) -> run.Run:
    """Watch a run until it ends, or until it is parked: it does not go on by itself then.

    Raises TimedOut at the deadline, NotFound and what else time does not heal.
    """
    watching = _Watching(session, view)
    final = None
    try:
        progress = Progress(await watching.call(RUN_GET, run.RunRequest(run_id=run_id)))
        view.begin(progress)
        after, ended = 0, False
        while not ended:
            request = run.EventsRequest(run_id=run_id, after=after, wait_ms=WAIT_MS)
            reply = await watching.call(RUN_EVENTS, request, timeout_s=WAIT_MS / 1000 + GRACE_S)
            for event in reply.items:
                progress.apply(event)
                view.event(event)
            after, ended = reply.after, reply.ended or progress.parked
        final = await watching.call(RUN_GET, run.RunRequest(run_id=run_id))
        progress.set(final)
        return final
    finally:
        view.end(final)


class _Watching:
    """Calls that go on through restarts, while the view's clock ticks."""

    def __init__(self, session: Session, view: View) -> None:
        self._session = session
        self._view = view

    async def call(self, endpoint: Endpoint[Req, Rep], request: Req, timeout_s: float | None = None) -> Rep:
        pause_s = AGAIN_S[0]
        troubled = False
        while True:
            try:
                reply = await self._ticking(self._session.call(endpoint, request, timeout_s=timeout_s))
            except DagNatsError as error:
                self._session.remaining_s()
                if error.code not in PASSING:
                    raise
                if not troubled:
                    self._view.trouble(error.message)
                troubled = True
                await self._ticking(asyncio.sleep(pause_s))
                pause_s = min(2 * pause_s, AGAIN_S[1])
                continue
            if troubled:
                self._view.trouble("")
            return reply

    async def _ticking(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=TICK_S)
                if not task.done():
                    self._view.tick()
            return task.result()
        finally:
            task.cancel()
