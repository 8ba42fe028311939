"""From what people type to a run id: a unique prefix, or the newest one."""

from __future__ import annotations

from dagnats_cli.connect import Session
from dagnats_core import ids
from dagnats_core.errors import Invalid, NotFound, Problem
from dagnats_micro.schemas import dlq, run
from dagnats_micro.table import DLQ_LIST, RUN_LIST

RUN_ID_LENGTH = 28
CANDIDATES_MAX = 10
"""How many of the runs that a prefix fits are listed."""


async def chosen_id(session: Session, noun: str, text: str | None) -> str:
    """The run id that was typed, in full or as a prefix; without one (`--last`) the newest. Raises as the two below."""
    return await newest_id(session, noun) if text is None else await resolve_id(session, text)


async def resolve_id(session: Session, text: str) -> str:
    """The run id that `text` is, or is a prefix of.

    Raises NotFound if no run fits, Invalid with the candidates if several do.
    """
    prefix = text.lower()
    if ids.is_run_id(prefix):
        return prefix
    if not prefix.isascii() or not prefix.isalnum() or len(prefix) > RUN_ID_LENGTH:
        raise NotFound(f"there is no run {text[:80]!r}: a run id is letters and digits, at most {RUN_ID_LENGTH}")
    reply = await session.call(RUN_LIST, run.RunListRequest(prefix=prefix, limit=CANDIDATES_MAX + 1))
    found = reply.items
    if not found:
        raise NotFound(f"no run begins with {prefix!r}")
    if len(found) > 1:
        shown = [
            Problem(item.run_id, "ambiguous", f"{item.workflow}, {item.status}") for item in found[:CANDIDATES_MAX]
        ]
        count = f"more than {CANDIDATES_MAX}" if len(found) > CANDIDATES_MAX else str(len(found))
        raise Invalid(f"{count} runs begin with {prefix!r}", shown)
    return found[0].run_id


async def newest_id(session: Session, noun: str) -> str:
    """The run started last; of `dlq`, the run that failed last. Raises NotFound if there is none."""
    if noun == "dlq":
        letters = (await session.call(DLQ_LIST, dlq.DeadLetterListRequest(limit=1))).items
        if not letters:
            raise NotFound("there are no dead letters")
        return letters[0].id
    runs = (await session.call(RUN_LIST, run.RunListRequest(limit=1))).items
    if not runs:
        raise NotFound("there are no runs")
    return runs[0].run_id
