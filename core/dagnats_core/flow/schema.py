"""JSON Schema 2020-12 of a workflow's input and output (docs/adr/0004-json-schema.md). Pure.

References stay within the document, so nothing is ever fetched. Patterns are matched in linear time. A schema whose
references multiply (each definition using the next one twice) is refused, because applying it would take for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from urllib.parse import unquote

import jsonschema_rs
import msgspec
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.errors import Problem
from dagnats_core.flow.model import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MESSAGE_CHARS_MAX = 300
_PATTERNS = jsonschema_rs.RegexOptions(
    size_limit=limits.SCHEMA_PATTERN_PROGRAM_BYTES_MAX, dfa_size_limit=limits.SCHEMA_PATTERN_PROGRAM_BYTES_MAX
)
_decode = msgspec.json.Decoder().decode


class Schema:
    """A compiled schema, of a source in which `schema_problems` finds nothing.

    Formats (`date-time`, `uuid`, …) are asserted; those that the library does not know are ignored.
    """

    def __init__(self, source: dict[str, Json] | bool) -> None:
        self._source = source
        self._validator = jsonschema_rs.Draft202012Validator(
            source, validate_formats=True, pattern_options=_PATTERNS, offline=True
        )

    def check(self, value: Raw) -> list[Problem]:
        """What is wrong with a JSON value; paths as in `items[2].name`, "" for the whole. Empty: it fits.

        All problems of a small value, at most `PROBLEMS_MAX`; the first one of a large one. Never raises.
        """
        size = memoryview(value).nbytes
        if size > limits.SCHEMA_VALUE_BYTES_MAX:
            message = f"{size} bytes are more than a schema is applied to ({limits.SCHEMA_VALUE_BYTES_MAX})"
            return [Problem("", "size", message)]
        try:
            decoded = _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [Problem("", "json", f"not valid JSON: {error}")]
        if self._validator.is_valid(decoded):
            return []
        # Saying what is wrong costs far more than to see that something is: memory and time double with each level at
        # which a schema applies itself twice, and every wrong item of a list becomes an object.
        depth = _depth(decoded, limits.JSON_DEPTH_MAX)
        if _Expansion(self._source, unrolled=True).visits(depth) > limits.SCHEMA_VISITS_MAX:
            return [Problem("", "schema", "does not fit the schema")]
        errors: Iterator[jsonschema_rs.ValidationError]
        if size > limits.SCHEMA_EXPLAINED_BYTES_MAX:
            errors = _first_error(self._validator, decoded)
        else:
            errors = self._validator.iter_errors(decoded)
        return [_problem("", error) for error in islice(errors, limits.PROBLEMS_MAX)]


def schema_problems(path: str, source: Json) -> list[Problem]:
    """What is wrong with a schema that stands at `path` of a definition. Empty: `Schema` takes it."""
    if not isinstance(source, dict | bool):
        return [Problem(path, "schema", "a JSON Schema is an object, true or false")]
    size = len(msgspec.json.encode(source))
    if size > limits.SCHEMA_BYTES_MAX:
        return [Problem(path, "schema", f"{size} bytes; a schema is at most {limits.SCHEMA_BYTES_MAX}")]
    problems = [_problem(path, error) for error in islice(_metaschema().iter_errors(source), limits.PROBLEMS_MAX)]
    if isinstance(source, dict):
        problems += _reference_problems(path, source)
    if problems:
        return problems
    if _Expansion(source, unrolled=False).visits() > limits.SCHEMA_VISITS_MAX:
        message = f"its references multiply to more than {limits.SCHEMA_VISITS_MAX} schemas"
        return [Problem(path, "schema", message)]
    try:
        Schema(source)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        # Patterns are compiled only now: `pattern` may hold what the engine for linear time does not know.
        message = getattr(error, "message", str(error))
        if message.endswith('is not a "regex"'):
            message += " of linear time: without look-around and back references, and not too large"
        where = path + _path(getattr(error, "instance_path", []))
        return [Problem(where, "schema", _cut(message))]
    return []


def _reference_problems(path: str, source: dict[str, Json]) -> list[Problem]:
    problems: list[Problem] = []
    dialect = source.get("$schema", DIALECT)
    if isinstance(dialect, str) and dialect.rstrip("#") != DIALECT:
        problems.append(Problem(f"{path}.$schema", "schema", f"only {DIALECT} is supported"))
    for where, schema in _subschemas(path, source):
        if where != path and "$id" in schema:
            problems.append(Problem(f"{where}.$id", "schema", "a schema inside of a schema cannot have its own $id"))
        for keyword in ("$ref", "$dynamicRef"):
            reference = schema.get(keyword, "#")
            if isinstance(reference, str) and not reference.startswith("#"):
                message = f"{reference!r:.80} is outside of the document; nothing is fetched"
                problems.append(Problem(f"{where}.{keyword}", "schema", message))
    return problems[: limits.PROBLEMS_MAX]


@lru_cache(maxsize=1)
def _metaschema() -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": DIALECT}, offline=True)


def _first_error(validator: jsonschema_rs.Validator, value: Json) -> Iterator[jsonschema_rs.ValidationError]:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield error


def _problem(prefix: str, error: jsonschema_rs.ValidationError) -> Problem:
    path = (prefix + _path(error.instance_path)).removeprefix("." if not prefix else "")
    return Problem(path, error.kind.name, _cut(error.message))


def _path(parts: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _cut(message: str) -> str:
    """The library shows the offending value first, which may be large."""
    if len(message) <= _MESSAGE_CHARS_MAX:
        return message
    half = _MESSAGE_CHARS_MAX // 2
    return f"{message[:half]} … {message[-half:]}"


def _depth(value: Json, bound: int) -> int:
    if bound == 0 or not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(part, bound - 1) for part in parts), default=0)


# ---- the schemas within a schema

_IN_PLACE_ONE = ("not", "if", "then", "else")
_IN_PLACE_LIST = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAP = ("dependentSchemas",)
_BELOW_ONE = (
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_BELOW_LIST = ("prefixItems",)
_BELOW_ANY = ("patternProperties",)
_BELOW_EACH = ("properties",)
_DEFINITIONS = ("$defs", "definitions")


def _parts(schema: Json, one: Sequence[str], lists: Sequence[str], maps: Sequence[str]) -> Iterator[tuple[str, Json]]:
    for key in one:
        if key in schema:
            yield f".{key}", schema[key]
    for key in lists:
        if isinstance(schema.get(key), list):
            yield from ((f".{key}[{i}]", part) for i, part in enumerate(schema[key]))
    for key in maps:
        if isinstance(schema.get(key), dict):
            yield from ((f".{key}.{name}", part) for name, part in schema[key].items())


def _subschemas(path: str, root: dict[str, Json]) -> Iterator[tuple[str, dict[str, Json]]]:
    """Every schema object of a document, with its path."""
    waiting: list[tuple[str, Json]] = [(path, root)]
    while waiting:
        where, schema = waiting.pop()
        if not isinstance(schema, dict):
            continue
        yield where, schema
        one, lists = (*_IN_PLACE_ONE, *_BELOW_ONE), (*_IN_PLACE_LIST, *_BELOW_LIST)
        maps = (*_IN_PLACE_MAP, *_BELOW_ANY, *_BELOW_EACH, *_DEFINITIONS)
        waiting += [(where + step, part) for step, part in _parts(schema, one, lists, maps)]


class _Expansion:
    """How many schemas are applied, at most, to one value and what lies below it on one path.

    `unrolled`: recursion through the value is followed to its depth (what it costs without a memory of what has been
    applied); else it is followed once (the validator remembers recursive references).
    """

    def __init__(self, root: Json, unrolled: bool) -> None:
        self._root = root
        self._below = 1 if unrolled else 0
        self._known: dict[tuple[int, int], int] = {}
        self._dynamic: dict[str, list[Json]] = {}
        for _, schema in _subschemas("", root) if isinstance(root, dict) else ():
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(schema.get(keyword), str):
                    self._dynamic.setdefault(schema[keyword], []).append(schema)

    def visits(self, depth: int = 1) -> int:
        return self._visits(self._root, depth)

    def _visits(self, schema: Json, depth: int) -> int:
        if not isinstance(schema, dict):
            return 1
        key = id(schema), depth
        if key not in self._known:
            self._known[key] = 0  # a cycle that comes back here without going down is applied once
            targets = [target for keyword in ("$ref", "$dynamicRef") for target in self._targets(schema.get(keyword))]
            targets += [part for _, part in _parts(schema, _IN_PLACE_ONE, _IN_PLACE_LIST, _IN_PLACE_MAP)]
            total = 1 + sum(self._visits(target, depth) for target in targets)
            if depth > 0:
                below = depth - self._below
                total += sum(self._visits(part, below) for _, part in _parts(schema, _BELOW_ONE, (), _BELOW_ANY))
                # Of these each applies to a child of its own, and a path goes down to one child only.
                each = _parts(schema, (), _BELOW_LIST, _BELOW_EACH)
                total += max((self._visits(part, below) for _, part in each), default=0)
            self._known[key] = min(total, limits.SCHEMA_VISITS_MAX + 1)
        return self._known[key]

    def _targets(self, reference: Json) -> list[Json]:
        """The schemas that "#", "#/pointer" or "#anchor" may mean; none for what the compiler will refuse."""
        if not isinstance(reference, str):
            return []
        fragment = unquote(reference.removeprefix("#"))
        if fragment and not fragment.startswith("/"):
            return self._dynamic.get(fragment, [])
        target = self._root
        for part in fragment.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and part in target:
                target = target[part]
            elif isinstance(target, list) and part.isdecimal() and int(part) < len(target):
                target = target[int(part)]
            else:
                return []
        return [target]
