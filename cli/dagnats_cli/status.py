"""`dagnats status`: the site on one screen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, get_args

import msgspec
from cyclopts import Parameter

from dagnats_cli import render
from dagnats_cli.connect import Session, open_session
from dagnats_cli.options import Options
from dagnats_cli.screens import exit_code_of_reply
from dagnats_core import limits
from dagnats_micro.schemas import common, dlq, run, system, worker
from dagnats_micro.table import DLQ_LIST, RUN_COUNT, SYSTEM_HEALTH, SYSTEM_INFO, WORKER_LIST

TASKS_SHOWN_MAX = 12


class Status(msgspec.Struct, kw_only=True):
    """What the screen shows. `dead_letters` and `workers` stop counting at `limits.PAGE_ITEMS_MAX`."""

    info: system.Info
    health: system.Health
    runs: dict[str, int]
    workers: list[worker.WorkerItem]
    dead_letters: int


async def status(*, options: Annotated[Options, Parameter(parse=False)]) -> int:
    """Which site answers, what a power cut may cost, how it is, what runs, who works, what failed for good."""
    async with open_session(options) as session:
        found = await read_status(session)
    if options.json:
        print(render.json_line(found))
    else:
        show_status(found)
    return exit_code_of_reply(found.health)


async def read_status(session: Session) -> Status:
    """Ask for all of it at once."""
    statuses: tuple[run.RunStatus, ...] = get_args(run.RunStatus)
    counting = asyncio.gather(*(session.call(RUN_COUNT, run.RunCountRequest(status=name)) for name in statuses))
    info, health, workers, letters = await asyncio.gather(
        session.call(SYSTEM_INFO, common.Empty()),
        session.call(SYSTEM_HEALTH, common.Empty()),
        session.call(WORKER_LIST, worker.WorkerListRequest(limit=limits.PAGE_ITEMS_MAX)),
        session.call(DLQ_LIST, dlq.DeadLetterListRequest(limit=limits.PAGE_ITEMS_MAX)),
    )
    runs: dict[str, int] = {name: reply.count for name, reply in zip(statuses, await counting, strict=True)}
    return Status(info=info, health=health, runs=runs, workers=workers.items, dead_letters=len(letters.items))


def show_status(found: Status) -> None:
    """Print it for people."""
    out = render.console()
    info, clean = found.info, render.clean
    addresses = [clean(url) for url in (info.nats_url, info.http_url) if url]
    up = (datetime.now(UTC) - render.parse_time(info.started_at)).total_seconds()
    runs = [f"{count} {name}" for name, count in found.runs.items() if count]
    pairs = [
        ("site", f"{clean(info.site)} ({clean(info.site_id)}), up {render.duration(up)}"),
        ("version", f"dagnats {clean(info.version)}, nats-server {clean(info.nats_version)}"),
        ("addresses", ", ".join(addresses)),
        ("durability", clean(info.durability)),
        ("may be lost", clean(info.may_lose)),
        ("replicas", f"{info.replicas}" if info.replicas > 1 else ""),
        ("health", found.health.status),
        ("runs", ", ".join(runs) or "none"),
        ("workers", _workers_text(found.workers)),
        ("dead letters", _letters_text(found.dead_letters)),
    ]
    render.fields([pair for pair in pairs if pair[1]], out)
    ailing = [component for component in found.health.components if component.status != "ok"]
    if ailing:
        out.print()
        render.table(ailing, ("name", "status", "cause"), out)


def _workers_text(workers: list[worker.WorkerItem]) -> str:
    if not workers:
        return "none: nobody works on tasks"
    tasks = sorted({render.clean(task) for item in workers for task in item.tasks})
    more = f" and {len(tasks) - TASKS_SHOWN_MAX} more" if len(tasks) > TASKS_SHOWN_MAX else ""
    busy = sum(item.running for item in workers)
    return f"{len(workers)}, {busy} tasks running: {', '.join(tasks[:TASKS_SHOWN_MAX])}{more}"


def _letters_text(count: int) -> str:
    if not count:
        return "none"
    return f"{'at least ' if count >= limits.PAGE_ITEMS_MAX else ''}{count}: dagnats dlq list"
