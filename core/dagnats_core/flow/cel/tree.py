"""The syntax tree of a CEL expression: read from the CheckedExpr message that the CEL compiler gives. Pure.

CheckedExpr is CEL's public interchange format (cel-spec, proto/cel/expr/checked.proto and syntax.proto). Only what an
expression over JSON can hold is read; anything else is `Unsupported`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple


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
    checked = _last(serialized, 2)
    return _node(_last(checked, 4))


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


def _node(data: bytes) -> Node:
    for number, value in _fields(data):
        match number, value:
            case 3, bytes():
                return Const(_const(value))
            case 4, bytes():
                return Ident(_text(value, 1))
            case 5, bytes():
                return Select(_node(_last(value, 1)), _text(value, 2), bool(_number(value, 3)))
            case 6, bytes():
                return _call(value)
            case 7, bytes():
                return ListOf(tuple(_node(item) for item in _all(value, 1)))
            case 8, bytes():
                return _map(value)
            case 9, bytes():
                return _fold(value)
    raise Unsupported("an empty expression")


def _const(data: bytes) -> bool | int | float | str | None:
    for number, value in _fields(data):
        match number, value:
            case 1, _:
                return None
            case 2, int():
                return bool(value)
            case 3, int():
                return value - (1 << 64) if value >> 63 else value
            case 5, bytes():
                return float(struct.unpack("<d", value)[0])
            case 6, bytes():
                return value.decode()
    raise Unsupported("bytes and unsigned numbers are not JSON values")


def _call(data: bytes) -> Call:
    args = [_node(arg) for arg in _all(data, 3)]
    for target in _all(data, 1):
        args.insert(0, _node(target))
    return Call(_text(data, 2), tuple(args))


def _map(data: bytes) -> MapOf:
    if _text(data, 1):
        raise Unsupported("a message is not a JSON value")
    entries: list[tuple[Node, Node]] = []
    for entry in _all(data, 2):
        if next(_all(entry, 3), None) is None:
            raise Unsupported("a message is not a JSON value")
        entries.append((_node(_last(entry, 3)), _node(_last(entry, 4))))
    return MapOf(tuple(entries))


def _fold(data: bytes) -> Fold:
    if _text(data, 8):
        raise Unsupported("macros of two variables")
    return Fold(
        variable=_text(data, 1),
        items=_node(_last(data, 2)),
        accumulator=_text(data, 3),
        start=_node(_last(data, 4)),
        condition=_node(_last(data, 5)),
        step=_node(_last(data, 6)),
        result=_node(_last(data, 7)),
    )


# ---- protobuf's wire format


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message: an int for varints, else the bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 1:
                yield key >> 3, data[at : at + 8]
                at += 8
            case 2:
                size, at = _varint(data, at)
                yield key >> 3, data[at : at + size]
                at += size
            case 5:
                yield key >> 3, data[at : at + 4]
                at += 4
            case wire_type:
                raise Unsupported(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _all(data: bytes, number: int) -> Iterator[bytes]:
    return (value for n, value in _fields(data) if n == number and isinstance(value, bytes))


def _last(data: bytes, number: int) -> bytes:
    value = b""
    for found in _all(data, number):
        value = found
    return value


def _text(data: bytes, number: int) -> str:
    return _last(data, number).decode()


def _number(data: bytes, number: int) -> int:
    return next((value for n, value in _fields(data) if n == number and isinstance(value, int)), 0)
