"""Regular expressions of `matches`: RE2 by the CEL library, linear in time and bounded in what they cost. Pure."""

from __future__ import annotations

import re

from cel_expr_python import cel

from dagnats_core import limits
from dagnats_core.flow.cel.bounds import Budget, ExpressionFailed
from dagnats_core.flow.cel.values import not_for
from dagnats_core.flow.model import Json

_MATCHES = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING}).compile("text.matches(pattern)")
_PATTERN_PART = re.compile(r"\\[pP]|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)
_CALL_COST = 40
_PROPERTY_WEIGHT = 5_000
"""A Unicode property (`\\pL`) becomes a program of thousands of instructions."""


class Pattern:
    """A regular expression in RE2's syntax (no back references). Raises ExpressionFailed if it is not one."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._weight = _pattern_weight(pattern)
        if len(pattern.encode()) > limits.EXPRESSION_PATTERN_BYTES_MAX:
            raise ExpressionFailed(f"a pattern is at most {limits.EXPRESSION_PATTERN_BYTES_MAX} bytes long")
        if self._weight > limits.EXPRESSION_PATTERN_WEIGHT_MAX:
            raise ExpressionFailed("the pattern is too complex: its counted repetitions multiply")
        self.found_in(Budget(), "")

    def found_in(self, budget: Budget, text: Json) -> bool:
        """Whether the pattern matches any part of `text`."""
        if type(text) is not str:
            raise not_for("matches", text, self.pattern)
        # RE2 compiles on each call, and takes at most a few nanoseconds for each character and instruction.
        budget.spend(_CALL_COST + self._weight + len(text) * self._weight // 32)
        value = _MATCHES.eval(data={"text": text, "pattern": self.pattern})
        if value.type() == cel.Type.ERROR:
            raise ExpressionFailed(f"not a regular expression of RE2: {self.pattern!r:.80}")
        return bool(value.plain_value())


def _pattern_weight(pattern: str) -> int:
    """About how many instructions the pattern becomes: its length, counted repetitions multiplied out."""
    groups: list[int] = []
    total = last = 0
    for match in _PATTERN_PART.finditer(pattern):
        part = match.group()
        if match.group(1) is not None:
            times = max(int(match.group(1)), int(match.group(2) or 0), 1)
            total += last * (times - 1)
            last *= times
        elif part == "(":
            groups.append(total)
            total = last = 0
        elif part == ")" and groups:
            last = total + 1
            total = groups.pop() + last
        elif part in ("\\p", "\\P"):
            last = _PROPERTY_WEIGHT
            total += last
        elif part.startswith("["):
            last = (len(part) + 10) + _PROPERTY_WEIGHT * part.count("\\p") + _PROPERTY_WEIGHT * part.count("\\P")
            total += last
        else:
            last = 5
            total += last
    return total + sum(groups)
