"""Outputs that are read piece by piece: of a large one only the part that a page shows is fetched."""

from __future__ import annotations

from msgspec import UNSET

from dagnats_core import limits
from dagnats_core.engine.payloads import Payloads
from dagnats_core.errors import NotFound
from dagnats_core.run import messages as m
from dagnats_core.run import views
from dagnats_micro.present import Output, segments_of, size_of

CHUNK_BYTES = limits.PAYLOAD_CHUNK_BYTES_MAX
"""Of the JSON text; as base64 in a reply it is a third longer."""


def output_of(final: m.FinalRun, step_id: str | None) -> Output:
    """The output of a run, or of one of its steps; None while there is none. Raises NotFound for an unknown step."""
    if step_id is None:
        return views.output_of(final)
    step = next((step for step in final.steps if step.id == step_id), None)
    if step is None:
        raise NotFound(f"run {final.run_id} has no step {step_id!r}")
    if step.status != "completed":
        return None
    return step.output_ref or (m.NULL if step.output is UNSET else step.output)


async def whole(payloads: Payloads, output: Output) -> bytes:
    """The JSON text of an output."""
    parts = [await payloads.get(part) if isinstance(part, m.Ref) else part for part in segments_of(output)]
    return b"".join(parts)


async def chunk(payloads: Payloads, output: Output, offset: int) -> tuple[bytes, int | None]:
    """A piece of the JSON text from `offset` on, and the offset of the next one, None at the end."""
    pieces: list[bytes] = []
    start, end = offset, min(offset + CHUNK_BYTES, size_of(output))
    at = 0
    for part in segments_of(output):
        size = part.size if isinstance(part, m.Ref) else len(part)
        first, last = max(start - at, 0), min(end - at, size)
        if first < last:
            piece = await payloads.part(part, first, last - first) if isinstance(part, m.Ref) else part[first:last]
            pieces.append(piece)
        at += size
    return b"".join(pieces), end if end < at else None
