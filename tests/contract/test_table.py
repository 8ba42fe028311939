"""The table is the one source: every row has its schemas, its handler, its place in discovery and in the documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagnats_core import limits
from dagnats_core.errors import ERROR_CLASSES
from dagnats_micro.client import NATURAL_KEYS, is_repeatable
from dagnats_micro.schemas.common import Reply, Request
from dagnats_micro.table import BY_NAME, ENDPOINTS
from tests.support.micro import ApiSite

DOCS = Path(__file__).parents[2] / "docs"
EVERYWHERE = {"invalid", "busy", "unavailable", "internal"}


def ids_of(endpoint: Any) -> str:
    return str(endpoint.name)


async def test_every_row_is_served_and_nothing_else(api_site: ApiSite) -> None:
    served = [(runner.endpoint.name, runner.subject) for runner in api_site.service.runners]
    assert served == [(row.name, api_site.subjects.api(row.noun, row.verb)) for row in ENDPOINTS]


async def test_what_is_decoded_into_is_what_the_row_says(api_site: ApiSite) -> None:
    """A handler may leave parts undecoded; fields, and whether they are required, stay those of the row."""
    from dagnats_micro.service import bind

    assert api_site.service._api is not None
    for bound in bind(api_site.service._api):
        if bound.request is None:
            continue
        row, wire = (msgspec.structs.fields(cls) for cls in (bound.endpoint.request, bound.request))
        assert issubclass(bound.request, bound.endpoint.request)
        assert [field.name for field in wire] == [field.name for field in row]
        assert {field.name for field in wire if field.required} == {field.name for field in row if field.required}


def test_names_and_routes_are_unique() -> None:
    assert len(BY_NAME) == len(ENDPOINTS)
    routes = {(row.http.method, re.sub(r"{\w+}", "{}", row.http.path)) for row in ENDPOINTS}
    assert len(routes) == len(ENDPOINTS)


@pytest.mark.parametrize("row", ENDPOINTS, ids=ids_of)
def test_requests_are_strict_and_replies_open(row: Any) -> None:
    assert issubclass(row.request, Request)
    assert issubclass(row.reply, Reply)
    assert row.request.__struct_config__.forbid_unknown_fields
    assert not row.reply.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("row", ENDPOINTS, ids=ids_of)
def test_path_fields_and_body_fields_are_fields_of_the_request(row: Any) -> None:
    fields = {field.name for field in msgspec.structs.fields(row.request)}
    assert set(re.findall(r"{(\w+)}", row.http.path)) <= fields
    assert row.http.body is None or row.http.body in fields
    assert row.cli is None or set(row.cli.positional) <= fields


@pytest.mark.parametrize("row", ENDPOINTS, ids=ids_of)
def test_lists_are_items_and_next_cursor(row: Any) -> None:
    if row.verb in ("list", "versions"):
        assert {"items", "next_cursor"} <= {field.name for field in msgspec.structs.fields(row.reply)}
        assert {"limit", "cursor"} <= {field.name for field in msgspec.structs.fields(row.request)}


@pytest.mark.parametrize("row", ENDPOINTS, ids=ids_of)
def test_errors_are_of_the_table_and_only_what_is_special(row: Any) -> None:
    assert set(row.errors) <= set(ERROR_CLASSES)
    assert not set(row.errors) & EVERYWHERE


@pytest.mark.parametrize("row", [row for row in ENDPOINTS if row.mutating], ids=ids_of)
def test_every_mutating_request_can_be_made_repeatable(row: Any) -> None:
    fields = {field.name for field in msgspec.structs.fields(row.request)}
    assert "request_id" in fields or row.name in NATURAL_KEYS


def test_reading_is_always_repeatable_and_a_start_only_with_a_request_id() -> None:
    start = BY_NAME["wf-start"]
    assert not is_repeatable(start, start.request(workflow="w"))
    assert is_repeatable(start, start.request(workflow="w", request_id="r"))
    assert all(is_repeatable(row, None) for row in ENDPOINTS if not row.mutating)  # type: ignore[arg-type]


async def test_info_fits_a_message_and_holds_the_schemas(api_site: ApiSite) -> None:
    subject = f"$SRV.INFO.dagnats.{api_site.service.instance_id}"
    reply = await api_site.client.connection.request(subject, b"", 5)
    assert len(reply.data) < limits.MESSAGE_BYTES_MAX // 4
    for endpoint in msgspec.json.decode(reply.data)["endpoints"]:
        row = BY_NAME[endpoint["name"]]
        metadata = endpoint["metadata"]
        assert msgspec.json.decode(metadata["request_schema"]) == msgspec.json.schema(row.request)
        assert msgspec.json.decode(metadata["reply_schema"]) == msgspec.json.schema(row.reply)
        assert metadata["http"] == f"{row.http.method} {row.http.path}"
        assert metadata["role"] == row.role


def test_every_error_code_is_documented_with_its_status_and_exit_code() -> None:
    text = (DOCS / "errors.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d+ \| \d+) \|", text, re.MULTILINE))
    assert documented == {row.code: f"{row.http_status} | {row.exit_code}" for row in ERROR_CLASSES.values()}
