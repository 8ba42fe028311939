"""JSON Schemas: what fits, what is refused at registration, and that no schema and no value takes for ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.schema import DIALECT, Schema, schema_problems


def found(schema: Any, value: Any) -> list[tuple[str, str]]:
    """(path, rule) of each problem of a value."""
    assert schema_problems("s", schema) == []
    return [(problem.path, problem.rule) for problem in Schema(schema).check(Raw(json.dumps(value).encode()))]


def refused(schema: Any) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in schema_problems("s", schema)]


PERSON = {
    "$schema": DIALECT,
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": False,
}


def test_a_value_that_fits_has_no_problems() -> None:
    assert found(PERSON, {"name": "Ada", "tags": ["x"]}) == []


def test_all_problems_are_found_with_their_paths() -> None:
    assert sorted(found(PERSON, {"tags": ["x", 1], "name": "ada", "age": 3})) == [
        ("", "additionalProperties"),
        ("name", "pattern"),
        ("tags[1]", "type"),
    ]
    assert found(PERSON, []) == [("", "type")]


def test_true_and_false_are_schemas() -> None:
    assert found(True, 1) == []
    assert found(False, 1) != []


def test_it_is_draft_2020_12() -> None:
    assert found({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2]) != []
    assert found({"prefixItems": [{"type": "integer"}], "items": False}, [1]) == []
    assert found({"dependentRequired": {"a": ["b"]}}, {"a": 1}) != []
    assert found({"unevaluatedProperties": False, "allOf": [{"properties": {"a": True}}]}, {"a": 1}) == []
    assert found({"unevaluatedProperties": False, "allOf": [{"properties": {"a": True}}]}, {"b": 1}) != []


def test_references_within_the_document_are_followed() -> None:
    tree = {
        "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}},
        "$ref": "#/$defs/tree",
    }
    assert found(tree, {"left": {"left": {}}}) == []
    assert found(tree, {"left": {"left": 1}}) == [("left.left", "type")]
    anchored = {"$defs": {"n": {"$anchor": "number", "type": "number"}}, "items": {"$ref": "#number"}}
    assert found(anchored, [1, "x"]) == [("[1]", "type")]
    extended = {"$dynamicAnchor": "node", "type": "object", "properties": {"next": {"$dynamicRef": "#node"}}}
    assert found(extended, {"next": {"next": 1}}) == [("next.next", "type")]


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        ("date-time", "2026-11-23T10:00:00Z", "tomorrow"),
        ("date", "2026-11-23", "23.11.2026"),
        ("uuid", "01890a5d-ac96-774b-bcce-b302099a8057", "1234"),
        ("email", "ada@example.org", "ada"),
        ("ipv4", "127.0.0.1", "localhost"),
    ],
)
def test_formats_are_asserted(format: str, good: str, bad: str) -> None:
    assert found({"format": format}, good) == []
    assert found({"format": format}, bad) == [("", "format")]
    assert found({"format": "no-such-format"}, "anything") == []


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        (3, "s", "an object, true or false"),
        ({"type": "integr"}, "s.type", "integr"),
        ({"properties": {"a": {"minimum": "x"}}}, "s.properties.a.minimum", "not of type"),
        ({"$ref": "http://127.0.0.1:1/x.json"}, "s.$ref", "outside of the document"),
        ({"$ref": "file:///etc/passwd"}, "s.$ref", "outside of the document"),
        ({"$ref": "other.json"}, "s.$ref", "outside of the document"),
        ({"items": {"$ref": DIALECT}}, "s.items.$ref", "outside of the document"),
        ({"$ref": "#/$defs/missing"}, "s", "does not exist"),
        ({"$ref": "#missing"}, "s", "missing"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "s.$schema", "only"),
        ({"$defs": {"a": {"$id": "http://x/y"}}}, "s.$defs.a.$id", "its own $id"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "s.properties.a.pattern", "look-around"),
        ({"pattern": "(a)\\1"}, "s.pattern", "look-around"),
        ({"pattern": "(a{1000}){1000}"}, "s.pattern", "look-around"),
        ({"patternProperties": {"(?!a)": True}}, "s.patternProperties.(?!a)", "look-around"),
        ({"const": "x" * limits.SCHEMA_BYTES_MAX}, "s", "at most"),
    ],
)
def test_what_is_no_schema_is_refused_at_registration(schema: Any, path: str, message: str) -> None:
    problems = refused(schema)
    assert any(where == path and message in text for where, text in problems), problems


def test_all_problems_of_a_schema_come_at_once() -> None:
    assert len(refused({"type": "x", "properties": {"a": {"minimum": "x"}, "b": {"$ref": "http://x"}}})) == 3


def doubling(keyword: str, levels: int, leaf: dict[str, Any]) -> dict[str, Any]:
    """Definitions of which each applies the next one twice."""
    definitions: dict[str, Any] = {f"d{levels}": leaf}
    for i in range(levels):
        definitions[f"d{i}"] = {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}", "title": "2"}]}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_references_that_multiply_are_refused(keyword: str) -> None:
    assert "multiply" in refused(doubling(keyword, 40, {"type": "integer"}))[0][1]
    assert refused(doubling(keyword, 8, {"type": "integer"})) == []


def test_references_that_multiply_through_properties_are_refused() -> None:
    definitions: dict[str, Any] = {"d40": {"type": "integer"}}
    for i in range(40):
        part = {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
        definitions[f"d{i}"] = {"allOf": [part, {**part, "title": "2"}]}
    assert "multiply" in refused({"$ref": "#/$defs/d0", "$defs": definitions})[0][1]


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"$dynamicAnchor": "x", "not": {"$dynamicRef": "#x"}}]
)
def test_a_schema_that_refers_to_itself_ends(schema: dict[str, Any]) -> None:
    if not refused(schema):
        Schema(schema).check(Raw(b"1"))


def nested(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_value_that_meets_a_recursive_schema_twice_at_each_level_is_checked_quickly(keyword: str) -> None:
    part = {"properties": {"a": {"$ref": "#"}}}
    schema = {"type": ["object", "integer"], keyword: [part, {**part, "title": "2"}]}
    began = time.process_time()
    assert found(schema, nested(50, "x")) == [("", "schema")]
    assert found(schema, nested(3, "x")) != []
    assert time.process_time() - began < 1


def test_patterns_are_matched_in_linear_time() -> None:
    began = time.process_time()
    assert found({"pattern": "^(a+)+$"}, "a" * 200_000 + "b") == [("", "pattern")]
    assert time.process_time() - began < 1


def test_of_a_large_value_the_first_problem_is_told() -> None:
    began = time.process_time()
    assert found({"items": {"type": "integer"}}, ["x"] * 100_000) == [("[0]", "type")]
    assert time.process_time() - began < 2


def test_the_number_and_the_length_of_problems_are_bounded() -> None:
    problems = Schema({"items": {"type": "integer"}}).check(Raw(json.dumps(["x"] * 1000).encode()))
    assert len(problems) == limits.PROBLEMS_MAX
    (problem,) = Schema({"type": "integer"}).check(Raw(json.dumps("x" * 100_000).encode()))
    assert len(problem.message) < 320
    assert problem.message.endswith('is not of type "integer"')


@pytest.mark.parametrize("value", [b"", b"{", b"1e999", b"[" * 5000 + b"]" * 5000, b'"\xff"'])
def test_a_value_that_is_no_json_is_a_problem(value: bytes) -> None:
    assert [problem.rule for problem in Schema(True).check(Raw(value))] == ["json"]


def test_a_value_that_is_too_large_is_a_problem() -> None:
    value = Raw(b'"' + b"x" * limits.SCHEMA_VALUE_BYTES_MAX + b'"')
    assert [problem.rule for problem in Schema(True).check(value)] == ["size"]


def test_integers_of_any_size_are_integers() -> None:
    assert found({"type": "integer", "minimum": 0}, 1 << 80) == []
    assert found({"enum": [True]}, 1) == [("", "enum")]
