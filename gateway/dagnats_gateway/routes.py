"""The routes of the endpoint table, made in a loop: each reads its request by its binding, calls, and
answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from dagnats_gateway import stream
from dagnats_gateway.body import BodyBudget, Take, declared_bytes, read_body
from dagnats_gateway.calls import Calls
from dagnats_gateway.media import EVENT_STREAM, JSON, body_type, negotiate
from dagnats_gateway.translate import Binding, Received, bind, path_fits, to_request
from dagnats_micro import Busy, Invalid, Problem, Unavailable, limits
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas.run import EventList, EventsRequest
from dagnats_micro.table import ENDPOINTS

HttpRequest = Request[Any, Any, Any]
NO_STORE = {"cache-control": "no-store"}


class Routes:
    """The handlers of the table's rows, and what they share: the calls, the budget of bodies, the streams
    open."""

    def __init__(self, calls: Calls, endpoints: Sequence[Endpoint[Any, Any]] = ENDPOINTS) -> None:
        self._calls = calls
        self._bindings = [bind(endpoint) for endpoint in endpoints]
        self._budget = BodyBudget()
        self._streams_open = 0

    def handlers(self) -> list[HTTPRouteHandler]:
        """One handler a row; and for a path like `/workflows/validate` the other methods of
        `/workflows/{name}`, which the router would not find behind it."""
        found = [self._handler(binding, binding.endpoint.http.path, {}) for binding in self._bindings]
        found += [self._handler(binding, path, fixed) for binding, path, fixed in hidden(self._bindings)]
        return found

    def _handler(self, binding: Binding, path: str, fixed: Mapping[str, str]) -> HTTPRouteHandler:
        async def handle(request: HttpRequest) -> Response[Any]:
            return await self._answer(binding, request, {**fixed, **request.path_params})

        template = re.sub(r"\{(\w+)\}", r"{\1:str}", path)
        http = binding.endpoint.http
        return HTTPRouteHandler(template, http_method=http.method, status_code=http.status)(handle)

    async def _answer(self, binding: Binding, http: HttpRequest, path: Mapping[str, str]) -> Response[Any]:
        media = negotiate(http.headers.get("accept", ""), binding.answer_types)
        with self._budget.holding() as take:
            request = to_request(binding, await _receive(binding, http, path, take))
            if isinstance(request, EventsRequest):
                request = stream.resumed(request, http.headers.get("last-event-id"))
                if media == EVENT_STREAM:
                    return await self._stream(binding, request)
            reply = await self._calls.call(binding.endpoint, request)
        return Response(
            msgspec.json.encode(reply),
            status_code=status_of(binding, reply),
            media_type=JSON,
            headers={**NO_STORE, **location_of(binding, self._bindings, reply)},
        )

    async def _stream(self, binding: Binding, request: EventsRequest) -> Response[Any]:
        if self._streams_open >= limits.HTTP_STREAMS_MAX:
            raise Busy(f"{limits.HTTP_STREAMS_MAX} event streams are open (HTTP_STREAMS_MAX)")
        first = await self._calls.call(binding.endpoint, msgspec.structs.replace(request, wait_ms=0))
        texts = self._counted(stream.events(request, first, partial(self._poll, binding.endpoint)))
        return Stream(texts, status_code=200, media_type=EVENT_STREAM, headers=NO_STORE)

    async def _counted(self, texts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._streams_open += 1
        try:
            async for text in texts:
                yield text
        finally:
            self._streams_open -= 1

    async def _poll(self, endpoint: Endpoint[Any, EventList], request: EventsRequest) -> EventList | None:
        try:
            return await self._calls.call(endpoint, request)
        except Unavailable:
            if self._calls.stopping:
                return None
            raise


async def _receive(binding: Binding, http: HttpRequest, path: Mapping[str, str], take: Take) -> Received:
    """What the request holds, its body read. Raises what a body of that type or size is refused with."""
    declared = declared_bytes(http.headers)
    query = http.scope["query_string"]
    key = http.headers.get("idempotency-key")
    if declared == 0:
        return Received(path, query, idempotency_key=key)
    if not binding.takes_body:
        method = binding.endpoint.http.method
        raise Invalid(f"{method} takes no body here", [Problem("body", "unknown_field", "send it without one")])
    content_type, encoding = http.headers.get("content-type", ""), http.headers.get("content-encoding", "")
    media = body_type(content_type, encoding, binding.body_types)
    body = await read_body(http.receive, declared, binding.body_bytes_max, take)
    return Received(path, query, body, media, key)


def options(handlers: Sequence[HTTPRouteHandler]) -> Iterator[HTTPRouteHandler]:
    """Handlers that answer OPTIONS on every path of `handlers`.

    To be registered before those: the framework makes its
    own as soon as a path has a handler."""
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            methods.setdefault(path, set()).update(handler.http_methods)
    for path, names in methods.items():
        yield _options(path, allow(names))


def _options(path: str, allowed: str) -> HTTPRouteHandler:
    def answer() -> None: ...

    headers = {"allow": allowed}
    return HTTPRouteHandler(
        path, http_method="OPTIONS", status_code=204, response_headers=headers, sync_to_thread=False
    )(answer)


def allow(methods: Iterable[str]) -> str:
    """The Allow header of a path with these methods: what takes GET takes HEAD, and all take OPTIONS."""
    return ", ".join(sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())}))


def status_of(binding: Binding, reply: Any) -> int:
    """The row's status, or 200 if what it makes was there already."""
    return 200 if binding.may_exist_already and not reply.created else binding.endpoint.http.status


def location_of(binding: Binding, bindings: Sequence[Binding], reply: Any) -> dict[str, str]:
    """The Location of what was made: the path of the row that reads it, by a field of the reply."""
    if binding.endpoint.http.status != 201:
        return {}
    for other in bindings:
        http = other.endpoint.http
        name = other.in_path[0].name if len(other.in_path) == 1 else ""
        if http.method == "GET" and http.path.endswith(f"/{{{name}}}") and name in reply.__struct_fields__:
            return {"location": http.path.replace(f"{{{name}}}", getattr(reply, name))}
    return {}


def hidden(bindings: Sequence[Binding]) -> Iterator[tuple[Binding, str, dict[str, str]]]:
    """Rows that a path without parameters hides from the router: (row, that path, the parameters it stands for)."""
    taken = {(binding.endpoint.http.method, binding.endpoint.http.path) for binding in bindings}
    for path in sorted({path for _, path in taken if "{" not in path}):
        for binding in bindings:
            http = binding.endpoint.http
            found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", http.path), path)
            if found and (http.method, path) not in taken and path_fits(binding, found.groupdict()):
                yield binding, path, found.groupdict()
