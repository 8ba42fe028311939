"""Readers of plain JSON data that report every problem instead of stopping at the first. Pure; no workflow terms here.

A reader takes a report, a path and a value; it returns what it read, or `BAD` after it has put down what is wrong. An
object is a table from field names to readers. Null stands for a field that is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem
from dagnats_core.flow.durations import format_duration, parse_duration
from dagnats_core.flow.model import Json


class _Bad:
    def __repr__(self) -> str:
        return "BAD"


BAD: Final[Any] = _Bad()
"""What a reader returns for a value that it could not read; the problem is in the report."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN_CHARS_MAX = 80


class Report:
    """Problems found so far, at most `PROBLEMS_MAX`; what is beyond is counted."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._beyond = 0

    def add(self, path: str, rule: str, message: str) -> Any:
        """Put a problem down; returns BAD, so that a reader can end with it."""
        if len(self._problems) < limits.PROBLEMS_MAX:
            self._problems.append(Problem(path, rule, message))
        else:
            self._beyond += 1
        return BAD

    def __bool__(self) -> bool:
        return bool(self._problems)

    @property
    def problems(self) -> list[Problem]:
        if not self._beyond:
            return self._problems
        return [*self._problems, Problem("", "problems", f"and {self._beyond} more problems")]


Reader = Callable[[Report, str, Json], Any]


def below(path: str, key: str | int) -> str:
    """The path of a part: `steps[2]`, `steps[2].retry`, `metadata["a key"]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


def shown(value: Json) -> str:
    """A value in a message: short, as JSON has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = '"' + value + '"' if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"


def kind(value: Json) -> str:
    """JSON's name of a value's type, with its article."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")


# ---- readers


def text(*, chars_max: int, empty: bool = False) -> Reader:
    def read(report: Report, path: str, value: Json) -> Any:
        if not isinstance(value, str):
            hint = "; write it in quotes" if isinstance(value, int | float) else ""
            return report.add(path, "type", f"is {shown(value)}, not text{hint}")
        if not value and not empty:
            return report.add(path, "length", "must not be empty")
        if len(value) > chars_max:
            return report.add(path, "length", f"is {len(value)} characters long; at most {chars_max}")
        return value

    return read


def pattern(rule: str, matches: Callable[[str], bool], meaning: str) -> Reader:
    """Text for which `matches` holds; `meaning` says what that is."""

    def read(report: Report, path: str, value: Json) -> Any:
        if not isinstance(value, str):
            return report.add(path, "type", f"is {shown(value)}, not text")
        return value if matches(value) else report.add(path, rule, f"{shown(value)} is not {meaning}")

    return read


def choice(options: Sequence[str]) -> Reader:
    def read(report: Report, path: str, value: Json) -> Any:
        if isinstance(value, str) and value in options:
            return value
        return report.add(path, "choice", f"is {shown(value)}, not one of: {', '.join(options)}")

    return read


def whole(least: int, most: int) -> Reader:
    def read(report: Report, path: str, value: Json) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return report.add(path, "type", f"is {shown(value)}, not a whole number")
        if not least <= value <= most:
            return report.add(path, "range", f"is {shown(value)}; must be {least} to {most}")
        return value

    return read


def number(least: float, most: float) -> Reader:
    def read(report: Report, path: str, value: Json) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return report.add(path, "type", f"is {shown(value)}, not a number")
        if not least <= value <= most:
            return report.add(path, "range", f"is {shown(value)}; must be {least:g} to {most:g}")
        return float(value)

    return read


def duration(*, least_ms: int, most_ms: int) -> Reader:
    """A duration in any of its forms; what is read is its short text."""

    def read(report: Report, path: str, value: Json) -> Any:
        try:
            ms = parse_duration(value)
        except Invalid as invalid:
            return report.add(path, "duration", invalid.message)
        if not least_ms <= ms <= most_ms:
            span = f"{format_duration(least_ms)} to {format_duration(most_ms)}"
            return report.add(path, "range", f"is {shown(value)}; must be {span}")
        return format_duration(ms)

    return read


def scalar(report: Report, path: str, value: Json) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return report.add(path, "type", f"is {kind(value)}, not text, a number, true, false or null")


def list_of(reader: Reader, *, least: int = 0, most: int) -> Reader:
    """A list as a tuple, BAD for each item that could not be read."""

    def read(report: Report, path: str, value: Json) -> Any:
        if not isinstance(value, list):
            return report.add(path, "type", f"is {shown(value)}, not a list")
        if not least <= len(value) <= most:
            return report.add(path, "length", f"has {len(value)} items; must have {least} to {most}")
        return tuple(reader(report, below(path, i), item) for i, item in enumerate(value))

    return read


def texts_by_key(*, entries_max: int, bytes_max: int) -> Reader:
    """An object whose values are text, of at most so many bytes together with their keys."""
    read_text = text(chars_max=bytes_max, empty=True)

    def read(report: Report, path: str, value: Json) -> Any:
        if not isinstance(value, dict):
            return report.add(path, "type", f"is {shown(value)}, not an object")
        if len(value) > entries_max:
            return report.add(path, "length", f"has {len(value)} entries; at most {entries_max}")
        result = {key: read_text(report, below(path, key), part) for key, part in value.items()}
        if BAD in result.values():
            return BAD
        size = sum(len(key.encode()) + len(part.encode()) for key, part in result.items())
        return result if size <= bytes_max else report.add(path, "length", f"is {size} bytes long; at most {bytes_max}")

    return read


def fields(readers: Mapping[str, Reader], required: Collection[str], nullable: Collection[str] = ()) -> Reader:
    """An object with these fields and no others: a dict of those that are there, BAD where one could not be read."""

    def read(report: Report, path: str, value: Json) -> Any:
        if not isinstance(value, dict):
            return report.add(path, "type", f"is {shown(value)}, not an object")
        for key in value:
            if key not in readers:
                report.add(below(path, key), "unknown", _unknown(key, readers))
        result: dict[str, Any] = {}
        for key, reader in readers.items():
            part = value.get(key)
            if part is not None or (key in nullable and key in value):
                result[key] = reader(report, below(path, key), part)
            elif key in required:
                report.add(below(path, key), "required", "is missing")
                result[key] = BAD
        return result

    return read


def _unknown(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(key[:_SHOWN_CHARS_MAX], known, n=1)
    if close:
        return f"is not a field here; did you mean {close[0]}?"
    return f"is not a field here; the fields are {', '.join(known)}"
