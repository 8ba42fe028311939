"""Build a workflow's definition in Python. No IO: `Client.register` and `Worker(workflows=[…])` send it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from dagnats_core.errors import Invalid
from dagnats_core.flow.canonical import canonical
from dagnats_core.flow.durations import format_duration
from dagnats_core.flow.model import Strategy
from dagnats_core.flow.validate import validate

Duration = str | timedelta
"""Text as in definitions ("30s", "1h30m", "PT90S"), or a timedelta."""
Schema = type | Mapping[str, Any] | bool
"""A JSON Schema 2020-12, or a type that msgspec can describe: a Struct, a dataclass, a TypedDict, …"""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is followed by another.

    `max_attempts` counts executions: 3 is the first one and two more. The delay before the next attempt is
    `initial_delay`, times the attempt's number (linear), or times `multiplier` after each attempt (exponential), at
    most `max_delay` (1 day); `jitter` (0 to 1) is the part of it that is drawn by lot.
    """

    max_attempts: int
    strategy: Strategy = "fixed"
    initial_delay: Duration = "1s"
    max_delay: Duration | None = None
    multiplier: float = 2.0
    jitter: float = 0.0


class StepRef:
    """A step of a workflow, to be named in `after=` and in expressions."""

    __slots__ = ("_workflow", "id")

    def __init__(self, workflow: Workflow, step_id: str) -> None:
        self._workflow = workflow
        self.id = step_id

    @property
    def output(self) -> str:
        """The expression for the step's output: `f"{split.output}.parts[0]"`."""
        return f'steps["{self.id}"].output'

    def belongs_to(self, workflow: Workflow) -> bool:
        return self._workflow is workflow

    def __repr__(self) -> str:
        return f"StepRef({self.id!r})"


class Workflow:
    """A workflow in the making.

        wf = Workflow("wordcount")
        split = wf.step("split", task="text.split")
        count = wf.step("count", task="text.count", after=[split], input={"part": f"{split.output}.parts[0]"})

    Only what can never be meant is refused at once (ValueError): an id that is taken, a step of another workflow.
    All else is checked by `definition`, which reports every problem together.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "",
        timeout: Duration | None = None,
        default_retry: RetryPolicy | None = None,
        input_schema: Schema | None = None,
        output_schema: Schema | None = None,
    ) -> None:
        self.name = name
        self._steps: dict[str, dict[str, Any]] = {}
        self._fields = _given(
            name=name,
            version=version or None,
            timeout=_duration(timeout),
            default_retry=_policy(default_retry),
            input_schema=_schema(input_schema),
            output_schema=_schema(output_schema),
        )

    def step(
        self,
        id: str,
        *,
        task: str,
        after: StepRef | str | Iterable[StepRef | str] = (),
        input: Any = None,
        when: str | None = None,
        skip_if: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        queue_timeout: Duration | None = None,
        retry: RetryPolicy | None = None,
        retries: int | None = None,
        metadata: Mapping[str, str] | None = None,
        worker_group: str | None = None,
    ) -> StepRef:
        """Add a step that runs `task` once all steps of `after` have ended.

        `input`: an object in which every text is a CEL expression over `input` (the run's) and `steps.<id>.output`, or
        one expression; without it the step gets the run's input (no `after`), the output (one), or the outputs by step
        id. `when`: an expression; the step is skipped if it is false. `skip_if`: {step_id, field, op, value}.
        `timeout` bounds one attempt, `queue_timeout` its waiting for a worker. `retries=N` is short for N retries at
        5 s; `retry` says more. `metadata` is given to the handler; only workers of `worker_group` get the step.
        """
        if id in self._steps:
            raise ValueError(f"workflow {self.name!r} has a step {id!r} already")
        before = [after] if isinstance(after, StepRef | str) else list(after)
        self._steps[id] = _given(
            id=id,
            task=task,
            depends_on=[self._id_of(step) for step in before] or None,
            input=input,
            when=when,
            skip_if=None if skip_if is None else dict(skip_if),
            timeout=_duration(timeout),
            queue_timeout=_duration(queue_timeout),
            retry=_policy(retry),
            retries=retries,
            metadata=None if metadata is None else dict(metadata),
            worker_group=worker_group,
        )
        return StepRef(self, id)

    def definition(self) -> dict[str, Any]:
        """The definition as JSON data in its one form. Raises Invalid, whose problems are all that is wrong."""
        definition, problems, _ = validate({**self._fields, "steps": list(self._steps.values())})
        if definition is None:
            first = problems[0]
            where = f"{first.path}: " if first.path else ""
            raise Invalid(f"workflow {self.name!r} is not valid: {where}{first.message}", problems)
        content: dict[str, Any] = json.loads(canonical(definition))
        return content

    def _id_of(self, step: StepRef | str) -> str:
        if isinstance(step, str):
            return step
        if not step.belongs_to(self):
            raise ValueError(f"{step!r} is a step of another workflow than {self.name!r}")
        return step.id

    def __repr__(self) -> str:
        return f"Workflow({self.name!r}, {len(self._steps)} steps)"


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _duration(value: Duration | None) -> Any:
    if not isinstance(value, timedelta):
        return value
    if value < timedelta(0):
        raise ValueError(f"a duration cannot be negative: {value}")
    return format_duration(-(-value // timedelta(milliseconds=1)))


def _policy(policy: RetryPolicy | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    return _given(
        max_attempts=policy.max_attempts,
        strategy=policy.strategy,
        initial_delay=_duration(policy.initial_delay),
        max_delay=_duration(policy.max_delay),
        multiplier=policy.multiplier,
        jitter=policy.jitter,
    )


def _schema(schema: Schema | None) -> Any:
    if schema is None or isinstance(schema, bool):
        return schema
    if isinstance(schema, Mapping):
        return dict(schema)
    return msgspec.json.schema(schema)
