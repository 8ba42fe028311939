"""From the text of a definition, YAML or JSON, to plain JSON data: safe, bounded, strict. Pure; no workflow terms here.

YAML is read as its JSON subset with anchors: the core schema of YAML 1.2 (`on` and `1:30` are text, not a bool and
90), no tags beyond those of JSON, no merge keys. It is read event by event, so that depth and size are bounded on the
way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal, NoReturn

import yaml

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem, TooLarge
from dagnats_core.flow.model import Json

Format = Literal["yaml", "json", "auto"]


def parse_text(text: bytes, format: Format = "auto") -> Json:
    """The JSON data in `text`. "auto" takes what begins with `{` for JSON, all else for YAML.

    Raises TooLarge above `DEFINITION_BYTES_MAX`, and Invalid, whose problem names the line, for text that is malformed,
    nested deeper than `JSON_DEPTH_MAX`, has a key twice, or is more than one document.
    """
    if len(text) > limits.DEFINITION_BYTES_MAX:
        raise TooLarge(f"{len(text)} bytes; a definition is at most {limits.DEFINITION_BYTES_MAX}")
    if format == "auto":
        format = "json" if text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else "yaml"
    return _parse_json(text) if format == "json" else _YamlReader().read(text)


def _refuse(rule: str, message: str, line: int | None = None, path: str = "") -> NoReturn:
    where = f"line {line}: " if line is not None else ""
    raise Invalid(f"{where}{message}", [Problem(path, rule, f"{where}{message}")])


# ---- JSON


class _Twice(dict[str, Json]):
    """An object that has this key twice."""

    key = ""


def _parse_json(text: bytes) -> Json:
    try:
        value = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except UnicodeDecodeError as error:
        _refuse("json", "not UTF-8", text.count(b"\n", 0, error.start) + 1)
    except json.JSONDecodeError as error:
        _refuse("json", f"{error.msg} (column {error.colno})", error.lineno)
    except RecursionError:
        _refuse("depth", f"nested deeper than {limits.JSON_DEPTH_MAX} levels")
    except ValueError as error:
        _refuse("json", str(error))
    for path, twice in _check_json(value, "", limits.JSON_DEPTH_MAX):
        _refuse("duplicate", f"the key {twice.key!r:.80} is there twice", path=f"{path}.{twice.key}".lstrip("."))
    return value


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    twice = _Twice(value)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            twice.key = key
        seen.add(key)
    return twice


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:80]} is too large")
    return value


def _check_json(value: Json, path: str, depth: int) -> Iterator[tuple[str, _Twice]]:
    if not isinstance(value, dict | list):
        return
    if depth == 0:
        _refuse("depth", f"nested deeper than {limits.JSON_DEPTH_MAX} levels")
    if isinstance(value, _Twice):
        yield path, value
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        yield from _check_json(part, f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}", depth - 1)


# ---- YAML

_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")}
_MISSING = object()


class _YamlReader:
    """Builds data from the parser's events; `_open` holds the unfinished collections, outermost first."""

    def __init__(self) -> None:
        self._open: list[_Collection] = []
        self._anchors: dict[str, tuple[Json, int]] = {}
        self._nodes = 0
        self._root: Json = _MISSING

    def read(self, text: bytes) -> Json:
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            _refuse("yaml", str(error.problem or error.context), mark.line + 1 if mark else None)
        except yaml.reader.ReaderError as error:
            line = text.count(b"\n", 0, error.position) + 1
            _refuse("yaml", f"{error.reason} ({error.character!r:.20})", line)
        except UnicodeDecodeError as error:
            _refuse("yaml", "not UTF-8", text.count(b"\n", 0, error.start) + 1)
        if self._root is _MISSING:
            _refuse("yaml", "there is nothing in it")
        return self._root

    def _take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.AliasEvent():
                self._alias(event.anchor, line)
            case yaml.ScalarEvent():
                self._value(self._scalar(event, line), event.anchor, 1, line)
            case yaml.CollectionStartEvent():
                self._start(event, line)
            case yaml.CollectionEndEvent():
                done = self._open.pop()
                self._value(done.value, done.anchor, self._nodes - done.nodes_before, done.line)
            case yaml.DocumentStartEvent() if self._root is not _MISSING:
                _refuse("yaml", "a second document begins; a definition is one document", line)

    def _start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if event.tag is not None and event.tag not in _TAGS:
            _refuse("yaml", f"the tag {event.tag[:80]!r} is not supported", line)
        if len(self._open) == limits.JSON_DEPTH_MAX:
            _refuse("depth", f"nested deeper than {limits.JSON_DEPTH_MAX} levels", line)
        self._count(1, line)
        value: Json = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Collection(value, event.anchor, self._nodes - 1, line))

    def _alias(self, anchor: str | None, line: int) -> None:
        known = self._anchors.get(anchor or "")
        if known is None:
            _refuse("yaml", f"the alias *{anchor:.80} stands before the end of its anchor, or has none", line)
        value, nodes = known
        self._count(nodes, line)
        self._value(value, None, 0, line)

    def _count(self, nodes: int, line: int) -> None:
        """Aliases count as what they stand for: nine lines of aliases to aliases would be a billion nodes."""
        self._nodes += nodes
        if self._nodes > limits.DEFINITION_NODES_MAX:
            _refuse("size", f"more than {limits.DEFINITION_NODES_MAX} values once aliases are written out", line)

    def _value(self, value: Json, anchor: str | None, nodes: int, line: int) -> None:
        if not isinstance(value, dict | list):
            self._count(nodes, line)
        if anchor is not None:
            self._anchors[anchor] = value, nodes
        if self._open:
            self._open[-1].add(value, line)
        else:
            self._root = value

    @staticmethod
    def _scalar(event: yaml.ScalarEvent, line: int) -> Json:
        text: str = event.value
        if event.tag is not None and event.tag not in _TAGS:
            _refuse("yaml", f"the tag {event.tag[:80]!r} is not supported", line)
        if not event.implicit[0] or event.style:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.fullmatch(text):
            try:
                return _float(text)
            except ValueError as error:
                _refuse("yaml", str(error), line)
        if _NOT_JSON.fullmatch(text):
            _refuse("yaml", f"{text} is not a JSON number", line)
        return text


class _Collection:
    """A list or map being read: `key` is the key whose value comes next."""

    def __init__(self, value: Json, anchor: str | None, nodes_before: int, line: int) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.line = line
        self._key: Json = _MISSING

    def add(self, value: Json, line: int) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self._key is not _MISSING:
            self.value[self._key] = value
            self._key = _MISSING
        elif not isinstance(value, str):
            _refuse("yaml", f"a key is text; write it in quotes: {value!r:.80}", line)
        elif value in self.value:
            _refuse("duplicate", f"the key {value!r:.80} is there twice", line)
        else:
            self._key = value
