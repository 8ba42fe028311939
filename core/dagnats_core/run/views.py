"""What a run looks like from outside: the record that is archived and shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, Raw

from dagnats_core.flow.inputs import join_by_id
from dagnats_core.run import messages as m
from dagnats_core.run.state import RunState, fields_of


def final_of(state: RunState) -> m.FinalRun:
    """The whole of a run as one record; also of one that has not ended yet."""
    start = state.start
    assert start is not None and state.plan is not None
    return m.FinalRun(
        run_id=state.run_id,
        workflow=start.workflow,
        version=start.version,
        hash=start.hash,
        status=state.status,
        created_at=start.at,
        started_at=state.started_at,
        ended_at=state.ended_at,
        steps=[_final_step(state, step_id) for step_id in state.plan.steps],
        input=start.input,
        input_ref=start.input_ref,
        output_steps=state.output_steps,
        error=state.error,
        tags=start.tags,
        request_id=start.request_id,
        digest=start.digest,
        retry_of=start.retry_of,
    )


def _final_step(state: RunState, step_id: str) -> m.FinalStep:
    step = state.steps[step_id]
    assert state.plan is not None
    output, output_ref = fields_of(step.output) if step.status == "completed" else (UNSET, None)
    return m.FinalStep(
        id=step_id,
        task=state.plan.steps[step_id].task,
        status=step.status,
        attempt=step.attempt,
        worker_id=step.worker_id,
        error=step.error,
        started_at=step.started_at,
        ended_at=step.ended_at,
        output=output,
        output_ref=output_ref,
        due=step.due if step.status == "waiting" else 0,
    )


def join_outputs(steps: Sequence[str], outputs: Mapping[str, Raw]) -> Raw:
    """The run's output: of one step as it is; of several an object by step id."""
    if len(steps) == 1:
        return outputs[steps[0]]
    return join_by_id(steps, outputs)


def output_of(final: m.FinalRun) -> Raw | m.Ref | dict[str, m.Value] | None:
    """The output of a completed run: a value, or values by step id when there are several and some are payloads."""
    if final.status != "completed":
        return None
    values: dict[str, m.Value] = {}
    for step in final.steps:
        if step.id in final.output_steps:
            values[step.id] = step.output_ref or (m.NULL if step.output is UNSET else step.output)
    if len(final.output_steps) == 1:
        return values[final.output_steps[0]]
    inline = {step_id: value for step_id, value in values.items() if isinstance(value, Raw)}
    if len(inline) == len(values):
        return join_outputs(final.output_steps, inline)
    return values
