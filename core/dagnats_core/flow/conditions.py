"""Whether a step is skipped: `when` and `skip_if`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.cel import values
from dagnats_core.flow.expressions import Budget, Expression, ExpressionFailed, References
from dagnats_core.flow.inputs import Decoded, read
from dagnats_core.flow.model import Json, SkipIf
from dagnats_core.flow.plan import StepPlan

_COMPARISONS = {
    "==": values.equal,
    "!=": values.unequal,
    "<": values.less,
    "<=": values.less_or_equal,
    ">": values.greater,
    ">=": values.greater_or_equal,
}


def should_skip(
    step: StepPlan, run_input: Raw, outputs: Mapping[str, Raw], decoded: Decoded | None = None
) -> str | None:
    """Why the step is skipped; None if it is not. `outputs` holds at least those of `step.condition_reads`.

    Raises ExpressionFailed: a condition that cannot be evaluated is an error, never a skip.
    """
    decoded = decoded or Decoded()
    if step.when is not None and not _holds(step.when, run_input, outputs, decoded):
        return f"when is false: {step.when.text}"
    if step.skip_if is not None and _compares(step.skip_if, outputs, decoded):
        test = step.skip_if
        return f"skip_if is true: steps.{test.step_id}.output.{test.field} {test.op} {test.value!r}"
    return None


def _holds(when: Expression, run_input: Raw, outputs: Mapping[str, Raw], decoded: Decoded) -> bool:
    try:
        known, _ = read(when.references, run_input, outputs, decoded)
        budget = Budget()
        try:
            value = when.evaluate(known, budget)
        finally:
            decoded.spent += limits.EXPRESSION_COST_MAX - budget.left
    except ExpressionFailed as failure:
        raise ExpressionFailed(f"when: {failure.message}") from None
    if value is True or value is False:
        return bool(value)
    raise ExpressionFailed(f"when must be true or false, not of type {values.type_name(value)}")


def _compares(test: SkipIf, outputs: Mapping[str, Raw], decoded: Decoded) -> bool:
    """A field that is missing, or of something that is no object, compares as null."""
    try:
        known, _ = read(References(False, frozenset({test.step_id})), Raw(b"null"), outputs, decoded)
        value: Json = known["steps"][test.step_id]
        for key in test.field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return bool(_COMPARISONS[test.op](Budget(), value, test.value))
    except ExpressionFailed as failure:
        raise ExpressionFailed(f"skip_if: {failure.message}") from None
