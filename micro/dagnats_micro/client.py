"""The typed client of the control plane: one call for every row of the table, from any server that reaches the site.

Large inputs go to the payload store and large outputs come from it without the caller's doing. What may not live here:
anything that one endpoint alone needs, beyond the few helpers that stand on several calls (payloads, paged outputs).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import NoResponders
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.errors import DagNatsError, Invalid, NotFound, Problem, TooLarge, Unavailable
from dagnats_micro import errors
from dagnats_micro.endpoint import Endpoint, Rep, Req
from dagnats_micro.schemas import payload, run, wf
from dagnats_micro.schemas.common import PayloadRef, Request
from dagnats_micro.table import BY_NAME, PAYLOAD_GET, PAYLOAD_PUT, RUN_OUTPUT, WF_START

SERVICE_NAME = "dagnats"
DISCOVERY_WAIT_S = 0.3
"""How long instances are given to answer a discovery ping; leaf links add their round trip."""
AGAIN_DELAY_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
"""Pauses before a request is sent again that nobody took, or whose connection broke; then the error is raised."""
CALLS_IN_FLIGHT = 1024
"""Calls of one client that are out at a time; those that wait for something to happen do not count. More would be told
`busy`, where one program starts ten thousand runs at once."""
CHUNKS_IN_FLIGHT = 4
STARTS_PER_S_MIN = 50
"""What `run.start-many` is given time for."""
NATURAL_KEYS = frozenset({"run-cancel", "dlq-replay", "worker-connect", "worker-beat", "payload-put"})
"""Mutating endpoints that mean the same when they are sent twice, without a request id."""

_encode = msgspec.json.Encoder().encode
_decoders: dict[str, Callable[[bytes], Any]] = {
    name: msgspec.json.Decoder(endpoint.reply).decode for name, endpoint in BY_NAME.items()
}


class SiteInfo(msgspec.Struct, frozen=True):
    """One site, as one of its instances describes it."""

    site: str
    site_id: str
    domain: str
    version: str
    role: str


class MicroClient:
    """Calls endpoints of one site over one connection. Any number of calls may be in flight."""

    def __init__(self, connection: Connection, site: str) -> None:
        self.connection = connection
        self.site = site
        self._subjects = Subjects(site)
        self._turn = asyncio.Semaphore(CALLS_IN_FLIGHT)

    async def call(self, endpoint: Endpoint[Req, Rep], request: Req, timeout_s: float | None = None) -> Rep:
        """Ask and be answered. Default timeout: 5 s, and what the request itself asks for (waits, many starts).

        Raises the error that the service answers, by its code; Unavailable if nobody answers, TimedOut if the
        answer does not come in time. Asks again by itself only where a second arrival changes nothing.
        """
        body = _encode(request)
        if len(body) > limits.INLINE_BYTES_MAX and endpoint.name == WF_START.name:
            body = _encode(await self._with_input_stored(request))
        if len(body) > limits.MESSAGE_BYTES_MAX:
            most = limits.MESSAGE_BYTES_MAX
            raise TooLarge(f"the request has {len(body)} bytes: more than {most} (MESSAGE_BYTES_MAX)")
        if timeout_s is None:
            timeout_s = _usual_timeout_s(request)
        if getattr(request, "wait_ms", 0):
            message = await self._ask(endpoint, request, body, timeout_s)
        else:
            async with self._turn:
                message = await self._ask(endpoint, request, body, timeout_s)
        error = errors.error_in(message)
        if error is not None:
            raise error
        reply: Rep = _decoders[endpoint.name](message.data)
        return reply

    async def put_payload(self, data: bytes) -> PayloadRef:
        """Store a value of up to 64 MiB; its reference. Raises TooLarge, StorageFull, Unavailable, TimedOut."""
        if len(data) > limits.PAYLOAD_BYTES_MAX:
            most = limits.PAYLOAD_BYTES_MAX
            raise TooLarge(f"the value has {len(data)} bytes: more than {most} (PAYLOAD_BYTES_MAX)")
        payload_id = ids.base32(secrets.randbits(130), 26)
        size = limits.PAYLOAD_CHUNK_BYTES_MAX
        chunks = [data[at : at + size] for at in range(0, len(data), size)] or [b""]

        async def put(index: int) -> None:
            await self.call(PAYLOAD_PUT, payload.PutRequest(id=payload_id, index=index, data=chunks[index]))

        await _in_groups(put, len(chunks) - 1)
        seal = payload.PutRequest(
            id=payload_id, index=len(chunks) - 1, data=chunks[-1], last=True,
            sha256=hashlib.sha256(data).hexdigest(), size=len(data),
        )  # fmt: skip
        reply = await self.call(PAYLOAD_PUT, seal)
        if reply.ref is None:
            raise DagNatsError(f"payload {payload_id} was not sealed")
        return reply.ref

    async def get_payload(self, ref: PayloadRef) -> bytes:
        """Read a stored value. Raises NotFound, also if what is stored is not what `ref` names."""
        count = max(1, -(-ref.size // limits.PAYLOAD_CHUNK_BYTES_MAX))
        chunks: list[bytes] = [b""] * count

        async def get(index: int) -> None:
            chunks[index] = (await self.call(PAYLOAD_GET, payload.GetRequest(id=ref.id, index=index))).data

        await _in_groups(get, count)
        data = b"".join(chunks)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise NotFound(f"payload {ref.id} is damaged: its hash is not {ref.sha256}")
        return data

    async def read_output(self, run_id: str, step: str | None = None) -> bytes:
        """The output of a run, or of one of its steps, as JSON text, however large. `null` while there is none."""
        reply = await self.call(RUN_OUTPUT, run.OutputRequest(run_id=run_id, step=step))
        if reply.chunk is None:
            return _encode(reply.output)
        chunks = [reply.chunk]
        while reply.next_offset is not None:
            request = run.OutputRequest(run_id=run_id, step=step, offset=reply.next_offset)
            reply = await self.call(RUN_OUTPUT, request)
            chunks.append(reply.chunk or b"")
        return b"".join(chunks)

    async def _with_input_stored(self, request: Request) -> Request:
        if not isinstance(request, wf.StartRequest) or request.input is None:
            return request
        data = _encode(request.input)
        if len(data) <= limits.INLINE_BYTES_MAX:
            return request
        return msgspec.structs.replace(request, input=None, input_ref=await self.put_payload(data))

    async def _ask(self, endpoint: Endpoint[Any, Any], request: Request, body: bytes, timeout_s: float) -> FastMessage:
        subject = self._subjects.api(endpoint.noun, endpoint.verb)
        repeatable = is_repeatable(endpoint, request)
        delays = iter(AGAIN_DELAY_S)
        while True:
            try:
                return await self.connection.request(subject, body, timeout_s)
            except Unavailable as error:
                delay = next(delays, None) if repeatable else None
                if delay is None and isinstance(error, NoResponders):
                    url = self.connection.url
                    raise Unavailable(f"no API service of site {self.site!r} answers at {url}") from error
                if delay is None:
                    raise
            await asyncio.sleep(delay)


def _usual_timeout_s(request: Request) -> float:
    wait_ms: int = getattr(request, "wait_ms", 0)
    starts = len(request.inputs) if isinstance(request, run.StartManyRequest) else 0
    return (limits.REQUEST_TIMEOUT_MS + wait_ms) / limits.SECOND_MS + starts / STARTS_PER_S_MIN


def is_repeatable(endpoint: Endpoint[Any, Any], request: Request) -> bool:
    """Whether sending `request` twice means the same as sending it once."""
    if not endpoint.mutating or endpoint.name in NATURAL_KEYS:
        return True
    return getattr(request, "request_id", None) is not None


async def _in_groups(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """`work(0)` … `work(count - 1)`, `CHUNKS_IN_FLIGHT` at a time."""
    for first in range(0, count, CHUNKS_IN_FLIGHT):
        await asyncio.gather(*(work(index) for index in range(first, min(first + CHUNKS_IN_FLIGHT, count))))


# ---- discovery


class _Ping(msgspec.Struct):
    metadata: dict[str, str] = {}


_decode_ping = msgspec.json.Decoder(_Ping).decode


async def discover(connection: Connection, wait_s: float = DISCOVERY_WAIT_S) -> list[SiteInfo]:
    """The sites that answer within `wait_s`, by name; one entry for each site id."""
    return await _ping(connection, wait_s, lambda _: False)


async def resolve_site(connection: Connection, wanted: str | None = None) -> str:
    """The site to talk to: the one wanted; else that of the server connected to; else the only one that answers.

    A server's site is the one whose JetStream domain the server is in; of several, the one of the domain's name.
    Raises Invalid for a name that is none or when several answer (it lists them), Unavailable when none does.
    """
    if wanted is not None:
        if not ids.is_site(wanted):
            problem = Problem("site", "site", f"it must match {ids.SITE_PATTERN}")
            raise Invalid(f"{wanted[:80]!r} is not a site name", [problem])
        return wanted
    domain = connection.server_info.get("domain")
    sites = await _ping(connection, DISCOVERY_WAIT_S, lambda site: site.site == site.domain == domain)
    near = {site.site for site in sites if domain and site.domain == domain}
    names = near & {domain} or near or {site.site for site in sites}
    if len(names) == 1:
        return names.pop()
    if not names:
        raise Unavailable(f"no site answers at {connection.url}")
    found = ", ".join(sorted(names))
    raise Invalid(f"several sites answer: {found}; choose one", [Problem("site", "ambiguous", found)])


async def _ping(connection: Connection, wait_s: float, enough: Callable[[SiteInfo], bool]) -> list[SiteInfo]:
    """Ask every instance who it is, until `enough` says so or the time is over."""
    found: dict[str, SiteInfo] = {}
    done = asyncio.Event()

    def on_reply(message: FastMessage) -> None:
        if message.status == 503:
            done.set()
            return
        try:
            site = msgspec.convert(_decode_ping(message.data).metadata, SiteInfo)
        except ValueError:
            return  # another service of that name
        found[site.site_id] = site
        if enough(site):
            done.set()

    reply, close = connection.collect(on_reply)
    try:
        connection.publish_raw(f"$SRV.PING.{SERVICE_NAME}", b"", reply)
        await asyncio.wait_for(done.wait(), wait_s)
    except TimeoutError:
        pass
    finally:
        close()
    return sorted(found.values(), key=lambda site: (site.site, site.site_id))
