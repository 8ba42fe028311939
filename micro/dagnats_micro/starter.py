"""Starting runs: from an order, or from a run that has ended, to `in.start`; exactly once for each run id."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dagnats_core import ids, limits
from dagnats_core.bus.errors import BatchRefused, PublishTimeout, WrongSequence
from dagnats_core.bus.publish import OutMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.definitions import Definitions
from dagnats_core.engine.payloads import Payloads
from dagnats_core.errors import Conflict, Invalid, Problem, TimedOut, Unavailable
from dagnats_core.run import messages as m
from dagnats_micro.runs import Runs
from dagnats_micro.values import checked

SEED_BYTES_MAX = limits.MESSAGE_BYTES_MAX - limits.INLINE_BYTES_MAX - 64 * limits.KIB
"""What the seed of a retried run may take of `in.start`, beside the run's input and its tags."""
PUBLISH_TRIES = 2
"""A publish that timed out may be stored: it is sent again, and the server says which it was."""

_NEW = b"Nats-Expected-Last-Subject-Sequence: 0\r\n"
_encode = msgspec.json.Encoder().encode


class Order(NamedTuple):
    """What a caller wants started. `version` None: the current one."""

    workflow: str
    input: Raw | None = None
    input_ref: m.Ref | None = None
    version: int | None = None
    tags: m.Labels | None = None
    request_id: str | None = None


class Started(NamedTuple):
    """`created` False: the request id had started the run before; `status` is what has become of it."""

    run_id: str
    version: int
    created_at: int
    status: m.RunStatus
    created: bool


