"""The committed OpenAPI document: current, the same from every process, valid, and complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from dagnats_gateway.openapi import document, encode
from dagnats_gateway.problems import PROBLEM_JSON
from dagnats_micro import ERROR_CLASSES
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.table import ENDPOINTS

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
OPENAPI: dict[str, Any] = msgspec.json.decode(encode(document()))


def operation(endpoint: Endpoint[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = OPENAPI["paths"][endpoint.http.path][endpoint.http.method.lower()]
    return found


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from objects(item)


def test_the_committed_document_is_current() -> None:
    hint = "write it again: python -m dagnats_gateway.openapi > openapi/openapi.json"
    assert COMMITTED.read_bytes() == encode(document()), hint


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_writes_the_same(seed: str) -> None:
    environ = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "dagnats_gateway.openapi"]
    assert subprocess.run(command, env=environ, capture_output=True, check=True).stdout == encode(document())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_row_is_an_operation(endpoint: Endpoint[Any, Any]) -> None:
    found = operation(endpoint)
    assert found["x-dagnats"]["endpoint"] == endpoint.name
    in_path = {each["name"] for each in found.get("parameters", []) if each["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", endpoint.http.path))
    statuses = {ERROR_CLASSES[code].http_status for code in endpoint.errors} | {endpoint.http.status, 400, 500, 503}
    assert {str(status) for status in statuses} <= set(found["responses"])
    assert ("requestBody" in found) is (endpoint.http.method in ("POST", "PUT"))


def test_every_error_is_a_problem() -> None:
    for path, item in OPENAPI["paths"].items():
        for found in item.values():
            for status, response in found["responses"].items():
                if status < "400" or path in ("/health", "/ready"):
                    continue
                code = response["$ref"].rpartition("/")[2]
                assert ERROR_CLASSES[code].http_status == int(status)
                assert list(OPENAPI["components"]["responses"][code]["content"]) == [PROBLEM_JSON]


def test_names_are_unique_and_references_lead_somewhere() -> None:
    names = [found["operationId"] for item in OPENAPI["paths"].values() for found in item.values()]
    assert len(names) == len(set(names))
    for each in objects(OPENAPI):
        if "$ref" in each:
            _, *steps = each["$ref"].split("/")
            target: Any = OPENAPI
            for step in steps:
                target = target[step]


def test_schemas_are_json_schema() -> None:
    for name, schema in OPENAPI["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
    for each in objects(OPENAPI["paths"]):
        if "schema" in each:
            assert jsonschema_rs.meta.is_valid(each["schema"]), each


def test_patterns_are_for_every_reader() -> None:
    patterns = {each["pattern"] for each in objects(OPENAPI) if isinstance(each.get("pattern"), str)}
    assert patterns
    assert not [pattern for pattern in patterns if "(?" in pattern]


def test_examples_fit_their_schemas() -> None:
    examples = [each for each in objects(OPENAPI["paths"]) if "example" in each]
    assert examples
    for each in examples:
        jsonschema_rs.validator_for({**each["schema"], "components": OPENAPI["components"]}).validate(each["example"])


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_the_documentation_lists_every_row(endpoint: Endpoint[Any, Any]) -> None:
    page = (COMMITTED.parents[1] / "docs" / "rest.md").read_text()
    assert f"| `{endpoint.http.method} {endpoint.http.path}` | {endpoint.dotted} | {endpoint.summary} |" in page
