"""Answers to `$SRV.PING|INFO|STATS` (ADR-32), so that stock `nats micro` reads the service. No requests here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import structlog
from nats.aio.subscription import Subscription

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import DagNatsError
from dagnats_micro.runner import Runner

SERVICE_NAME = "dagnats"
DESCRIPTION = "DagNats: durable DAG workflows on NATS JetStream"
TYPE = "io.nats.micro.v1"

log = structlog.get_logger("dagnats.api")
_encode = msgspec.json.Encoder().encode


class Identity(msgspec.Struct, frozen=True):
    """What every discovery answer says of this instance."""

    id: str
    version: str
    metadata: dict[str, str]
    name: str = SERVICE_NAME


class Discovery:
    """The nine subscriptions of one instance, answering between `start` and `stop`."""

    def __init__(self, connection: Connection, identity: Identity, runners: Sequence[Runner]) -> None:
        self._connection = connection
        self._identity = identity
        self._runners = runners
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._subscriptions: list[Subscription] = []
        self._ping = _encode({"type": f"{TYPE}.ping_response", **msgspec.structs.asdict(identity)})
        self._info = _encode(self._info_reply())
        if len(self._info) > limits.MESSAGE_BYTES_MAX:
            raise ValueError(f"the INFO answer has {len(self._info)} bytes: more than MESSAGE_BYTES_MAX")

    async def start(self) -> None:
        answers: dict[str, Callable[[], bytes]] = {
            "PING": lambda: self._ping,
            "INFO": lambda: self._info,
            "STATS": lambda: _encode(self._stats_reply()),
        }
        name = self._identity.name
        for verb, answer in answers.items():
            for target in ("", f".{name}", f".{name}.{self._identity.id}"):
                subscription = await self._connection.subscribe_fast(
                    f"$SRV.{verb}{target}", partial(self._on_request, answer)
                )
                self._subscriptions.append(subscription)

    async def stop(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await self._connection.unsubscribe_fast(subscription)

    def _on_request(self, answer: Callable[[], bytes], message: FastMessage) -> None:
        if not message.reply:
            return
        try:
            self._connection.publish_raw(message.reply, answer())
        except DagNatsError as error:
            log.warning("discovery not answered", error=error.message)

    def _info_reply(self) -> dict[str, Any]:
        return {
            "type": f"{TYPE}.info_response",
            **msgspec.structs.asdict(self._identity),
            "description": DESCRIPTION,
            "endpoints": [
                {
                    "name": runner.endpoint.name,
                    "subject": runner.subject,
                    "queue_group": runner.queue,
                    "metadata": metadata_of(runner),
                }
                for runner in self._runners
            ],
        }

    def _stats_reply(self) -> dict[str, Any]:
        return {
            "type": f"{TYPE}.stats_response",
            **msgspec.structs.asdict(self._identity),
            "started": self._started,
            "endpoints": [_stats_of(runner) for runner in self._runners],
        }


def metadata_of(runner: Runner) -> dict[str, str]:
    """What an endpoint says of itself: schemas as JSON text, and how the other front doors name it."""
    endpoint = runner.endpoint
    return {
        "summary": endpoint.summary,
        "http": f"{endpoint.http.method} {endpoint.http.path}",
        "role": endpoint.role,
        "mutating": "true" if endpoint.mutating else "false",
        "request_schema": _schema(endpoint.request),
        "reply_schema": _schema(endpoint.reply),
    }


def _schema(struct: type[msgspec.Struct]) -> str:
    return _encode(msgspec.json.schema(struct)).decode()


def _stats_of(runner: Runner) -> dict[str, Any]:
    stats = runner.stats
    return {
        "name": runner.endpoint.name,
        "subject": runner.subject,
        "queue_group": runner.queue,
        "num_requests": stats.requests,
        "num_errors": stats.errors,
        "last_error": stats.last_error,
        "processing_time": stats.processing_ns,
        "average_processing_time": stats.processing_ns // stats.requests if stats.requests else 0,
    }
