"""What CEL's operators and functions do to JSON values, and what that costs. Pure; knows nothing of syntax.

Values are None, bool, int, float, str, list and dict with text keys; they are never changed in place. As in CEL, int
and double are compared with each other but not added, and int is 64 bit. An integer of a value that is larger passes
through untouched. Whatever takes longer on larger values spends from a `Budget` first.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from dagnats_core.flow.cel.bounds import CHARS_PER_UNIT, Budget, ExpressionFailed
from dagnats_core.flow.model import Json

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
}


def type_name(value: Json) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def not_for(symbol: str, *values: Json) -> ExpressionFailed:
    """CEL's "no such overload": `symbol` is not defined for values of these types."""
    types = " and ".join(type_name(value) for value in values)
    kinds = {type(value) for value in values}
    hint = " (convert with int() or double())" if kinds == {int, float} else ""
    return ExpressionFailed(f"{symbol} is not defined for {types}{hint}")


# ---- arithmetic


def _int64(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ExpressionFailed("the result does not fit a 64 bit integer")


def add(budget: Budget, a: Json, b: Json) -> Json:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return _int64(a + b)
        if kind is float:
            return a + b
        if kind is str:
            budget.spend((len(a) + len(b)) // CHARS_PER_UNIT)
            return a + b
        if kind is list:
            budget.spend(len(a) + len(b))
            return a + b
    raise not_for("+", a, b)


def subtract(budget: Budget, a: Json, b: Json) -> Json:
    if type(a) is type(b) is int:
        return _int64(a - b)
    if type(a) is type(b) is float:
        return a - b
    raise not_for("-", a, b)


def multiply(budget: Budget, a: Json, b: Json) -> Json:
    if type(a) is type(b) is int:
        return _int64(a * b)
    if type(a) is type(b) is float:
        return a * b
    raise not_for("*", a, b)


def divide(budget: Budget, a: Json, b: Json) -> Json:
    if type(a) is type(b) is int:
        if b == 0:
            raise ExpressionFailed("division by zero")
        return _int64(_truncated(a, b))
    if type(a) is type(b) is float:
        if b == 0.0:
            if a == 0.0 or math.isnan(a):
                return math.nan
            return math.copysign(math.inf, a) * math.copysign(1.0, b)
        return a / b
    raise not_for("/", a, b)


def modulo(budget: Budget, a: Json, b: Json) -> Json:
    if type(a) is type(b) is int:
        if b == 0:
            raise ExpressionFailed("modulus by zero")
        # Overflows like the division (the least integer by -1), and takes the sign of `a`.
        return a - b * _int64(_truncated(a, b))
    raise not_for("%", a, b)


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def negate(budget: Budget, a: Json) -> Json:
    if type(a) is int:
        return _int64(-a)
    if type(a) is float:
        return -a
    raise not_for("-", a)


def invert(budget: Budget, a: Json) -> Json:
    if a is True or a is False:
        return not a
    raise not_for("!", a)


# ---- comparison


def equal(budget: Budget, a: Json, b: Json) -> bool:
    """CEL's equality: int and double by value, all else only within its own type; lists and maps in depth."""
    kind = type(a)
    if kind is not type(b):
        return {kind, type(b)} == {int, float} and bool(a == b)
    if kind is list or kind is dict:
        if len(a) != len(b):
            return False
        budget.spend(2 * len(a) + 3)
        for key in range(len(a)) if kind is list else a:
            if (kind is dict and key not in b) or not equal(budget, a[key], b[key]):
                return False
        return True
    if kind is str:
        budget.spend(min(len(a), len(b)) // CHARS_PER_UNIT)
    return bool(a == b)


def unequal(budget: Budget, a: Json, b: Json) -> bool:
    return not equal(budget, a, b)


_ORDERED = (int, float, str, bool)


def _ordering(symbol: str, holds: Callable[[Any, Any], bool]) -> Callable[[Budget, Json, Json], bool]:
    def compare(budget: Budget, a: Json, b: Json) -> bool:
        kind = type(a)
        if kind is type(b):
            if kind is str:
                budget.spend(min(len(a), len(b)) // CHARS_PER_UNIT)
            if kind in _ORDERED:
                return holds(a, b)
        elif {kind, type(b)} == {int, float}:
            return holds(a, b)
        raise not_for(symbol, a, b)

    return compare


less = _ordering("<", operator.lt)
less_or_equal = _ordering("<=", operator.le)
greater = _ordering(">", operator.gt)
greater_or_equal = _ordering(">=", operator.ge)


# ---- lists, maps, text


def index(budget: Budget, container: Json, key: Json) -> Json:
    if type(container) is dict:
        if type(key) is str and key in container:
            return container[key]
        raise ExpressionFailed(f"there is no key {key!r:.80}")
    if type(container) is list:
        if type(key) is float and key.is_integer():
            key = int(key)
        if type(key) is not int:
            raise not_for("[]", container, key)
        if 0 <= key < len(container):
            return container[key]
        raise ExpressionFailed(f"index {key} is outside of a list of {len(container)}")
    raise not_for("[]", container, key)


def contains_element(budget: Budget, element: Json, container: Json) -> bool:
    """`element in container`: an element of a list, or a key of a map."""
    if type(container) is list:
        budget.spend(len(container))
        return any(equal(budget, element, item) for item in container)
    if type(container) is dict and type(element) in (str, bool, int, float):
        return type(element) is str and element in container
    raise not_for("in", element, container)


def size(budget: Budget, a: Json) -> int:
    if type(a) in (str, list, dict):
        return len(a)
    raise not_for("size", a)


def _text_function(name: str, holds: Callable[[str, str], bool]) -> Callable[[Budget, Json, Json], bool]:
    def call(budget: Budget, a: Json, b: Json) -> bool:
        if type(a) is not str or type(b) is not str:
            raise not_for(name, a, b)
        budget.spend((len(a) + len(b)) // CHARS_PER_UNIT)
        return holds(a, b)

    return call


contains = _text_function("contains", operator.contains)
starts_with = _text_function("startsWith", str.startswith)
ends_with = _text_function("endsWith", str.endswith)


# ---- conversion

_INT = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BOOLS = {"true": True, "True": True, "TRUE": True, "t": True, "1": True} | {
    "false": False, "False": False, "FALSE": False, "f": False, "0": False,
}  # fmt: skip
_NUMBER_CHARS_MAX = 400


def to_int(budget: Budget, a: Json) -> int:
    if type(a) is int or type(a) is bool:
        return _int64(int(a))
    if type(a) is float and math.isfinite(a):
        return _int64(int(a))
    if type(a) is str and _INT.fullmatch(a):
        return _int64(int(a))
    raise _not_convertible(a, "int")


def to_double(budget: Budget, a: Json) -> float:
    if type(a) is float:
        return a
    if type(a) is int and INT_MIN <= a <= INT_MAX:
        return float(a)
    if type(a) is str and len(a) <= _NUMBER_CHARS_MAX and _DOUBLE.fullmatch(a):
        return float(a)
    raise _not_convertible(a, "double")


def to_string(budget: Budget, a: Json) -> str:
    if type(a) is str:
        return a
    if a is True or a is False:
        return "true" if a else "false"
    if type(a) is int:
        return str(_int64(a))
    if type(a) is float:
        return repr(a).removesuffix(".0")
    raise _not_convertible(a, "string")


def to_bool(budget: Budget, a: Json) -> bool:
    if a is True or a is False:
        return bool(a)
    if type(a) is str and a in _BOOLS:
        return _BOOLS[a]
    raise _not_convertible(a, "bool")


def _not_convertible(a: Json, target: str) -> ExpressionFailed:
    shown = f" {a!r:.60}" if type(a) in (str, float, int) and len(repr(a)[:100]) < 100 else ""
    return ExpressionFailed(f"{target}() cannot convert the {type_name(a)}{shown}")


def same(budget: Budget, a: Json) -> Json:
    return a


FUNCTIONS: dict[str, Callable[..., Json]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": modulo,
    "-_": negate,
    "!_": invert,
    "_==_": equal,
    "_!=_": unequal,
    "_<_": less,
    "_<=_": less_or_equal,
    "_>_": greater,
    "_>=_": greater_or_equal,
    "_[_]": index,
    "@in": contains_element,
    "size": size,
    "contains": contains,
    "startsWith": starts_with,
    "endsWith": ends_with,
    "int": to_int,
    "double": to_double,
    "string": to_string,
    "bool": to_bool,
    "dyn": same,
}
"""By their names in CEL's syntax tree. `&&`, `||`, `?:` and `matches` do not take plain values, and are not here."""
