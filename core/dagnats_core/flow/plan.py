"""A definition made ready to run: order, expressions, policies, schemas, compiled once for a version. Pure."""

from __future__ import annotations

from typing import NamedTuple

from dagnats_core.flow import graph
from dagnats_core.flow.backoff import Backoff, effective
from dagnats_core.flow.durations import parse_duration
from dagnats_core.flow.expressions import Expression, compile_expression
from dagnats_core.flow.model import Definition, SkipIf, Step
from dagnats_core.flow.schema import Schema
from dagnats_core.flow.template import Template, compile_template


class StepPlan(NamedTuple):
    """One step. Durations are ms, 0 = none. `retry` None = one attempt.

    `input_reads` and `condition_reads`: the steps whose outputs `build_input` and `should_skip` need, sorted for mapped
    inputs and conditions; `…_reads_input`: whether they need the run's input. `mapped`: it has an `input:`;
    `conditional`: it has a `when` or `skip_if`.
    """

    id: str
    task: str
    worker_group: str
    depends_on: tuple[str, ...]
    dependents: tuple[str, ...]
    template: Template | None
    input_reads: tuple[str, ...]
    input_reads_input: bool
    when: Expression | None
    skip_if: SkipIf | None
    condition_reads: tuple[str, ...]
    condition_reads_input: bool
    retry: Backoff | None
    timeout_ms: int
    queue_timeout_ms: int
    metadata: dict[str, str]

    @property
    def mapped(self) -> bool:
        return self.template is not None

    @property
    def conditional(self) -> bool:
        return self.when is not None or self.skip_if is not None


class Plan(NamedTuple):
    """A workflow. `steps` stand in topological order; `roots` depend on nothing, on `terminal` nothing depends: their
    outputs are the run's output."""

    name: str
    steps: dict[str, StepPlan]
    roots: tuple[str, ...]
    terminal: tuple[str, ...]
    timeout_ms: int
    input_schema: Schema | None
    output_schema: Schema | None


def compile_plan(definition: Definition) -> Plan:
    """The plan of a definition that `validate` has passed; Invalid is raised for one that it would refuse."""
    by_id = {step.id: step for step in definition.steps}
    dependencies = {step.id: step.depends_on for step in definition.steps}
    dependents = graph.dependents_of(dependencies)
    steps = {
        step: _step(by_id[step], tuple(dependents[step]), definition) for step in graph.topological_order(dependencies)
    }
    return Plan(
        definition.name,
        steps,
        roots=tuple(step.id for step in definition.steps if not step.depends_on),
        terminal=tuple(step.id for step in definition.steps if not dependents[step.id]),
        timeout_ms=_ms(definition.timeout),
        input_schema=None if definition.input_schema is None else Schema(definition.input_schema),
        output_schema=None if definition.output_schema is None else Schema(definition.output_schema),
    )


def _step(step: Step, dependents: tuple[str, ...], definition: Definition) -> StepPlan:
    template = None if step.input is None else compile_template(step.input)
    when = None if step.when is None else compile_expression(step.when)
    condition_reads = set(when.references.steps) if when else set()
    if step.skip_if is not None:
        condition_reads.add(step.skip_if.step_id)
    return StepPlan(
        id=step.id,
        task=step.task,
        worker_group=step.worker_group or "",
        depends_on=step.depends_on,
        dependents=dependents,
        template=template,
        input_reads=tuple(sorted(template.references.steps)) if template else step.depends_on,
        input_reads_input=template.references.input if template else not step.depends_on,
        when=when,
        skip_if=step.skip_if,
        condition_reads=tuple(sorted(condition_reads)),
        condition_reads_input=when is not None and when.references.input,
        retry=effective(step, definition.default_retry),
        timeout_ms=_ms(step.timeout),
        queue_timeout_ms=_ms(step.queue_timeout),
        metadata=step.metadata,
    )


def _ms(duration: str | None) -> int:
    return parse_duration(duration) if duration else 0
