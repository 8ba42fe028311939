"""From the syntax tree of an expression to a function that evaluates it, within a budget. Pure.

Each node becomes a closure over a frame: a list that holds the budget, the run input, the outputs by step id, then the
variables of macros. The closures recurse as deep as the tree, which the CEL compiler bounds; loops spend what their
body costs at each turn; operators spend by the size of their operands. So time and memory are bounded whatever the
inputs are. What a tree may refer to is checked here, because it is here that names get their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dagnats_core.flow.cel import values
from dagnats_core.flow.cel.bounds import FAILURE_COST, Budget, ExpressionFailed, OverBudget
from dagnats_core.flow.cel.pattern import Pattern
from dagnats_core.flow.cel.tree import (
    Call,
    Const,
    Fold,
    Ident,
    ListOf,
    MapOf,
    Node,
    Select,
    Unsupported,
    children,
    is_plain,
    step_output,
    text_of,
)
from dagnats_core.flow.model import Json

Frame = list[Any]
Run = Callable[[Frame], Json]

BUDGET, INPUT, STEPS, LOCALS = 0, 1, 2, 3
ROOTS = ("input", "steps")


class Program(NamedTuple):
    """`run` takes a frame of `slots`. `plain`: the value is a part of what was read, or a constant."""

    run: Run
    slots: int
    cost: int
    plain: bool
    reads_input: bool
    reads_steps: frozenset[str]


def build(tree: Node) -> Program:
    """Raises Unsupported for what JSON has no meaning for, ExpressionFailed for a pattern that is none."""
    builder = _Builder()
    run = builder.build(tree)
    reads_steps = frozenset(builder.reads_steps)
    return Program(run, builder.slots, _cost(tree), is_plain(tree), builder.reads_input, reads_steps)


def _cost(node: Node) -> int:
    """Units to evaluate a node once. The body of a loop is not part of it: the loop spends that itself."""
    below = (node.items, node.start, node.result) if isinstance(node, Fold) else children(node)
    return 1 + sum(_cost(child) for child in below)


class _Failure:
    """The value of an accumulator whose last turn failed: reading it fails again, as CEL has it."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message


