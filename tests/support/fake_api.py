"""An API service of canned answers, on a real nats-server: for tests of what stands in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.aio.subscription import Subscription

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.errors import DagNatsError, Unavailable
from dagnats_micro.errors import encode_error
from dagnats_micro.schemas.common import Reply
from dagnats_micro.table import BY_NAME

Answer = Callable[[Any], Reply | Awaitable[Reply]]


class FakeApi:
    """Answers a request by `answers[endpoint name]`, which takes the struct, and keeps it in `requests`."""

    def __init__(self, connection: Connection, site: str) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[Any] = []
        self._connection = connection
        self._subjects = Subjects(site)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        subject = f"{self._subjects.prefix}.api.>"
        self._subscription = await self._connection.subscribe_fast(subject, self._on_message)

    async def stop(self) -> None:
        if self._subscription is not None:
            await self._connection.unsubscribe_fast(self._subscription)
        for task in self._tasks:
            task.cancel()

    def _on_message(self, message: FastMessage) -> None:
        task = asyncio.ensure_future(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: FastMessage) -> None:
        noun, verb = message.subject.split(".")[-2:]
        endpoint = BY_NAME[f"{noun}-{verb}"]
        try:
            request = msgspec.json.decode(message.data, type=endpoint.request)
            self.requests.append(request)
            if endpoint.name not in self.answers:
                raise Unavailable(f"the fake has no answer for {endpoint.name}")
            reply = self.answers[endpoint.name](request)
            if not isinstance(reply, Reply):
                reply = await reply
        except DagNatsError as error:
            headers, body = encode_error(error)
            self._connection.publish_raw(message.reply, body, "", headers)
        else:
            self._connection.publish_raw(message.reply, msgspec.json.encode(reply))
