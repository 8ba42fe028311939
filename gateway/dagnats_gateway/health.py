"""What `/health` and `/ready` say. Health is exactly "NATS is connected and JetStream's API answers": every
other cause stands in `system.health`, so that a liveness probe never loops on a full disk."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

import msgspec

from dagnats_micro import DagNatsError, limits

JETSTREAM_API = "$JS.API"


class Message(Protocol):
    """A reply to a request."""

    @property
    def data(self) -> bytes: ...


class NatsConnection(Protocol):
    """What the probe needs of a connection to NATS."""

    @property
    def connected(self) -> bool: ...

    async def request(self, subject: str, data: bytes, timeout_s: float) -> Message: ...


class Probe(msgspec.Struct, kw_only=True):
    """The answer of a probe; `reason` says why it is not `ok`."""

    status: Literal["ok", "failing"]
    reason: str | None = None


class _ApiError(msgspec.Struct):
    description: str = "no reason given"


class _ApiInfo(msgspec.Struct):
    error: _ApiError | None = None


_info = msgspec.json.Decoder(_ApiInfo)


class Health:
    """Answers both probes. Ready is what `set_ready` last said; it starts as not ready."""

    def __init__(self, connection: NatsConnection, jetstream_api: str = JETSTREAM_API) -> None:
        self._connection = connection
        self._subject = f"{jetstream_api}.INFO"
        self._not_ready: str | None = "starting"

    def set_ready(self, ready: bool, reason: str = "stopping") -> None:
        self._not_ready = None if ready else reason

    def ready(self) -> Probe:
        return _probe(self._not_ready)

    async def health(self) -> Probe:
        """One request to JetStream's API, answered within `HEALTH_PROBE_MS_MAX` whatever happens."""
        if not self._connection.connected:
            return _probe("not connected to NATS")
        timeout_s = limits.HEALTH_PROBE_MS_MAX / 1000
        try:
            reply = await asyncio.wait_for(self._connection.request(self._subject, b"", timeout_s), timeout_s)
            error = _info.decode(reply.data).error
        except TimeoutError:
            return _probe(f"JetStream did not answer within {timeout_s:g} s")
        except DagNatsError as refusal:
            return _probe(f"JetStream does not answer: {refusal.message}")
        except msgspec.DecodeError:
            return _probe("JetStream's answer cannot be read")
        return _probe(f"JetStream refuses: {error.description}" if error else None)


def _probe(reason: str | None) -> Probe:
    return Probe(status="failing" if reason else "ok", reason=reason)