class _Builder:
    def __init__(self) -> None:
        self.slots = LOCALS
        self.reads_input = False
        self.reads_steps: set[str] = set()
        self._scope: dict[str, int] = {}

    def build(self, node: Node) -> Run:
        step = step_output(node)
        if step is not None:
            return self._step_output(step)
        match node:
            case Const(value):
                return lambda frame: value
            case Ident(name):
                return self._ident(name)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListOf(items):
                return self._list(items)
            case MapOf(entries):
                return self._map(entries)
            case Fold():
                return self._fold(node)

    # -- names

    def _step_output(self, step: str) -> Run:
        self.reads_steps.add(step)
        return lambda frame: frame[STEPS][step]

    def _ident(self, name: str) -> Run:
        slot = self._scope.get(name)
        if slot is not None:
            return _accumulator(slot) if name.startswith("@") else lambda frame: frame[slot]
        if name == "input":
            self.reads_input = True
            return lambda frame: frame[INPUT]
        if name == "steps":
            raise Unsupported('of `steps`, only `steps.<id>.output` and `steps["<id>"].output` can be read')
        raise Unsupported(f"{name!r} is not defined; there are `input` and `steps.<id>.output`")

    # -- access

    def _select(self, node: Select) -> Run:
        operand, field, text = self.build(node.operand), node.field, text_of(node.operand)

        def failed(value: Json) -> ExpressionFailed:
            if type(value) is dict:
                return ExpressionFailed(f"{text} has no key {field!r}")
            return ExpressionFailed(f"{text} is of type {values.type_name(value)}: it has no key {field!r}")

        def has(frame: Frame) -> bool:
            value = operand(frame)
            if type(value) is not dict:
                raise failed(value)
            return field in value

        def select(frame: Frame) -> Json:
            value = operand(frame)
            try:
                return value[field]
            except (KeyError, TypeError):
                raise failed(value) from None

        return has if node.test else select

    # -- operators and functions

    def _call(self, node: Call) -> Run:
        name, args = node.function, node.args
        if name == "matches":
            return self._matches(args)
        runs = [self.build(arg) for arg in args]
        if name == "_&&_" and len(runs) == 2:
            return _logical("&&", False, *runs)
        if name == "_||_" and len(runs) == 2:
            return _logical("||", True, *runs)
        if name == "_?_:_" and len(runs) == 3:
            return _conditional(*runs)
        if name == "@not_strictly_false":
            return _not_strictly_false(*runs)
        function = values.FUNCTIONS.get(name)
        if function is None:
            raise Unsupported(f"the function {name}() is not available: expressions compute on JSON values")
        if len(runs) == 1:
            (only,) = runs
            return lambda frame: function(frame[BUDGET], only(frame))
        first, second = runs
        return lambda frame: function(frame[BUDGET], first(frame), second(frame))

    def _matches(self, args: tuple[Node, ...]) -> Run:
        text, pattern = args
        if not isinstance(pattern, Const) or not isinstance(pattern.value, str):
            raise Unsupported("the pattern of matches() must be a literal text")
        matcher, run = Pattern(pattern.value), self.build(text)
        return lambda frame: matcher.found_in(frame[BUDGET], run(frame))

    # -- lists, maps, loops

    def _list(self, items: tuple[Node, ...]) -> Run:
        runs = [self.build(item) for item in items]
        return lambda frame: [run(frame) for run in runs]

    def _map(self, entries: tuple[tuple[Node, Node], ...]) -> Run:
        runs = [(self.build(key), self.build(value)) for key, value in entries]

        def run(frame: Frame) -> dict[str, Json]:
            result: dict[str, Json] = {}
            for key_run, value_run in runs:
                key = key_run(frame)
                if type(key) is not str:
                    raise ExpressionFailed(f"a key of a JSON object is a string, not of type {values.type_name(key)}")
                if key in result:
                    raise ExpressionFailed(f"the key {key!r:.80} is there twice")
                result[key] = value_run(frame)
            return result

        return run

    def _fold(self, node: Fold) -> Run:
        if node.variable in ROOTS:
            raise Unsupported(f"the variable of a macro cannot be called {node.variable!r}")
        items, start = self.build(node.items), self.build(node.start)
        outer, variable, accumulator = self._scope, self.slots, self.slots + 1
        self.slots += 2
        self._scope = {**outer, node.accumulator: accumulator}
        condition, result = self.build(node.condition), self.build(node.result)
        self._scope[node.variable] = variable
        step = self._append(node, accumulator) or self.build(node.step)
        self._scope = outer
        always = node.condition == Const(True)
        cost = _cost(node.step) + _cost(node.condition)

        def run(frame: Frame) -> Json:
            elements = items(frame)
            if type(elements) not in (list, dict):
                raise values.not_for("a macro", elements)
            budget: Budget = frame[BUDGET]
            frame[accumulator] = start(frame)
            for element in elements:
                if not always and not condition(frame):
                    break
                budget.spend(cost)
                frame[variable] = element
                try:
                    frame[accumulator] = step(frame)
                except OverBudget:
                    raise
                except ExpressionFailed as failure:
                    budget.spend(FAILURE_COST)
                    frame[accumulator] = _Failure(failure.message)
                    if always:
                        break
            return result(frame)

        return run

    def _append(self, node: Fold, accumulator: int) -> Run | None:
        """The body of `map` and `filter`, `@result + [x]` under a condition or not, made to append in place: as CEL has
        it, each turn would copy the list. None for any other body."""
        if node.start != ListOf(()):
            return None
        step, test = node.step, None
        if isinstance(step, Call) and step.function == "_?_:_" and step.args[2] == Ident(node.accumulator):
            test, step, _ = step.args
        match step:
            case Call("_+_", (Ident(node.accumulator), ListOf((element,)))):
                value = self.build(element)
            case _:
                return None

        def append(frame: Frame) -> Json:
            frame[accumulator].append(value(frame))
            return frame[accumulator]

        if test is None:
            return append
        return _conditional(self.build(test), append, lambda frame: frame[accumulator])


def _accumulator(slot: int) -> Run:
    def run(frame: Frame) -> Json:
        value = frame[slot]
        if type(value) is _Failure:
            raise ExpressionFailed(value.message)
        return value

    return run


def _logical(symbol: str, decisive: bool, left: Run, right: Run) -> Run:
    """`||` and `&&`: the decisive operand (true; false) decides even if the other one fails, on either side."""

    def operand(run: Run, frame: Frame) -> bool:
        value = run(frame)
        if value is True or value is False:
            return bool(value)
        raise values.not_for(symbol, value)

    def run(frame: Frame) -> bool:
        try:
            if operand(left, frame) is decisive:
                return decisive
        except OverBudget:
            raise
        except ExpressionFailed:
            frame[BUDGET].spend(FAILURE_COST)
            if operand(right, frame) is decisive:
                return decisive
            raise
        return operand(right, frame)

    return run


def _conditional(test: Run, then: Run, otherwise: Run) -> Run:
    def run(frame: Frame) -> Json:
        value = test(frame)
        if value is True:
            return then(frame)
        if value is False:
            return otherwise(frame)
        raise values.not_for("?:", value)

    return run


def _not_strictly_false(run: Run) -> Run:
    def not_strictly_false(frame: Frame) -> bool:
        try:
            return run(frame) is not False
        except OverBudget:
            raise
        except ExpressionFailed:
            return True

    return not_strictly_false
