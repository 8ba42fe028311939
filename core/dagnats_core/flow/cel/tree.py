"""The syntax tree of a CEL expression: read from the CheckedExpr message that the CEL compiler gives. Pure.

CheckedExpr is CEL's public interchange format (cel-spec, proto/cel/expr/checked.proto and syntax.proto). Only what an
expression over JSON can hold is read; anything else is `Unsupported`.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple


class Unsupported(Exception):
    """The expression uses a part of CEL that has no meaning over JSON values."""


class Const(NamedTuple):
    value: bool | int | float | str | None


class Ident(NamedTuple):
    name: str


class Select(NamedTuple):
    """`operand.field`; with `test` it is `has(operand.field)`."""

    operand: Node
    field: str
    test: bool


class Call(NamedTuple):
    """A function or operator; the receiver of `a.f(b)` is the first argument."""

    function: str
    args: tuple[Node, ...]


class ListOf(NamedTuple):
    items: tuple[Node, ...]


class MapOf(NamedTuple):
    entries: tuple[tuple[Node, Node], ...]


class Fold(NamedTuple):
    """What a macro (`all`, `exists`, `exists_one`, `map`, `filter`) becomes: `accumulator` begins as `start`; for each
    `variable` of `items`, while `condition` holds, it becomes `step`; then the value is `result`."""

    variable: str
    items: Node
    accumulator: str
    start: Node
    condition: Node
    step: Node
    result: Node


Node = Const | Ident | Select | Call | ListOf | MapOf | Fold


def read_tree(serialized: bytes) -> Node:
    """The tree in a serialized CheckedExpr (packed in google.protobuf.Any). Raises Unsupported."""
    packed = _message(serialized)
    checked = _message(packed[2][-1])
    return _node(checked[4][-1])


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below one."""
    match node:
        case Select():
            return (node.operand,)
        case Call():
            return node.args
        case ListOf():
            return node.items
        case MapOf():
            return tuple(part for entry in node.entries for part in entry)
        case Fold():
            return (node.items, node.start, node.condition, node.step, node.result)
        case _:
            return ()


def is_plain(node: Node) -> bool:
    """Whether it only picks a part: `input.a[0]`, `steps.b.output.c`, a literal."""
    match node:
        case Const() | Ident():
            return True
        case Select(operand, _, False):
            return is_plain(operand)
        case Call("_[_]", args):
            return all(is_plain(arg) for arg in args)
        case _:
            return False


def step_output(node: Node) -> str | None:
    """The step of `steps.<id>.output` or `steps["<id>"].output`; None for any other node."""
    match node:
        case Select(Select(Ident("steps"), step, False), "output", False):
            return step
        case Select(Call("_[_]", (Ident("steps"), Const(str(step)))), "output", False):
            return step
        case _:
            return None


def text_of(node: Node) -> str:
    """How to name a node to the author: as it was written if it is a path, else "the value"."""
    match node:
        case Ident(name):
            return name
        case Select(operand, field, False):
            return f"{text_of(operand)}.{field}"
        case Call("_[_]", (operand, Const(key))):
            return f"{text_of(operand)}[{key!r}]"
        case _:
            return "the value"


# ---- reading

Fields = dict[int, list[Any]]
"""A protobuf message: by field number its values, an int for a varint, else bytes."""


def _node(data: bytes) -> Node:
    expr = _message(data)
    if 3 in expr:
        return Const(_const(_message(expr[3][-1])))
    if 4 in expr:
        return Ident(_text(_message(expr[4][-1]), 1))
    if 5 in expr:
        select = _message(expr[5][-1])
        return Select(_node(select[1][-1]), _text(select, 2), bool(select.get(3, [0])[-1]))
    if 6 in expr:
        call = _message(expr[6][-1])
        return Call(_text(call, 2), tuple(_node(arg) for arg in (*call.get(1, ()), *call.get(3, ()))))
    if 7 in expr:
        return ListOf(tuple(_node(item) for item in _message(expr[7][-1]).get(1, ())))
    if 8 in expr:
        return _map(_message(expr[8][-1]))
    if 9 in expr:
        return _fold(_message(expr[9][-1]))
    raise Unsupported("an empty expression")


def _const(constant: Fields) -> bool | int | float | str | None:
    ((number, (value,)),) = constant.items()
    match number:
        case 1:
            return None
        case 2:
            return bool(value)
        case 3:
            return int(value - (1 << 64) if value >> 63 else value)
        case 5:
            return float(struct.unpack("<d", value)[0])
        case 6:
            return str(value.decode())
        case _:
            raise Unsupported("bytes and unsigned numbers are not JSON values")


def _map(created: Fields) -> MapOf:
    entries = [_message(entry) for entry in created.get(2, ())]
    if 1 in created or not all(3 in entry for entry in entries):
        raise Unsupported("a message is not a JSON value")
    return MapOf(tuple((_node(entry[3][-1]), _node(entry[4][-1])) for entry in entries))


def _fold(fold: Fields) -> Fold:
    if 8 in fold:
        raise Unsupported("macros of two variables")
    items, start, condition, step, result = (_node(fold[number][-1]) for number in (2, 4, 5, 6, 7))
    return Fold(_text(fold, 1), items, _text(fold, 3), start, condition, step, result)


def _text(message: Fields, number: int) -> str:
    return str(message[number][-1].decode()) if number in message else ""


def _message(data: bytes) -> Fields:
    """Take protobuf's wire format apart, one message deep."""
    fields: Fields = {}
    at, end = 0, len(data)
    value: int | bytes
    while at < end:
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                size, at = _varint(data, at)
                value, at = data[at : at + size], at + size
            case wire_type:
                raise Unsupported(f"wire type {wire_type}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
