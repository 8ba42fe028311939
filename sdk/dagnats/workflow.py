"""`Workflow`: a definition written in Python. It builds the same document that YAML and JSON hold, and nothing more:
what is wrong with it is said by the one validator, all at once, when it is registered or `definition()` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from dagnats_core.errors import Invalid
from dagnats_core.flow.validate import validate

Duration = str | int | timedelta
"""`"1h30m"`, `"PT90S"`, an integer of nanoseconds, or a timedelta."""
Schema = Mapping[str, Any] | bool | type
"""A JSON Schema, or a msgspec Struct, dataclass or other type that msgspec knows, whose schema is taken."""


class RetryPolicy(NamedTuple):
    """When a failed attempt is followed by another. `max_attempts` counts executions: 3 = the first and two more.

    Delays: fixed = `initial_delay`; linear = that times the attempt; exponential = times `multiplier` for each attempt;
    never above `max_delay`. `jitter` (0 to 1) is the part of each delay that is drawn by lot.
    """

    max_attempts: int
    strategy: Literal["fixed", "linear", "exponential"] = "fixed"
    initial_delay: Duration = "1s"
    max_delay: Duration | None = None
    multiplier: float = 2.0
    jitter: float = 0.0


class StepRef(NamedTuple):
    """A step of a workflow, to be named in `after=`."""

    id: str


class Workflow:
    """A workflow in the making. Steps are added in any order that names dependencies before their dependents."""

    def __init__(
        self,
        name: str,
        *,
        version: str = "",
        timeout: Duration | None = None,
        default_retry: RetryPolicy | Mapping[str, Any] | None = None,
        input_schema: Schema | None = None,
        output_schema: Schema | None = None,
    ) -> None:
        self.name = name
        self._fields = _given(
            version=version or None,
            timeout=_duration(timeout),
            default_retry=_policy(default_retry),
            input_schema=_schema(input_schema),
            output_schema=_schema(output_schema),
        )
        self._steps: list[dict[str, Any]] = []

    def step(
        self,
        id: str,
        *,
        task: str,
        after: Sequence[StepRef | str] = (),
        input: Any = None,
        when: str | None = None,
        skip_if: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        queue_timeout: Duration | None = None,
        retry: RetryPolicy | Mapping[str, Any] | None = None,
        retries: int | None = None,
        metadata: Mapping[str, str] | None = None,
        worker_group: str | None = None,
    ) -> StepRef:
        """Add a step that runs `task` after the steps in `after`.

        `input` and `when` hold CEL expressions over `input` and `steps.<id>.output` (docs/definitions.md). Raises
        ValueError if a step of that id was added before.
        """
        if any(step["id"] == id for step in self._steps):
            raise ValueError(f"workflow {self.name!r} has a step {id!r} already")
        self._steps.append(
            {"id": id, "task": task}
            | _given(
                depends_on=[step.id if isinstance(step, StepRef) else step for step in after] or None,
                input=input,
                when=when,
                skip_if=dict(skip_if) if skip_if is not None else None,
                timeout=_duration(timeout),
                queue_timeout=_duration(queue_timeout),
                retry=_policy(retry),
                retries=retries,
                metadata=dict(metadata) if metadata is not None else None,
                worker_group=worker_group,
            )
        )
        return StepRef(id)

    def definition(self) -> dict[str, Any]:
        """The definition as a JSON document. Raises Invalid with every problem and its path."""
        document = {"name": self.name, **self._fields, "steps": [dict(step) for step in self._steps]}
        _, problems, _ = validate(document)
        if problems:
            raise Invalid(f"workflow {self.name!r} is not valid", problems)
        return document


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _duration(value: Duration | None) -> str | int | None:
    return f"{value / timedelta(milliseconds=1):.0f}ms" if isinstance(value, timedelta) else value


def _policy(policy: RetryPolicy | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(policy, RetryPolicy):
        return dict(policy) if policy is not None else None
    fields = _given(**policy._asdict())
    return fields | {key: _duration(fields[key]) for key in ("initial_delay", "max_delay") if key in fields}


def _schema(schema: Schema | None) -> Any:
    if schema is None or isinstance(schema, bool):
        return schema
    return dict(schema) if isinstance(schema, Mapping) else msgspec.json.schema(schema)
