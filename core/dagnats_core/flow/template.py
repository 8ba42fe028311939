"""A step's `input:` as written: JSON in which every text is an expression; compiled, and filled with values. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dagnats_core import limits
from dagnats_core.flow.cel.bounds import check_result
from dagnats_core.flow.expressions import Budget, Expression, ExpressionFailed, References, compile_expression
from dagnats_core.flow.model import Json


class Leaf(NamedTuple):
    path: str
    expression: Expression


class Template(NamedTuple):
    """`root` is the JSON with a Leaf for each text."""

    root: Json
    leaves: tuple[Leaf, ...]
    references: References

    def fill(self, values: Mapping[str, Json], size: int, budget: Budget) -> Json:
        """The JSON for `values` (as for Expression.evaluate), of `size` bytes. Raises ExpressionFailed."""
        filled = _fill(self.root, values, budget)
        plain = all(leaf.expression.plain for leaf in self.leaves)
        if not plain or len(self.leaves) * size > limits.EXPRESSION_VALUE_BYTES_MAX:
            check_result(budget, filled)
        return filled


def texts(value: Json, path: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every text value in JSON; `path` is that of the whole. Keys are not values."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, part in value.items():
                yield from texts(part, f"{path}.{key}")
        case list():
            for i, part in enumerate(value):
                yield from texts(part, f"{path}[{i}]")


def compile_template(value: Json) -> Template:
    """Compile the `input:` of a step. Raises Invalid if one of its expressions is not valid."""
    leaves = {path: Leaf(path, compile_expression(text)) for path, text in texts(value, "input")}
    references = References(
        any(leaf.expression.references.input for leaf in leaves.values()),
        frozenset().union(*(leaf.expression.references.steps for leaf in leaves.values())),
    )
    return Template(_with_leaves(value, "input", leaves), tuple(leaves.values()), references)


def _with_leaves(value: Json, path: str, leaves: Mapping[str, Leaf]) -> Json:
    match value:
        case str():
            return leaves[path]
        case dict():
            return {key: _with_leaves(part, f"{path}.{key}", leaves) for key, part in value.items()}
        case list():
            return [_with_leaves(part, f"{path}[{i}]", leaves) for i, part in enumerate(value)]
        case _:
            return value


def _fill(node: Json, values: Mapping[str, Json], budget: Budget) -> Json:
    kind = type(node)
    if kind is Leaf:
        try:
            return node.expression.run(values, budget)
        except ExpressionFailed as failure:
            raise ExpressionFailed(f"{node.path}: {failure.message}") from None
    if kind is dict:
        return {key: _fill(part, values, budget) for key, part in node.items()}
    if kind is list:
        return [_fill(part, values, budget) for part in node]
    return node
