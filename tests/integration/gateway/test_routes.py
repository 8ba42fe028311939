"""Requests through the whole gateway: what the API is asked, and what the HTTP client is told."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from dagnats_core.errors import Busy, Conflict, DagNatsError, NotFound, Problem
from dagnats_micro.schemas import run, wf
from dagnats_micro.schemas.common import Count
from tests.integration.gateway.conftest import Gateway
from tests.integration.gateway.samples import RUN_ID, registered, started, workflow

PROBLEM = "application/problem+json"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def problem_of(response: httpx.Response, status: int, code: str) -> list[tuple[str, str]]:
    """(path, rule) of each problem of an error answer, which is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:dagnats:error:{code}"
    assert body["title"]
    assert body["detail"]
    return [(each["path"], each["rule"]) for each in body["problems"]]


async def test_a_start_is_created_and_says_where(gateway: Gateway) -> None:
    gateway.api.answers["wf-start"] = lambda _: started()
    response = await gateway.http.post("/runs", json={"workflow": "greet", "input": {"big": 2**70}})
    assert response.status_code == 201
    assert response.headers["location"] == f"/runs/{RUN_ID}"
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["run_id"] == RUN_ID
    assert gateway.api.requests == [wf.StartRequest(workflow="greet", input={"big": 2**70})]


async def test_a_start_that_was_done_already_is_no_creation(gateway: Gateway) -> None:
    gateway.api.answers["wf-start"] = lambda _: started(created=False)
    response = await gateway.http.post("/runs", json={"workflow": "greet", "request_id": "r"})
    assert response.status_code == 200


async def test_a_definition_is_the_whole_body_in_json_or_yaml(gateway: Gateway) -> None:
    gateway.api.answers["wf-register"] = lambda _: registered()
    text = "name: grüße\nsteps: []\n"
    response = await gateway.http.post("/workflows?by=worker", json={"name": "greet"})
    assert (response.status_code, response.headers["location"]) == (201, "/workflows/greet")
    headers = {"content-type": "application/yaml; charset=UTF-8", "idempotency-key": '"k1"'}
    response = await gateway.http.post("/workflows", content=text.encode(), headers=headers)
    assert response.status_code == 201
    assert gateway.api.requests == [
        wf.RegisterRequest(definition={"name": "greet"}, by="worker"),
        wf.RegisterRequest(definition=text, request_id="k1"),
    ]


async def test_a_query_becomes_typed_values(gateway: Gateway) -> None:
    gateway.api.answers["run-list"] = lambda _: run.RunList(items=[], next_cursor=None)
    gateway.api.answers["run-count"] = lambda _: Count(count=3)
    await gateway.http.get("/runs", params={"workflow": "greet", "limit": "7", "tag": "a=ü b"})
    response = await gateway.http.get("/runs/count", params={"status": "failed"})
    assert response.json() == {"count": 3}
    assert gateway.api.requests == [
        run.RunListRequest(workflow="greet", limit=7, tag="a=ü b"),
        run.RunCountRequest(status="failed"),
    ]


async def test_an_empty_body_is_a_request_without_fields(gateway: Gateway) -> None:
    gateway.api.answers["run-cancel"] = lambda _: run.CancelReply(run_id=RUN_ID, status="cancelled")
    assert (await gateway.http.post(f"/runs/{RUN_ID}/cancel")).status_code == 200
    response = await gateway.http.post(f"/runs/{RUN_ID}/cancel", json={"reason": "enough"})
    assert response.status_code == 200
    assert gateway.api.requests == [
        run.CancelRequest(run_id=RUN_ID),
        run.CancelRequest(run_id=RUN_ID, reason="enough"),
    ]


async def test_a_workflow_may_be_called_like_an_operation(gateway: Gateway) -> None:
    gateway.api.answers["wf-get"] = lambda request: workflow(request.name)
    gateway.api.answers["wf-delete"] = lambda request: wf.DeleteReply(name=request.name, deleted=True)
    response = await gateway.http.get("/workflows/validate")
    assert response.json()["name"] == "validate"
    assert (await gateway.http.delete("/workflows/validate")).json() == {"name": "validate", "deleted": True}


async def test_every_problem_of_a_request_is_named(gateway: Gateway) -> None:
    body = {"workflow": "a b", "tags": ["", 3], "run_at": 1, "version": 0}
    found = problem_of(await gateway.http.post("/runs", json=body), 400, "invalid")
    assert found == [
        ("workflow", "pattern"),
        ("tags[0]", "length"),
        ("run_at", "unknown_field"),
        ("version", "range"),
    ]
    found = problem_of(await gateway.http.get("/runs?limit=x&limit=3&foo=1&status=odd"), 400, "invalid")
    assert found == [("limit", "json"), ("limit", "duplicate"), ("foo", "unknown_field"), ("status", "enum")]
    assert gateway.api.requests == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("no run"), 404),
        (Conflict("other input", [Problem("input", "digest", "differs")]), 409),
        (Busy("full"), 429),
        (DagNatsError("incident 1"), 500),
        (DagNatsError("no room", code="storage_full"), 507),
    ],
)
async def test_an_error_of_the_api_is_a_problem(gateway: Gateway, error: DagNatsError, status: int) -> None:
    def refuse(_: object) -> run.Run:
        raise error

    gateway.api.answers["run-get"] = refuse
    response = await gateway.http.get(f"/runs/{RUN_ID}")
    found = problem_of(response, status, error.code)
    assert found == [(each.path, each.rule) for each in error.problems]
    assert response.json()["detail"] == error.message
    assert (response.headers.get("retry-after") == "1") is (status == 429)


