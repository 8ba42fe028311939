"""The one text of a definition: the same for the same content, for ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dagnats_core.flow.canonical import canonical, load
from dagnats_core.flow.parse import parse_text
from dagnats_core.flow.validate import validate
from dagnats_core.ids import content_hash

YAML = """
name: wordcount
version: "1.0"
timeout: PT90M
default_retry: &retry {max_attempts: 3, multiplier: 2, initial_delay: 1s}
input_schema: {type: object, properties: {path: {type: string, minLength: 1}}}
steps:
  - {id: split, task: text.split, type: normal, timeout: 30000000000}
  - id: count-0
    task: text.count
    depends_on: [split]
    input: {b: 1.5, a: "'é' + steps.split.output.parts[0]"}
    retry: *retry
    metadata: {z: "1", a: "2"}
    skip_if: {step_id: split, field: parts, op: "==", value: null}
"""
JSON = """
{"steps": [{"task": "text.split", "id": "split", "timeout": "0.5m"},
  {"id": "count-0", "task": "text.count", "depends_on": ["split"], "when": null,
   "input": {"a": "'\\u00e9' + steps.split.output.parts[0]", "b": 1.50},
   "retry": {"max_attempts": 3, "strategy": "fixed", "jitter": 0}, "metadata": {"a": "2", "z": "1"},
   "skip_if": {"value": null, "op": "==", "field": "parts", "step_id": "split"}}],
 "input_schema": {"properties": {"path": {"minLength": 1, "type": "string"}}, "type": "object"},
 "default_retry": {"max_attempts": 3}, "timeout": "1h30m", "version": "1.0", "name": "wordcount"}
"""


def text_of(data: Any) -> bytes:
    definition, problems, _ = validate(data)
    assert problems == []
    assert definition is not None
    return canonical(definition)


def test_yaml_and_json_of_the_same_content_are_the_same_bytes() -> None:
    assert text_of(parse_text(YAML.encode(), "yaml")) == text_of(parse_text(JSON.encode(), "json"))


def test_the_bytes_are_these_for_ever() -> None:
    text = text_of(parse_text(YAML.encode(), "yaml"))
    assert text.decode() == (
        '{"default_retry":{"max_attempts":3},'
        '"input_schema":{"properties":{"path":{"minLength":1,"type":"string"}},"type":"object"},"name":"wordcount",'
        '"steps":[{"id":"split","task":"text.split","timeout":"30s"},'
        '{"depends_on":["split"],"id":"count-0","input":{"a":"\'é\' + steps.split.output.parts[0]","b":1.5},'
        '"metadata":{"a":"2","z":"1"},"retry":{"max_attempts":3},'
        '"skip_if":{"field":"parts","op":"==","step_id":"split","value":null},"task":"text.count"}],'
        '"timeout":"1h30m","version":"1.0"}'
    )
    assert content_hash(text) == "6ba42ac76ce7b6e36d869f6c80307412"


def test_it_is_a_definition_itself() -> None:
    text = text_of(parse_text(YAML.encode(), "yaml"))
    assert text_of(parse_text(text)) == text
    assert canonical(load(text)) == text


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"timeout": "1s"},
        {"steps": [{"id": "a", "task": "u"}]},
        {"steps": [{"id": "a", "task": "t", "input": {}}]},
        {"steps": [{"id": "a", "task": "t", "input": 1}]},
        {"steps": [{"id": "a", "task": "t", "input": 1.0}]},
        {"steps": [{"id": "a", "task": "t", "retries": 0}]},
        {"output_schema": True},
        {"output_schema": {}},
    ],
)
def test_other_content_is_another_text(change: dict[str, Any]) -> None:
    base = {"name": "w", "steps": [{"id": "a", "task": "t"}]}
    others = [{"steps": [{"id": "a", "task": "t", "input": True}]}, {"output_schema": False}]
    assert len({text_of({**base, **more}) for more in ({}, change, *others)}) == 4


def test_other_bytes_cannot_be_loaded() -> None:
    for content in (b"", b"{}", b'{"name":"w","steps":[],"x":1}'):
        with pytest.raises(msgspec.DecodeError):
            load(content)
