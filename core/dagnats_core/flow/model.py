"""A workflow's definition as it is stored: the shape alone. Pure data; what may stand in it is for `validate` to say.

Field names are those that users write in YAML, JSON or Python. Durations are text in their one short form ("1h30m").
A `Definition` is made by `validate` from what a user wrote, or by `canonical.load` from what was stored.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = Any
"""Plain JSON data: None, bool, int, float, str, list, dict with str keys."""
Strategy = Literal["fixed", "linear", "exponential"]
Comparison = Literal["==", "!=", "<", "<=", ">", ">="]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed attempt is followed by another. `max_attempts` counts executions: 3 = the first and two more.

    `jitter` (0 to 1) is the part of each delay that is drawn by lot: 0.2 = between 80 % and 100 % of the delay.
    """

    max_attempts: int
    strategy: Strategy = "fixed"
    initial_delay: str = "1s"
    max_delay: str | None = None
    multiplier: float = 2.0
    jitter: float = 0.0


class SkipIf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Skip the step if `field` (dotted path) of the output of `step_id` compares so with `value`."""

    step_id: str
    field: str
    op: Comparison
    value: str | int | float | bool | None


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step. `input`: an object whose text values are CEL, or one expression; None = the outputs of `depends_on`."""

    id: str
    task: str
    type: Literal["normal"] = "normal"
    depends_on: tuple[str, ...] = ()
    input: Json = None
    when: str | None = None
    skip_if: SkipIf | None = None
    timeout: str | None = None
    queue_timeout: str | None = None
    retry: RetryPolicy | None = None
    retries: int | None = None
    metadata: dict[str, str] = {}
    worker_group: str | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workflow. `version` is the author's own text; what the system counts is the version that a hash gets."""

    name: str
    steps: tuple[Step, ...]
    version: str = ""
    timeout: str | None = None
    default_retry: RetryPolicy | None = None
    input_schema: dict[str, Json] | bool | None = None
    output_schema: dict[str, Json] | bool | None = None


class Warning(msgspec.Struct, frozen=True):
    """Something that is allowed, and probably not meant."""

    code: str
    path: str
    message: str