async def test_an_api_that_is_not_there_is_unavailable(gateway: Gateway) -> None:
    await gateway.api.stop()
    response = await gateway.http.get(f"/runs/{RUN_ID}")
    await gateway.api.start()
    problem_of(response, 503, "unavailable")
    assert response.headers["retry-after"] == "1"


async def test_a_mistake_of_ours_tells_nothing(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagnats_gateway.routes.status_of", lambda *_: 1 / 0)
    gateway.api.answers["run-count"] = lambda _: Count(count=3)
    response = await gateway.http.get("/runs/count")
    problem_of(response, 500, "internal")
    assert "ZeroDivision" not in response.text


async def test_paths_and_methods_that_are_not_there(gateway: Gateway) -> None:
    problem_of(await gateway.http.get("/nothing"), 404, "not_found")
    problem_of(await gateway.http.get("/runs/a/b/c"), 404, "not_found")
    problem_of(await gateway.http.get("/docs/../../etc/passwd"), 404, "not_found")
    response = await gateway.http.put("/runs", json={})
    problem_of(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    response = await gateway.http.request("BREW", f"/runs/{RUN_ID}")
    problem_of(response, 405, "method_not_allowed")


async def test_options_and_head(gateway: Gateway) -> None:
    gateway.api.answers["run-count"] = lambda _: Count(count=3)
    response = await gateway.http.options("/runs")
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    head = await gateway.http.head("/runs/count")
    full = await gateway.http.get("/runs/count")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(full.content))
    problem_of_head = await gateway.http.head("/nothing")
    assert (problem_of_head.status_code, problem_of_head.content) == (404, b"")


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "text/event-stream"])
async def test_an_answer_that_nobody_takes_is_not_made(gateway: Gateway, accept: str) -> None:
    problem_of(await gateway.http.get("/runs/count", headers={"accept": accept}), 406, "not_acceptable")
    assert gateway.api.requests == []


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("", ""),
        ("text/plain", ""),
        ("application/yaml", ""),
        ("application/json; charset=latin-1", ""),
        ("application/json", "gzip"),
        ("application/x-www-form-urlencoded", ""),
    ],
)
async def test_a_body_of_another_type_is_refused(gateway: Gateway, content_type: str, encoding: str) -> None:
    headers = {"content-type": content_type, "content-encoding": encoding}
    response = await gateway.http.post("/runs", content=b'{"workflow": "a"}', headers=headers)
    problem_of(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"{", "json"),
        (b'{"workflow": "a", "input": NaN}', "json"),
        (b'{"workflow": "a", "input": Infinity}', "json"),
        (b'{"workflow": "a"} {}', "json"),
        (b'\xef\xbb\xbf{"workflow": "a"}', "json"),
        (b'{"workflow": "a", "input": "\xff"}', "utf8"),
        (b'{"workflow": "a", "input": "\xc3\xa4\xed\xa0\x80"}', "utf8"),
        (b"[]", "type"),
        (b"null", "type"),
        (b'{"workflow": "a", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "depth"),
        (b'{"workflow": "a", "input": ' + b'{"a":' * 100_000, "depth"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(gateway: Gateway, body: bytes, rule: str) -> None:
    headers = {"content-type": "application/json"}
    response = await gateway.http.post("/runs", content=body, headers=headers)
    assert problem_of(response, 400, "invalid") == [("body", rule)]


async def test_a_body_where_none_belongs_is_refused(gateway: Gateway) -> None:
    response = await gateway.http.request("GET", "/runs/count", json={"status": "failed"})
    assert problem_of(response, 400, "invalid") == [("body", "unknown_field")]


async def test_the_idempotency_key_is_the_request_id_of_a_request_that_has_none(gateway: Gateway) -> None:
    gateway.api.answers["wf-start"] = lambda _: started()
    for request_id in (None, "own"):
        body = {"workflow": "a", "request_id": request_id}
        assert (await gateway.http.post("/runs", json=body, headers={"Idempotency-Key": "k"})).status_code == 201
    assert [request.request_id for request in gateway.api.requests] == ["k", "own"]
    response = await gateway.http.post("/runs", json={"workflow": "a"}, headers={"Idempotency-Key": "k" * 257})
    assert problem_of(response, 400, "invalid") == [("Idempotency-Key", "length")]


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}],
)
async def test_a_foreign_web_page_changes_nothing(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.api.answers["run-count"] = lambda _: Count(count=3)
    problem_of(await gateway.http.post(f"/runs/{RUN_ID}/cancel", headers=headers), 403, "forbidden")
    response = await gateway.http.get("/runs/count", headers=headers)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    gateway.api.answers["run-cancel"] = lambda _: run.CancelReply(run_id=RUN_ID, status="cancelled")
    own = {"sec-fetch-site": "same-origin", "origin": gateway.service.url}
    assert (await gateway.http.post(f"/runs/{RUN_ID}/cancel", headers=own)).status_code == 200


async def test_more_requests_than_the_bound_are_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagnats_core.limits.HTTP_REQUESTS_IN_FLIGHT_MAX", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> Count:
        asked.set()
        await go_on.wait()
        return Count(count=1)

    gateway.api.answers["run-count"] = slow
    first = asyncio.create_task(gateway.http.get("/runs/count"))
    await asked.wait()
    problem_of(await gateway.http.get("/runs/count"), 429, "busy")
    assert (await gateway.http.get("/health")).status_code == 200
    go_on.set()
    assert (await first).status_code == 200


async def test_nothing_is_said_of_the_software(gateway: Gateway) -> None:
    response = await gateway.http.get("/health")
    assert "server" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
