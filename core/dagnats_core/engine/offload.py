"""Messages too large for the server's max_payload: their large part goes to the payload store, a reference stays."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw

from dagnats_core import limits
from dagnats_core.engine.ports import PayloadsPort
from dagnats_core.run import messages as m


async def offload(payloads: PayloadsPort, body: m.Decision | m.Snapshot | m.Timer) -> m.Decision | m.Snapshot | m.Timer:
    """`body` with its large part stored. Raises StorageFull or Unavailable of the store, TooLarge for one value."""
    if isinstance(body, m.Snapshot):
        return msgspec.structs.replace(body, steps=[], body_ref=await _put_record(payloads, body))
    if isinstance(body, m.Decision):
        return await _slim_decision(payloads, body)
    return body


async def _slim_decision(payloads: PayloadsPort, body: m.Decision) -> m.Decision:
    final_ref = await _put_record(payloads, body.final) if body.final is not None else None
    task = body.task
    if task is not None and isinstance(task.input, Raw) and len(bytes(task.input)) > limits.INLINE_BYTES_MAX:
        task = await _slim_task(payloads, task)
    finals = {step.id: step for step in body.final.steps} if body.final is not None else {}
    events = [await _slim_event(payloads, event, finals) for event in body.events]
    return msgspec.structs.replace(body, final=None, final_ref=final_ref, task=task, events=events)


async def _put_record(payloads: PayloadsPort, record: m.FinalRun | m.Snapshot) -> m.Ref:
    """A whole run as one payload; if its outputs together are too many bytes for one, each becomes its own."""
    data = m.encode(record)
    if len(data) > limits.PAYLOAD_BYTES_MAX:
        slim = [await _slim_step(payloads, step) for step in record.steps]
        data = m.encode(msgspec.structs.replace(record, steps=slim))
    return await payloads.put(data)


async def _slim_step(payloads: PayloadsPort, step: m.FinalStep | m.SnapshotStep) -> m.FinalStep | m.SnapshotStep:
    if not isinstance(step.output, Raw) or len(bytes(step.output)) <= limits.KIB:
        return step
    return msgspec.structs.replace(step, output=UNSET, output_ref=await payloads.put(bytes(step.output)))


async def _slim_task(payloads: PayloadsPort, task: m.Task) -> m.Task:
    """The whole input becomes one payload; where parts of it are payloads already, only the rest would, so inline
    parts become payloads of their own."""
    assert isinstance(task.input, Raw)
    if not task.input_refs:
        return msgspec.structs.replace(task, input=UNSET, input_ref=await payloads.put(bytes(task.input)))
    parts = msgspec.json.decode(task.input, type=dict[str, Raw])
    refs = dict(task.input_refs)
    for key, part in parts.items():
        if key not in refs and len(bytes(part)) > limits.KIB:
            refs[key] = await payloads.put(bytes(part))
    rest = {key: part for key, part in parts.items() if key not in refs}
    return msgspec.structs.replace(task, input=Raw(m.encode(rest)), input_refs=refs)


async def _slim_event(payloads: PayloadsPort, event: m.Event, finals: Mapping[str, m.FinalStep]) -> m.Event:
    """An output that stood in the final record moves into its event: a fold reads no payloads."""
    if not isinstance(event, m.StepCompleted):
        return event
    if event.output_in == "final":
        final = finals[event.step]
        event = msgspec.structs.replace(event, output=final.output, output_ref=final.output_ref, output_in="")
    if not isinstance(event.output, Raw) or len(bytes(event.output)) <= limits.KIB:
        return event
    return msgspec.structs.replace(event, output=UNSET, output_ref=await payloads.put(bytes(event.output)))
