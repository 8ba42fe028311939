"""JSON values that callers hand in undecoded: what every later reader must be able to rely on is checked here. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem

_compact = msgspec.json.format
_decode = msgspec.json.decode
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def checked(raw: Raw | bytes, path: str) -> bytes:
    """`raw` without needless white space. Raises Invalid unless it is JSON in UTF-8, in depth and numbers in bounds."""
    text = bytes(raw)
    try:
        _decode(text)
        if text.count(b"[") + text.count(b"{") > limits.JSON_DEPTH_MAX and is_deeper(text, limits.JSON_DEPTH_MAX):
            raise RecursionError
        return _compact(text, indent=-1)
    except RecursionError as error:
        most = limits.JSON_DEPTH_MAX
        raise _refused(path, "depth", f"it is nested deeper than {most} (JSON_DEPTH_MAX)") from error
    except UnicodeDecodeError as error:
        raise _refused(path, "utf8", "it is not valid UTF-8") from error
    except ValueError as error:
        raise _refused(path, "json", str(error)) from error


def is_deeper(text: bytes, depth: int) -> bool:
    """Whether arrays and objects of `text`, which must be JSON, are nested deeper than `depth`."""
    unescaped = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(_ALL_SQUARE, _NOT_BRACKETS)
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")  # takes away the innermost level everywhere
    return bool(brackets)


def _refused(path: str, rule: str, message: str) -> Invalid:
    return Invalid(f"{path} is not acceptable: {message}", [Problem(path, rule, message)])