class Starter:
    """Starts runs of a site. `committers`: one a shard."""

    def __init__(
        self,
        subjects: Subjects,
        partitions: int,
        committers: list[Committer],
        definitions: Definitions,
        payloads: Payloads,
        runs: Runs,
        now_ms: Callable[[], int],
    ) -> None:
        self._subjects = subjects
        self._partitions = partitions
        self._committers = committers
        self._definitions = definitions
        self._payloads = payloads
        self._runs = runs
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(secrets.randbits(256))  # ids are no secrets, and one system call a run is dear

    async def start(self, order: Order) -> Started:
        """Start a run, or find the one that the same order had started.

        Raises NotFound for the workflow or version, Invalid for the input, Conflict if the request id had another
        order, StorageFull, Unavailable, TimedOut.
        """
        version = await self._definitions.resolve(order.workflow, order.version)
        value, digest = await self._input_of(order, version.hash)
        inline, ref = (value, None) if isinstance(value, Raw) else (UNSET, value)
        now = self._now_ms()
        start = m.Start(
            v=m.FORMAT,
            at=now,
            workflow=order.workflow,
            version=version.version,
            hash=version.hash,
            input=inline,
            input_ref=ref,
            tags=order.tags or [],
            request_id=order.request_id or "",
            digest=digest,
        )
        if order.request_id is None:
            return await self._submit(self._new_run_id(now), start)
        run_id = ids.requested_run_id(order.workflow, order.request_id, self._partitions)
        return await self._submit_once(run_id, start)

    async def again(self, final: m.FinalRun, *, reuse: bool, key: str | None) -> Started:
        """Run an ended or parked run again: a new run of the same version, input and tags, `retry_of` the old one.

        `reuse`: what had completed is taken over. `key`: names this very repetition (the same key again finds the
        same run); None = each call is another.
        """
        now = self._now_ms()
        seed = {step.id: _seed_of(step) for step in final.steps if step.status == "completed"} if reuse else {}
        start = m.Start(
            v=m.FORMAT,
            at=now,
            workflow=final.workflow,
            version=final.version,
            hash=final.hash,
            input=final.input,
            input_ref=final.input_ref,
            tags=final.tags,
            digest=hashlib.sha256(_encode((final.run_id, reuse))).hexdigest()[:32] if key is not None else "",
            retry_of=final.run_id,
            seed=await self._fitting(seed),
        )
        if key is None:
            return await self._submit(self._new_run_id(now), start)
        return await self._submit_once(self.id_of_repeat(final.run_id, key), start)

    def id_of_repeat(self, run_id: str, key: str) -> str:
        """The id of the run that `again` starts of `run_id` under `key`."""
        return ids.requested_run_id(f"{run_id} {key}", "", self._partitions)

    def _new_run_id(self, now_ms: int) -> str:
        return ids.new_run_id(now_ms, self._random.getrandbits(80), self._partitions)

    async def _submit_once(self, run_id: str, start: m.Start) -> Started:
        """`_submit` for an id that may have been started before, and may have left the log since.

        Asking the index first also spares the log: one refused start costs a whole batch another round.
        """
        known = await self._runs.find_listed(run_id)
        return _known(run_id, start, known) if known is not None else await self._submit(run_id, start)

    async def _submit(self, run_id: str, start: m.Start) -> Started:
        """Publish `in.start`, or find the run of that id that the log holds; Conflict if that is another order's."""
        partition = ids.partition_of(run_id)
        message = OutMessage(self._subjects.start(partition, run_id), m.encode(start), _NEW)
        unknown = False
        for _ in range(PUBLISH_TRIES):
            try:
                await self._commit(partition, message)
                return Started(run_id, start.version, start.at, "pending", True)
            except PublishTimeout:
                unknown = True
            except (WrongSequence, BatchRefused):
                known = await self._runs.find(run_id)
                if known is not None and unknown and known.created_at == start.at and known.digest == start.digest:
                    return Started(run_id, start.version, start.at, known.status, True)
                if known is not None:
                    return _known(run_id, start, known)
        if unknown:
            raise TimedOut(f"whether run {run_id} was started is unknown: the log does not answer")
        raise Unavailable("the log refuses new runs now: try again")

    def _commit(self, partition: int, message: OutMessage) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        committer = self._committers[partition % len(self._committers)]
        committer.submit((message,), partial(_settle, done))
        return done

    async def _input_of(self, order: Order, content_hash: str) -> tuple[m.Value, str]:
        """The run's input as the log carries it, and the order's digest (empty without a request id)."""
        plan = await self._definitions.plan(order.workflow, content_hash)
        ref, data = order.input_ref, b"null"
        if ref is not None:
            if order.input is not None:
                problem = Problem("input_ref", "exclusive", "there is an `input` too")
                raise Invalid("a run has one input: `input` or `input_ref`", [problem])
            await self._payloads.check(ref)
            if plan.input_schema is not None:
                data = checked(await self._payloads.get(ref), "input")
        elif order.input is not None:
            data = checked(order.input, "input")
        if plan.input_schema is not None:
            found = plan.input_schema.check(Raw(data))
            if found:
                problems = [Problem(_below_input(problem.path), problem.rule, problem.message) for problem in found]
                raise Invalid(f"the input does not fit the input schema of {order.workflow}", problems)
        if order.request_id is None:
            return await self._stored(ref, data), ""
        sha256 = ref.sha256 if ref is not None else hashlib.sha256(data).hexdigest()
        parts = (order.workflow, order.version, sha256, order.tags or [])
        return await self._stored(ref, data), hashlib.sha256(_encode(parts)).hexdigest()[:32]

    async def _fitting(self, seed: dict[str, m.Seed]) -> dict[str, m.Seed]:
        """`seed` with its largest outputs put into the payload store, as many as must be."""
        size = len(m.encode(seed))
        for step_id in sorted(seed, key=lambda step_id: -_size(seed[step_id].output)):
            output = seed[step_id].output
            if size <= SEED_BYTES_MAX or output is UNSET:
                break
            ref = await self._payloads.put(bytes(output))
            size -= _size(output)
            seed[step_id] = msgspec.structs.replace(seed[step_id], output=UNSET, output_ref=ref)
        return seed

    async def _stored(self, ref: m.Ref | None, data: bytes) -> m.Value:
        if ref is not None:
            return ref
        return Raw(data) if len(data) <= limits.INLINE_BYTES_MAX else await self._payloads.put(data)


def _seed_of(step: m.FinalStep) -> m.Seed:
    return m.Seed(
        output=step.output,
        output_ref=step.output_ref,
        attempt=step.attempt,
        worker_id=step.worker_id,
        started_at=step.started_at,
        ended_at=step.ended_at,
    )


def _size(output: Raw | UnsetType) -> int:
    return 0 if output is UNSET else len(bytes(output))


def _below_input(path: str) -> str:
    return f"input{path}" if path.startswith("[") else f"input.{path}".rstrip(".")


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(None)


def _known(run_id: str, start: m.Start, known: m.FinalRun) -> Started:
    if known.digest != start.digest:
        raise Conflict(f"run {run_id} was started with the same request id by another request")
    return Started(run_id, known.version, known.created_at, known.status, False)
