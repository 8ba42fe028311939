"""A run read from its log: one request, one fold. Engines and API processes read runs in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from dagnats_core.engine.ports import DefinitionsPort, LogPort, PayloadsPort, RunMessages
from dagnats_core.errors import DagNatsError, NotFound
from dagnats_core.flow.plan import Plan
from dagnats_core.ids import partition_of
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage, broken_state, fold
from dagnats_core.run.state import RunState
from dagnats_core.run.views import final_of


class RunReader:
    """Reads runs of a site as they stand in the log."""

    def __init__(self, log: LogPort, definitions: DefinitionsPort, payloads: PayloadsPort) -> None:
        self._log = log
        self._definitions = definitions
        self._payloads = payloads

    async def read(self, run_id: str) -> m.FinalRun | None:
        """The whole of a run, ended or not; None if the log does not hold it (any more)."""
        messages = await self._log.read_run(partition_of(run_id), run_id)
        ended = _ended(messages.log)
        if ended is not None:
            if ended.final is not None:
                return ended.final
            if ended.final_ref is not None:
                return m.decode_final(await self._payloads.get(ended.final_ref))
        state, _ = await fold_run(run_id, messages, self._definitions, self._payloads)
        return final_of(state) if state.start is not None else None


def _ended(log: Sequence[LogMessage]) -> m.Decision | None:
    for message in reversed(log):
        if message.kind == "out.ended":
            return m.decode_decision(message.data)
    return None


async def fold_run(
    run_id: str, messages: RunMessages, definitions: DefinitionsPort, payloads: PayloadsPort
) -> tuple[RunState, Exception | None]:
    """The state of a run, and the exception that kept its log from being folded (the state then says what can be said).

    Raises DagNatsError if the definition or a payload cannot be read now.
    """
    try:
        snapshot = messages.snapshot
        if snapshot is not None and snapshot.body_ref is not None:
            snapshot = m.decode_snapshot(await payloads.get(snapshot.body_ref))
        start = snapshot.start if snapshot is not None else _start_of(messages.log)
        plan = await definitions.plan(start.workflow, start.hash) if start is not None else None

        def plan_of(_: m.Start) -> Plan:
            assert plan is not None
            return plan

        return fold(run_id, messages.log, plan_of, snapshot), None
    except NotFound as cause:
        return broken_state(run_id, messages.log), cause
    except DagNatsError:
        raise
    except Exception as cause:
        return broken_state(run_id, messages.log, definitions.cached), cause


def _start_of(log: Sequence[LogMessage]) -> m.Start | None:
    for message in log:
        if message.kind == "in.start":
            return m.decode_start(message.data)
    return None
