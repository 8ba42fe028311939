"""Whether plain JSON data is a workflow's definition: every problem at once, each with its path. Pure.

First the shape is read, field by field, from one table a kind; then what only the whole shows is checked on whatever
could be read: names, dependencies, cycles, expressions and what they refer to, schemas. A definition comes out only if
there is no problem at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dagnats_core import ids, limits
from dagnats_core.errors import Invalid, Problem
from dagnats_core.flow import graph
from dagnats_core.flow.canonical import canonical
from dagnats_core.flow.durations import parse_duration
from dagnats_core.flow.expressions import Expression, compile_expression
from dagnats_core.flow.model import Definition, Json, RetryPolicy, SkipIf, Step, Warning
from dagnats_core.flow.schema import schema_problems
from dagnats_core.flow.shapes import (
    BAD,
    Report,
    below,
    choice,
    duration,
    fields,
    list_of,
    number,
    pattern,
    scalar,
    shown,
    text,
    texts_by_key,
    whole,
)
from dagnats_core.flow.template import texts

_name = pattern("name", ids.is_name, f"a name: it must match {ids.NAME_PATTERN}")
_task = pattern(
    "name", ids.is_task, "a task's name: at most 64 letters, digits, _ and -, in parts joined by single dots"
)
_expression = text(chars_max=limits.EXPRESSION_BYTES_MAX)
_timeout = duration(least_ms=1, most_ms=limits.DURATION_MS_MAX)
_delay = duration(least_ms=0, most_ms=limits.RETRY_DELAY_MS_MAX)


def _anything(report: Report, path: str, value: Json) -> Any:
    return value


_RETRY = fields(
    {
        "max_attempts": whole(1, limits.ATTEMPTS_MAX),
        "strategy": choice(("fixed", "linear", "exponential")),
        "initial_delay": _delay,
        "max_delay": _delay,
        "multiplier": number(1, limits.RETRY_MULTIPLIER_MAX),
        "jitter": number(0, 1),
    },
    required=("max_attempts",),
)
_SKIP_IF = fields(
    {
        "step_id": _name,
        "field": text(chars_max=limits.FIELD_PATH_CHARS_MAX),
        "op": choice(("==", "!=", "<", "<=", ">", ">=")),
        "value": scalar,
    },
    required=("step_id", "field", "op", "value"),
    nullable=("value",),
)
_STEP = fields(
    {
        "id": _name,
        "task": _task,
        "type": choice(("normal",)),
        "depends_on": list_of(_name, most=limits.DEPENDENCIES_MAX),
        "input": _anything,
        "when": _expression,
        "skip_if": _SKIP_IF,
        "timeout": _timeout,
        "queue_timeout": _timeout,
        "retry": _RETRY,
        "retries": whole(0, limits.ATTEMPTS_MAX - 1),
        "metadata": texts_by_key(entries_max=limits.METADATA_ENTRIES_MAX, bytes_max=limits.METADATA_BYTES_MAX),
        "worker_group": _name,
    },
    required=("id", "task"),
)
_DEFINITION = fields(
    {
        "name": _name,
        "version": text(chars_max=limits.VERSION_TEXT_CHARS_MAX, empty=True),
        "steps": list_of(_STEP, least=1, most=limits.STEPS_MAX),
        "timeout": _timeout,
        "default_retry": _RETRY,
        "input_schema": _anything,
        "output_schema": _anything,
    },
    required=("name", "steps"),
)


def validate(data: Json) -> tuple[Definition | None, list[Problem], list[Warning]]:
    """The definition that `data` is, or None and everything that is wrong with it; and what is probably not meant."""
    report = Report()
    _check_json(report, data)
    if report:
        return None, report.problems, []
    whole_read = _DEFINITION(report, "", data)
    if whole_read is BAD:
        return None, report.problems, []
    for field in ("input_schema", "output_schema"):
        for problem in schema_problems(field, whole_read[field]) if field in whole_read else ():
            report.add(problem.path, problem.rule, problem.message)
    _check_retry(report, "default_retry", whole_read.get("default_retry", BAD))
    steps = whole_read["steps"] if whole_read["steps"] is not BAD else ()
    _check_steps(report, steps)
    if report:
        return None, report.problems, []
    definition = _definition(whole_read)
    size = len(canonical(definition))
    if size > limits.DEFINITION_BYTES_MAX:
        report.add("", "size", f"{size} bytes long; a definition is at most {limits.DEFINITION_BYTES_MAX}")
        return None, report.problems, []
    return definition, [], list(_warnings(definition))


def _check_json(report: Report, data: Json) -> None:
    """Refuse what is no JSON, or too deep for the readers, before anything else looks at it."""
    waiting: list[tuple[Json, str, int]] = [(data, "", 0)]
    while waiting:
        value, path, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth == limits.JSON_DEPTH_MAX:
                report.add(path, "depth", f"nested deeper than {limits.JSON_DEPTH_MAX} levels")
                return
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in parts:
                if isinstance(value, dict) and not (isinstance(key, str) and _is_unicode(key)):
                    report.add(path, "type", f"the key {key!r:.80} is not text")
                    continue
                waiting.append((part, below(path, key), depth + 1))
        elif isinstance(value, str):
            if not _is_unicode(value):
                report.add(path, "type", "is not valid Unicode text")
        elif isinstance(value, float):
            if value - value != 0:
                report.add(path, "type", f"{value} is not a JSON number")
        elif value is not None and not isinstance(value, int):
            report.add(path, "type", f"a {type(value).__name__} is not JSON")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- what only the whole shows


def _check_steps(report: Report, steps: tuple[Any, ...]) -> None:
    places: dict[str, int] = {}
    for i, step in enumerate(steps):
        step_id = step["id"] if step is not BAD else BAD
        if step_id in places:
            report.add(f"steps[{i}].id", "duplicate", f"{shown(step_id)} is also the id of steps[{places[step_id]}]")
        elif step_id is not BAD:
            places[step_id] = i
    dependencies = {step_id: _dependencies(report, steps[i], i, places) for step_id, i in places.items()}
    for cycle in graph.cycles(dependencies):
        path = " → ".join([*cycle, cycle[0]])
        report.add(f"steps[{places[cycle[0]]}].depends_on", "cycle", f"depends on itself: {path}")
    ancestors = graph.Ancestors(dependencies)
    expressions = {step_id: _expressions(steps[i], f"steps[{i}]") for step_id, i in places.items()}
    total = sum(map(len, expressions.values()))
    if total > limits.EXPRESSIONS_MAX:
        report.add("steps", "length", f"have {total} expressions; at most {limits.EXPRESSIONS_MAX}")
        return
    for step_id, i in places.items():
        # On or behind a cycle nothing can be said about which step comes first.
        known = ancestors if step_id in ancestors else None
        _check_step(report, steps[i], f"steps[{i}]", expressions[step_id], places, known)


def _expressions(step: Mapping[str, Any], path: str) -> dict[str, str]:
    """The expressions of a step by their paths."""
    when = {f"{path}.when": step["when"]} if step.get("when", BAD) is not BAD else {}
    return {**dict(texts(step.get("input"), f"{path}.input")), **when}


def _dependencies(report: Report, step: Mapping[str, Any], i: int, places: Mapping[str, int]) -> list[str]:
    """The dependencies of a step that exist; problems for the others."""
    known: list[str] = []
    depends_on = step.get("depends_on", ())
    for k, dependency in enumerate(() if depends_on is BAD else depends_on):
        path = f"steps[{i}].depends_on[{k}]"
        if dependency is BAD:
            continue
        if dependency not in places:
            report.add(path, "unknown_step", f"there is no step {shown(dependency)}")
        elif dependency in known:
            report.add(path, "duplicate", f"{shown(dependency)} is there twice")
        else:
            known.append(dependency)
    return known


def _check_step(
    report: Report,
    step: Mapping[str, Any],
    path: str,
    expressions: Mapping[str, str],
    places: Mapping[str, int],
    ancestors: graph.Ancestors | None,
) -> None:
    def check_references(where: str, referenced: set[str] | frozenset[str]) -> None:
        for unknown in sorted(name for name in referenced if name not in places):
            report.add(where, "unknown_step", f"there is no step {shown(unknown)}")
        known = sorted(name for name in referenced if name in places)
        for early in ancestors.missing(step["id"], known) if ancestors else ():
            message = f"{shown(early)} may not have ended yet: make it a dependency of {shown(step['id'])}"
            report.add(where, "not_an_ancestor", message)

    for where, source in expressions.items():
        expression = _compiled(report, where, source)
        if expression is None:
            continue
        check_references(where, expression.references.steps)
        if where == f"{path}.when" and expression.result_type not in ("bool", "dyn"):
            report.add(where, "type", f"gives {expression.result_type}, not true or false")
    skip_if = step.get("skip_if", BAD)
    if skip_if is not BAD and skip_if["step_id"] is not BAD:
        check_references(f"{path}.skip_if.step_id", {skip_if["step_id"]})
    if skip_if is not BAD and skip_if["value"] is None and skip_if["op"] not in ("==", "!=", BAD):
        report.add(f"{path}.skip_if.value", "type", "null can be compared by == and != only")
    if "retry" in step and "retries" in step:
        report.add(f"{path}.retries", "conflict", "says the same as retry; give one of them")
    _check_retry(report, f"{path}.retry", step.get("retry", BAD))


def _compiled(report: Report, path: str, source: str) -> Expression | None:
    try:
        return compile_expression(source)
    except Invalid as invalid:
        for problem in invalid.problems:
            report.add(path, problem.rule, problem.message)
        return None


def _check_retry(report: Report, path: str, retry: Any) -> None:
    if retry is BAD or BAD in (retry.get("initial_delay", BAD), retry.get("max_delay", BAD)):
        return
    if parse_duration(retry["initial_delay"]) > parse_duration(retry["max_delay"]):
        report.add(f"{path}.max_delay", "range", "is less than initial_delay")


# ---- from what was read to the definition


def _definition(read: dict[str, Any]) -> Definition:
    steps = tuple(_step(step) for step in read["steps"])
    return Definition(**{**_with_policy(read, "default_retry"), "steps": steps})


def _step(read: dict[str, Any]) -> Step:
    step = _with_policy(read, "retry")
    if "skip_if" in step:
        step["skip_if"] = SkipIf(**step["skip_if"])
    return Step(**step)


def _with_policy(read: dict[str, Any], field: Literal["retry", "default_retry"]) -> dict[str, Any]:
    return {**read, field: RetryPolicy(**read[field])} if field in read else dict(read)


def _warnings(definition: Definition) -> Iterator[Warning]:
    for i, step in enumerate(definition.steps):
        if step.retries is not None and definition.default_retry is not None:
            message = "has no effect: default_retry comes before it; write retry instead"
            yield Warning("retries_unused", f"steps[{i}].retries", message)
