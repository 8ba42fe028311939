"""Expressions: CEL over the run input and the outputs of earlier steps (docs/adr/0003-expressions-in-cel.md). Pure.

Google's CEL compiler parses and type-checks the text when a definition is registered; the checked tree is evaluated
by `flow.cel`, within a budget. `input` is the run's input, `steps.<id>.output` the output of a step that has ended
(null if it was skipped); an id with a dash is written `steps["count-0"].output`. Everything is JSON: there are no
bytes, unsigned numbers, timestamps, durations and messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from cel_expr_python import cel

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem
from dagnats_core.flow.cel.bounds import Budget, ExpressionFailed, check_result
from dagnats_core.flow.cel.program import BUDGET, INPUT, STEPS, Program, build
from dagnats_core.flow.cel.tree import Unsupported, read_tree
from dagnats_core.flow.model import Json

__all__ = ["Budget", "Expression", "ExpressionFailed", "References", "compile_expression"]

_DYN, _TEXT = cel.Type.DYN, cel.Type.STRING
_ENVIRONMENT = cel.NewEnv(
    variables={"input": _DYN, "steps": cel.Type.Map(_TEXT, cel.Type.Map(_TEXT, _DYN))},
)
_COMPILED_MAX = 4096
_COMPILER_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_BARE_STEP_ID = re.compile(r"\bsteps\s*\.\s*(\d[\w-]*|\w+(?:-\w+)+)", re.ASCII)


class References(NamedTuple):
    """What an expression reads."""

    input: bool
    steps: frozenset[str]


class Expression:
    """A compiled expression; immutable. `result_type` is CEL's static type in lower case, "dyn" where it is open.

    `plain`: it only picks a part of what it reads, or is a literal, so its value is JSON and no larger than that.
    """

    __slots__ = ("_program", "plain", "references", "result_type", "text")

    def __init__(self, text: str, program: Program, result_type: str) -> None:
        self.text = text
        self.references = References(program.reads_input, program.reads_steps)
        self.result_type = result_type
        self.plain = program.plain
        self._program = program

    def evaluate(self, values: Mapping[str, Json], budget: Budget | None = None) -> Json:
        """The value for `values`: {"input": …, "steps": {id: output}}, decoded JSON, which is not changed.

        Only what `references` names need be there. The value is JSON and within the bounds, and may share parts with
        the inputs. Raises ExpressionFailed. Several evaluations may share one budget.
        """
        budget = budget or Budget()
        value = self.run(values, budget)
        if not self.plain:
            check_result(budget, value)
        return value

    def run(self, values: Mapping[str, Json], budget: Budget) -> Json:
        """`evaluate`, for a caller that itself checks the whole that the value becomes a part of."""
        program = self._program
        frame: list[object] = [None] * program.slots
        frame[BUDGET], frame[INPUT], frame[STEPS] = budget, values.get("input"), values.get("steps")
        try:
            budget.spend(program.cost)
            return program.run(frame)
        except RecursionError:
            raise ExpressionFailed("a value is nested too deeply to be compared") from None

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


@lru_cache(maxsize=_COMPILED_MAX)
def compile_expression(text: str) -> Expression:
    """Parse, check and prepare an expression. Raises Invalid, whose problems say what is wrong, and where."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _invalid(["the text is not valid Unicode"]) from None
    if size > limits.EXPRESSION_BYTES_MAX:
        raise _invalid([f"{size} bytes long; an expression is at most {limits.EXPRESSION_BYTES_MAX}"])
    try:
        compiled = _ENVIRONMENT.compile(text)
    except RuntimeError as error:
        raise _invalid(_compiler_messages(text, str(error))) from None
    try:
        program = build(read_tree(compiled.serialize()))
    except Unsupported as unsupported:
        raise _invalid([str(unsupported)]) from None
    except ExpressionFailed as failure:
        raise _invalid([failure.message]) from None
    return Expression(text, program, compiled.return_type().name().lower())


def _compiler_messages(text: str, error: str) -> list[str]:
    bare = _BARE_STEP_ID.search(text)
    if bare:
        step = bare.group(1)
        return [f'`steps.{step}` is read as an arithmetic expression; write steps["{step}"].output']
    messages: dict[str, None] = {}
    for line, column, message in _COMPILER_ERROR.findall(error):
        message = message.removesuffix(" (in container '')")
        messages[f"{line}:{column}: {message}" if int(line) > 0 else message] = None
    if not messages:
        messages[error.removesuffix("]").rpartition(" [")[0] or error] = None
    return list(messages)


def _invalid(messages: list[str]) -> Invalid:
    cut = [message if len(message) <= 300 else message[:299] + "…" for message in messages[: limits.PROBLEMS_MAX]]
    return Invalid(f"not a valid expression: {cut[0]}", [Problem("", "expression", message) for message in cut])
