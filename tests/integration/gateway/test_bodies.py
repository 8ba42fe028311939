"""Large bodies: they arrive, or their sender reads 413. No connection is dropped before its answer is out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from dagnats_core import limits
from dagnats_micro.schemas import payload, wf
from dagnats_micro.schemas.common import Count, PayloadRef
from tests.integration.gateway.conftest import Gateway, running_gateway
from tests.integration.gateway.samples import started
from tests.integration.gateway.test_routes import problem_of
from tests.support.nats import NatsServer

MIB = 1024 * 1024
JSON = {"content-type": "application/json"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Payloads:
    """The payload store of a fake API."""

    def __init__(self, gateway: Gateway) -> None:
        self.chunks: dict[str, dict[int, bytes]] = {}
        gateway.api.answers["payload-put"] = self.put

    def put(self, request: payload.PutRequest) -> payload.PutReply:
        self.chunks.setdefault(request.id, {})[request.index] = request.data
        ref = None
        if request.last:
            data = self.read(request.id)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (request.size, request.sha256)
            ref = PayloadRef(id=request.id, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        return payload.PutReply(id=request.id, index=request.index, ref=ref)

    def read(self, payload_id: str) -> bytes:
        chunks = self.chunks[payload_id]
        return b"".join(chunks[index] for index in sorted(chunks))


def start_body(size: int) -> bytes:
    """A start whose body has `size` bytes; its input is a text."""
    head, tail = b'{"workflow":"greet","input":"', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize("size", [1000, limits.INLINE_BYTES_MAX, MIB - 1, MIB, MIB + 1, 10 * MIB, 64 * MIB])
async def test_an_input_of_any_size_up_to_the_bound_arrives(gateway: Gateway, size: int) -> None:
    payloads = Payloads(gateway)
    gateway.api.answers["wf-start"] = lambda _: started()
    body = start_body(size)
    response = await gateway.http.post("/runs", content=body, headers=JSON)
    assert response.status_code == 201, response.text
    start = gateway.api.requests[-1]
    if size > limits.INLINE_BYTES_MAX:
        assert payloads.read(start.input_ref.id) == body[len(b'{"workflow":"greet","input":') : -1]
    else:
        assert start.input == "x" * (size - len(b'{"workflow":"greet","input":""}'))


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 256 * 1024):
        yield body[at : at + 256 * 1024]


async def test_a_body_in_chunks_arrives(gateway: Gateway) -> None:
    Payloads(gateway)
    gateway.api.answers["wf-start"] = lambda _: started()
    response = await gateway.http.post("/runs", content=in_chunks(start_body(2 * MIB)), headers=JSON)
    assert response.status_code == 201, response.text


@pytest.mark.parametrize("size", [64 * MIB + 1, 100 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_bound_is_answered_413(gateway: Gateway, size: int, chunked: bool) -> None:
    body = start_body(size)
    content = in_chunks(body) if chunked else body
    response = await gateway.http.post("/runs", content=content, headers=JSON)
    problem_of(response, 413, "too_large")
    assert gateway.api.requests == []
    gateway.api.answers["run-count"] = lambda _: Count(count=1)
    assert (await gateway.http.get("/runs/count")).status_code == 200


async def test_what_must_fit_a_message_is_refused_above_it(gateway: Gateway) -> None:
    body = b'{"name": "' + b"x" * limits.MESSAGE_BYTES_MAX + b'"}'
    problem_of(await gateway.http.post("/workflows", content=body, headers=JSON), 413, "too_large")
    many = b'{"workflow": "a", "inputs": ["' + b"x" * limits.MESSAGE_BYTES_MAX + b'"]}'
    problem_of(await gateway.http.post("/runs/bulk", content=many, headers=JSON), 413, "too_large")


async def test_a_body_that_grows_when_it_is_translated_is_refused(gateway: Gateway) -> None:
    text = b"\x01" * (limits.MESSAGE_BYTES_MAX // 2)
    headers = {"content-type": "application/yaml"}
    problem_of(await gateway.http.post("/workflows", content=text, headers=headers), 413, "too_large")


@pytest.mark.parametrize("path", ["/nothing", "/workflows/a/b/c", "/health", "/runs/count"])
async def test_a_body_that_nobody_reads_does_not_cost_the_answer(gateway: Gateway, path: str) -> None:
    response = await gateway.http.post(path, content=b"x" * (20 * MIB), headers={"content-type": "text/plain"})
    assert response.status_code in (404, 405)
    assert response.headers["connection"] == "close"


async def exchange(gateway: Gateway, *pieces: bytes) -> bytes:
    """What the server sends back for these bytes until it closes the connection."""
    url = httpx.URL(gateway.service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_the_declared_length_alone_is_answered_at_once(gateway: Gateway) -> None:
    head = b"POST /runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    answer = await exchange(gateway, head + b"content-length: 1000000000\r\nexpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    assert b'"code":"too_large"' in answer


async def test_a_sender_that_goes_on_reads_its_answer(gateway: Gateway) -> None:
    url = httpx.URL(gateway.service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"POST /runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: 200000000\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        for _ in range(200):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        assert b'"code":"too_large"' in await reader.read()
    writer.close()


async def test_an_expected_body_is_asked_for(gateway: Gateway) -> None:
    gateway.api.answers["wf-start"] = lambda _: started()
    body = b'{"workflow":"a"}'
    url = httpx.URL(gateway.service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = "POST /runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(body)
        assert b"HTTP/1.1 201 " in await reader.read()
    writer.close()


async def test_a_body_that_stops_coming_is_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_WAIT_MS_MAX", 50)
    monkeypatch.setattr(limits, "HTTP_LINGER_MS_MAX", 50)
    head = b"POST /runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    answer = await exchange(gateway, head + b'content-length: 100\r\n\r\n{"workflow"')
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP_BODY_WAIT_MS_MAX" in answer


async def test_bodies_in_flight_are_bounded_together(shared_nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_BYTES_IN_FLIGHT_MAX", MIB)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: wf.StartRequest) -> wf.StartReply:
        asked.set()
        await go_on.wait()
        return started()

    async with running_gateway(shared_nats.url) as gateway:
        Payloads(gateway)
        gateway.api.answers["wf-start"] = slow
        first = asyncio.create_task(gateway.http.post("/runs", content=start_body(MIB - 1000), headers=JSON))
        async with asyncio.timeout(10):
            await asked.wait()
        second = start_body(2000)
        problem_of(await gateway.http.post("/runs", content=second, headers=JSON), 429, "busy")
        go_on.set()
        assert (await first).status_code == 201
        assert (await gateway.http.post("/runs", content=second, headers=JSON)).status_code == 201
