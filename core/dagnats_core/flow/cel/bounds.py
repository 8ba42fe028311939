"""What keeps an evaluation small: its failure, its budget, and the bounds of its result. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dagnats_core import limits
from dagnats_core.errors import DagNatsError
from dagnats_core.flow.model import Json

CHARS_PER_UNIT = 32
"""Characters of text that an operator reads or copies for one unit of the budget."""
FAILURE_COST = 10
"""An operand that fails, and is then absorbed, costs as much as ten nodes."""
_TEXT_CHARS_MAX = 300


class ExpressionFailed(DagNatsError):
    """An expression has no value for these inputs; the message is short and fit to be shown to the author."""

    code = "invalid"

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= _TEXT_CHARS_MAX else message[: _TEXT_CHARS_MAX - 1] + "…")


class OverBudget(ExpressionFailed):
    """The evaluation was stopped; no operator may absorb this."""

    def __init__(self) -> None:
        super().__init__(f"the expression does too much work: more than {limits.EXPRESSION_COST_MAX} units")


class Budget:
    """Work that evaluations may still do, in units of about a node of the syntax tree (0.1 to 0.3 µs)."""

    __slots__ = ("left",)

    def __init__(self, units: int = limits.EXPRESSION_COST_MAX) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise OverBudget


def check_result(budget: Budget, value: Json, depth: int = limits.JSON_DEPTH_MAX) -> int:
    """The size of `value` as JSON, in bytes, at least. Raises ExpressionFailed if it is not JSON or beyond a bound.

    A value made of few parts can be huge when written out, because its parts may be the same list many times over.
    """
    kind = type(value)
    if kind is str:
        budget.spend(len(value) // CHARS_PER_UNIT)
        return len(value) + 2
    if kind is list or kind is dict:
        if depth == 0:
            raise ExpressionFailed(f"the value is nested deeper than {limits.JSON_DEPTH_MAX} levels")
        budget.spend(len(value))
        parts: Iterable[Json] = value if kind is list else [*value, *value.values()]
        total = 2
        for part in parts:
            total += 1 + check_result(budget, part, depth - 1)
            if total > limits.EXPRESSION_VALUE_BYTES_MAX:
                raise ExpressionFailed(f"the value is larger than {limits.EXPRESSION_VALUE_BYTES_MAX} bytes")
        return total
    if kind is float and not math.isfinite(value):
        raise ExpressionFailed(f"{value} is not a JSON number")
    return 1
