"""The other side of a worker's wire: queues, an owner that answers reports, payloads, a registry.

It stands on a real nats-server. It decides nothing: a test hands out tasks and says how reports are answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_core.bus.jetstream import api
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects, task_token
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError, NotFound
from dagnats_core.run import messages as m
from dagnats_micro import errors
from dagnats_micro.schemas import payload, wf, worker
from dagnats_micro.schemas.common import PayloadRef

NS = 1_000_000
OUTCOMES = ("completed", "failed", "worker_lost")

Answer = Callable[[m.Report, m.Task | None], str | None]


def accept_all(report: m.Report, _task: m.Task | None) -> str:
    return "go" if report.kind == "claim" else "stored"


def output_of(report: m.Report) -> Any:
    """The value that an attempt completed with."""
    assert report.kind == "completed", report
    assert isinstance(report.output, Raw)
    return msgspec.json.decode(report.output)


class FakeSite:
    """`answer` decides what a report gets: an answer, or None for silence. Everything that came is kept."""

    def __init__(self, connection: Connection, site: str) -> None:
        self.connection = connection
        self.site = site
        self.subjects = Subjects(site)
        self.stream = Topology(site).run_stream(0)
        self.answer: Answer = accept_all
        self.ack_wait_ms = limits.ACK_WAIT_MS
        self.claim_after_ms = limits.CLAIM_AFTER_MS
        self.reports: list[m.Report] = []
        self.bodies: list[bytes] = []
        self.beats: list[worker.BeatRequest] = []
        self.registered: list[wf.RegisterRequest] = []
        self.connects = 0
        self.payloads: dict[str, dict[int, bytes]] = {}
        self.progress: list[dict[str, Any]] = []
        self._tasks: dict[str, m.Task] = {}
        self._changed = asyncio.Condition()
        self._jobs: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        config = {"name": self.stream, "subjects": [f"{self.subjects.prefix}.run.>"], "storage": "file"}
        await api(self.connection, f"STREAM.CREATE.{self.stream}", config, dict)
        subscribe = self.connection.subscribe_fast
        await subscribe(f"{self.subjects.prefix}.report.>", self._on_report)
        await subscribe(f"{self.subjects.prefix}.progress.>", self._on_progress)
        await subscribe(f"{self.subjects.prefix}.api.>", self._on_request)
        await subscribe("$SRV.PING.dagnats", self._on_ping)

    # -- tasks out

    async def hand_out(
        self,
        task: str,
        input: Any = UNSET,
        *,
        group: str = "",
        run_id: str = "",
        step: str = "a",
        **fields: Any,
    ) -> m.Task:
        """Publish one task message, as the engine does."""
        run_id = run_id or ids.new_run_id(time.time_ns() // NS, secrets.randbits(80), 16)
        raw = UNSET if input is UNSET else Raw(msgspec.json.encode(input))
        nonce = secrets.token_hex(12)
        body = m.Task(
            run_id,
            step,
            task,
            fields.pop("attempt", 1),
            nonce,
            "flow",
            time.time_ns() // NS,
            input=raw,
            **fields,
        )
        self._tasks[nonce] = body
        await self.publish(body, group)
        return body

    async def publish(self, task: m.Task, group: str = "") -> None:
        subject = self.subjects.task(
            ids.partition_of(task.run_id), task.run_id, task_token(task.task, group), secrets.randbits(40)
        )
        decision = m.Decision(v=m.FORMAT, n=1, after=1, at=task.at, task=task)
        await self.connection.request(subject, m.encode(decision), 5)

    def notify_cancelled(self, task: m.Task, group: str = "") -> None:
        notice = m.CancelNotice(task.run_id)
        self.connection.publish_raw(self.subjects.cancel_notice(task_token(task.task, group)), m.encode(notice))

    # -- what came

    def reports_of(self, task: m.Task, *kinds: str) -> list[m.Report]:
        return [each for each in self.reports if each.nonce == task.nonce and (not kinds or each.kind in kinds)]

    async def outcome(self, task: m.Task, timeout_s: float = 10) -> m.Report:
        """The first outcome that was reported of an attempt."""
        await self.until(lambda: bool(self.reports_of(task, *OUTCOMES)), timeout_s)
        return self.reports_of(task, *OUTCOMES)[0]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10) -> None:
        """Return once `condition` holds; it is looked at whenever something came."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(condition)

    async def unacknowledged(self, task: str, group: str = "") -> int:
        """Tasks of a queue that are handed out or wait."""
        consumer = Topology(self.site).task_consumer(task_token(task, group))
        info = await api(self.connection, f"CONSUMER.INFO.{self.stream}.{consumer}", None, dict[str, Any])
        return int(info["num_ack_pending"]) + int(info["num_pending"])

    async def all_acknowledged(self, task: str, timeout_s: float = 10, *, but: int = 0) -> None:
        """Return once all tasks of a queue `but` so many are acknowledged."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while await self.unacknowledged(task) > but:
            assert asyncio.get_running_loop().time() < deadline, "tasks are not acknowledged in time"

    # -- the wire

    def _on_report(self, message: FastMessage) -> None:
        report = m.decode_report(message.data)
        self.reports.append(report)
        self.bodies.append(message.data)
        answer = self.answer(report, self._tasks.get(report.nonce))
        if answer is not None:
            self._reply(message, {"answer": answer})
        self._wake()

    def _on_progress(self, message: FastMessage) -> None:
        self.progress.append(msgspec.json.decode(message.data))
        self._wake()

    def _on_ping(self, message: FastMessage) -> None:
        metadata = {"site": self.site, "site_id": self.site, "domain": "", "version": "0", "role": "api"}
        self._reply(message, {"name": "dagnats", "id": "x", "metadata": metadata})

    def _on_request(self, message: FastMessage) -> None:
        job = asyncio.get_running_loop().create_task(self._serve(message))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _serve(self, message: FastMessage) -> None:
        name = ".".join(message.subject.split(".")[3:])
        try:
            self._reply(message, await getattr(self, "_" + name.replace(".", "_").replace("-", "_"))(message.data))
        except DagNatsError as error:
            headers, body = errors.encode_error(error)
            self.connection.publish_raw(message.reply, body, header_block=headers)
        self._wake()

    async def _worker_connect(self, data: bytes) -> worker.ConnectReply:
        request = msgspec.json.decode(data, type=worker.ConnectRequest)
        self.connects += 1
        queues = []
        for each in request.tasks:
            token = task_token(each.task, each.group or "")
            consumer = Topology(self.site).task_consumer(token)
            config = {
                "durable_name": consumer,
                "ack_policy": "explicit",
                "ack_wait": self.ack_wait_ms * NS,
                "filter_subject": self.subjects.tasks_of(token),
                "max_ack_pending": limits.TASKS_IN_FLIGHT_MAX,
            }
            body = {"stream_name": self.stream, "config": config}
            await api(self.connection, f"CONSUMER.DURABLE.CREATE.{self.stream}.{consumer}", body, dict)
            queues.append(
                worker.Queue(
                    task=each.task,
                    group=each.group,
                    token=token,
                    stream=self.stream,
                    consumer=consumer,
                    domain=None,
                )
            )
        return worker.ConnectReply(
            site=self.site,
            queues=queues,
            ack_wait_ms=self.ack_wait_ms,
            max_ack_pending=limits.TASKS_IN_FLIGHT_MAX,
            deliveries_before_lost=limits.DELIVERIES_BEFORE_LOST,
            claim_after_ms=self.claim_after_ms,
            inline_bytes_max=limits.INLINE_BYTES_MAX,
            payload_chunk_bytes_max=limits.PAYLOAD_CHUNK_BYTES_MAX,
            version="0",
        )

    async def _worker_beat(self, data: bytes) -> worker.BeatReply:
        beat = msgspec.json.decode(data, type=worker.BeatRequest)
        self.beats.append(beat)
        return worker.BeatReply(worker_id=beat.worker_id)

    async def _wf_register(self, data: bytes) -> wf.RegisterReply:
        request = msgspec.json.decode(data, type=wf.RegisterRequest)
        self.registered.append(request)
        name = request.definition["name"]
        return wf.RegisterReply(name=name, version=1, hash="h", created=True, current=True, warnings=[])

    async def _payload_put(self, data: bytes) -> payload.PutReply:
        request = msgspec.json.decode(data, type=payload.PutRequest)
        self.payloads.setdefault(request.id, {})[request.index] = request.data
        ref = None
        if request.last:
            assert request.sha256 is not None
            assert request.size is not None
            ref = PayloadRef(id=request.id, size=request.size, sha256=request.sha256)
        return payload.PutReply(id=request.id, index=request.index, ref=ref)

    async def _payload_get(self, data: bytes) -> payload.GetReply:
        request = msgspec.json.decode(data, type=payload.GetRequest)
        chunks = self.payloads.get(request.id)
        if chunks is None:
            raise NotFound(f"no payload {request.id}")
        following = request.index + 1 if request.index + 1 in chunks else None
        size = sum(map(len, chunks.values()))
        return payload.GetReply(
            id=request.id, index=request.index, data=chunks[request.index], size=size, next_index=following
        )

    def keep(self, value: Any) -> m.Ref:
        """Put a value into the payload store; the reference that a task would carry."""
        data = msgspec.json.encode(value)
        payload_id = ids.base32(secrets.randbits(130), 26)
        size = limits.PAYLOAD_CHUNK_BYTES_MAX
        self.payloads[payload_id] = {at // size: data[at : at + size] for at in range(0, len(data), size)}
        return m.Ref(payload_id, len(data), hashlib.sha256(data).hexdigest())

    def kept(self, ref: m.Ref) -> bytes:
        chunks = self.payloads[ref.id]
        return b"".join(chunks[index] for index in sorted(chunks))

    def _reply(self, message: FastMessage, body: Any) -> None:
        if message.reply:
            self.connection.publish_raw(message.reply, msgspec.json.encode(body))

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        job = asyncio.get_running_loop().create_task(wake())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)


@asynccontextmanager
async def fake_site(nats_url: str) -> AsyncIterator[FakeSite]:
    """A site with a name of its own on the server at `nats_url`."""
    connection = await connect(ConnectOptions(urls=(nats_url,), name="fake-site"))
    site = FakeSite(connection, f"t{secrets.token_hex(6)}")
    await site.start()
    try:
        yield site
    finally:
        await connection.close()
