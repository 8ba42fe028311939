"""`Client` and `RunHandle` against an API of canned answers: what they ask, and what they make of the answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagnats import Client, Conflict, NotFound, RunCancelled, RunFailed, TimedOut, Unavailable
from dagnats.client import BATCH_BYTES_MAX
from dagnats_core import limits
from dagnats_core.bus.connection import ConnectOptions, connect
from dagnats_micro.schemas import payload, run, wf
from dagnats_micro.schemas.common import ErrorReply, Failure, PayloadRef
from tests.support.fake_api import FakeApi
from tests.support.nats import NatsServer

RUN_ID = "01" + "a" * 26
NOW = "2026-11-23T12:00:00Z"


@dataclass
class Words:
    words: int


class Api:
    """A fake API and a client of it."""

    def __init__(self, fake: FakeApi, client: Client) -> None:
        self.fake = fake
        self.client = client
        self.handle = client.run(RUN_ID)

    def ends(self, status: run.RunStatus, output: Any = None, error: Failure | None = None) -> None:
        """From now on the run has ended so."""
        self.fake.answers["run-output"] = lambda request: output_of(status, output, error)


def output_of(status: run.RunStatus, output: Any = None, error: Failure | None = None) -> run.Output:
    return run.Output(run_id=RUN_ID, status=status, output=output, size=1, error=error)


@pytest.fixture
async def api(shared_nats: NatsServer) -> AsyncIterator[Api]:
    site = f"c{secrets.token_hex(6)}"
    connection = await connect(ConnectOptions(urls=(shared_nats.url,)))
    fake = FakeApi(connection, site)
    await fake.start()
    async with Client.connect(shared_nats.url, site=site) as client:
        yield Api(fake, client)
    await connection.close()


def started(request: wf.StartRequest) -> wf.StartReply:
    return wf.StartReply(
        run_id=RUN_ID, workflow=request.workflow, version=1, status="running", created=True, created_at=NOW
    )


def stored(request: payload.PutRequest) -> payload.PutReply:
    ref = PayloadRef(id=request.id, size=request.size or 0, sha256=request.sha256 or "") if request.last else None
    return payload.PutReply(id=request.id, index=request.index, ref=ref)


async def test_start_sends_what_it_was_given(api: Api) -> None:
    api.fake.answers["wf-start"] = started
    handle = await api.client.start("flow", Words(3), request_id="r/1", tags={"team": "a"}, version=2)
    assert handle.run_id == RUN_ID
    assert handle.created
    [request] = api.fake.requests
    assert (request.workflow, request.input, request.request_id, request.tags, request.version) == (
        "flow", {"words": 3}, "r/1", {"team": "a"}, 2,
    )  # fmt: skip


async def test_result_waits_for_the_end_and_is_typed(api: Api) -> None:
    api.ends("completed", {"words": 5})
    ended = api.fake.answers["run-output"]
    pages = iter([output_of("running"), output_of("pending")])
    api.fake.answers["run-output"] = lambda request: next(pages, None) or ended(request)
    assert await api.handle.result(timeout=5, type=Words) == Words(5)
    assert len(api.fake.requests) == 3
    assert all(each.wait_ms > 0 for each in api.fake.requests)
    assert await api.handle.result() == {"words": 5}
    with pytest.raises(msgspec.ValidationError):
        await api.handle.result(type=int)


async def test_a_failed_run_raises_its_cause(api: Api) -> None:
    api.ends("failed", error=Failure(code="no_such_file", message="there is none", step="split", details={"path": "x"}))
    with pytest.raises(RunFailed, match="at step 'split': no_such_file: there is none") as caught:
        await api.handle.result(timeout=5)
    assert caught.value.run_id == RUN_ID
    assert caught.value.error.details == {"path": "x"}
    assert caught.value.error_class.exit_code == 7


async def test_a_cancelled_run_raises_the_reason(api: Api) -> None:
    api.ends("cancelled", error=Failure(code="cancelled", message="not needed"))
    with pytest.raises(RunCancelled, match="not needed"):
        await api.handle.result(timeout=5)


async def test_result_gives_up_in_time(api: Api) -> None:
    async def slow(request: run.OutputRequest) -> run.Output:
        await asyncio.sleep(request.wait_ms / 1000)
        return output_of("running")

    api.fake.answers["run-output"] = slow
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimedOut):
        await api.handle.result(timeout=0.3)
    assert 0.2 < asyncio.get_running_loop().time() - began < 3


async def test_result_waits_while_the_api_is_away(api: Api) -> None:
    api.ends("completed", 1)
    ended = api.fake.answers["run-output"]
    failures = iter([Unavailable("restarting"), Unavailable("still")])

    def flaky(request: Any) -> Any:
        for failure in failures:
            raise failure
        return ended(request)

    api.fake.answers["run-output"] = flaky
    await api.fake.stop()
    waiting = asyncio.create_task(api.handle.result(timeout=20))
    await asyncio.sleep(0)
    await api.fake.start()
    assert await waiting == 1


async def test_a_run_that_is_not_there(api: Api) -> None:
    def missing(request: Any) -> run.Output:
        raise NotFound("no such run")

    api.fake.answers["run-output"] = missing
    with pytest.raises(NotFound):
        await api.handle.result(timeout=5)


async def test_events_are_followed_to_the_end(api: Api) -> None:
    def event(seq: int) -> run.RunEvent:
        return run.RunEvent(seq=seq, type="step_completed", at=NOW, step=f"s{seq}")

    def page(request: run.EventsRequest) -> run.EventList:
        items = [event(seq) for seq in range(request.after + 1, 6)][:2]
        after = items[-1].seq if items else request.after
        return run.EventList(items=items, next_cursor=None, after=after, ended=after == 5, status="completed")

    api.fake.answers["run-events"] = page
    assert [each.seq async for each in api.handle.events()] == [1, 2, 3, 4, 5]
    assert [each.seq async for each in api.handle.events(after=3)] == [4, 5]


async def test_start_many_packs_inputs_and_keeps_their_order(api: Api) -> None:
    def start_many(request: run.StartManyRequest) -> run.StartManyReply:
        items = []
        for each in request.inputs:
            if each == "bad":
                error = ErrorReply(code="conflict", message="another input")
                items.append(run.StartedItem(run_id=None, created=False, error=error))
            else:
                items.append(run.StartedItem(run_id=RUN_ID, created=True))
        return run.StartManyReply(items=items, next_cursor=None)

    api.fake.answers["run-start-many"] = start_many
    api.fake.answers["wf-start"] = started
    api.fake.answers["payload-put"] = stored
    large = "x" * BATCH_BYTES_MAX
    inputs = [*range(limits.START_MANY_MAX), "bad", 7, large]
    results = await api.client.start_many("flow", inputs, request_id="r")
    assert len(results) == len(inputs)
    assert isinstance(results[limits.START_MANY_MAX], Conflict)
    assert sum(isinstance(each, Exception) for each in results) == 1
    starts = [each for each in api.fake.requests if isinstance(each, run.StartManyRequest | wf.StartRequest)]
    assert [each.request_id for each in starts] == ["r/0", "r/1000", "r/1002"]


async def test_lists_are_read_page_after_page(api: Api) -> None:
    def page(request: run.RunListRequest) -> run.RunList:
        first = int(request.cursor or 0)
        items = [
            run.RunItem(
                run_id=RUN_ID, workflow=f"w{index}", version=1, status="running", error=None, tags=[], created_at=NOW,
                ended_at=None,
            )
            for index in range(first, first + 2)
        ]  # fmt: skip
        return run.RunList(items=items, next_cursor=str(first + 2) if first < 4 else None)

    api.fake.answers["run-list"] = page
    found = [each.workflow async for each in api.client.runs(workflow="flow", status="running")]
    assert found == [f"w{index}" for index in range(6)]
    assert all(each.status == "running" for each in api.fake.requests)


async def test_register_takes_a_dict_or_a_file(api: Api, tmp_path: Path) -> None:
    api.fake.answers["wf-register"] = lambda request: wf.RegisterReply(
        name="flow", version=1, hash="h", created=True, current=True, warnings=[]
    )
    file = tmp_path / "flow.yaml"
    file.write_text("name: flow\n")
    await api.client.register({"name": "flow"})
    await api.client.register(file)
    await api.client.register(str(file))
    assert [each.definition for each in api.fake.requests] == [{"name": "flow"}, "name: flow\n", "name: flow\n"]
    assert {each.by for each in api.fake.requests} == {"user"}


async def test_a_client_may_be_awaited_and_closed(shared_nats: NatsServer) -> None:
    client = await Client.connect(shared_nats.url, site="any")
    assert client.site == "any"
    await client.close()


async def test_nobody_there_is_said_in_time() -> None:
    with pytest.raises(Unavailable, match=r"nats://127\.0\.0\.1:1"):
        await Client.connect("nats://127.0.0.1:1", timeout=0.3)
