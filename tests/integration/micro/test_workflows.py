"""Definitions and starts: versions, what is current, and a start that happens once whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from dagnats_core import ids, limits
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.errors import Conflict, Invalid, NotFound, TooLarge
from dagnats_micro.schemas import run, wf
from dagnats_micro.schemas.common import PayloadRef
from dagnats_micro.table import (
    RUN_COUNT,
    RUN_START_MANY,
    WF_DELETE,
    WF_GET,
    WF_LIST,
    WF_REGISTER,
    WF_START,
    WF_VALIDATE,
    WF_VERSIONS,
)
from tests.support.bus import eventually
from tests.support.micro import CHAIN, ApiSite

OTHER: dict[str, Any] = {**CHAIN, "version": "two", "timeout": "1h"}
STRICT: dict[str, Any] = {
    "name": "strict",
    "steps": [{"id": "a", "task": "t"}],
    "input_schema": {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}},
}


async def clean(site: ApiSite, run_id: str) -> None:
    """Take a run out of the log, as the cleaner does once it is archived and has cooled."""
    partition = ids.partition_of(run_id)
    subject = site.subjects.run_all(partition, run_id)
    await api(site.connection, f"STREAM.PURGE.{site.topology.run_stream(partition)}", {"filter": subject}, msgspec.Raw)


async def archived(site: ApiSite, count: int) -> None:
    """Wait until the archive holds so many runs and the index knows their sequences."""

    async def messages() -> int:
        info = await api(site.connection, f"STREAM.INFO.{site.topology.archive_stream}", None, StreamInfo)
        return info.state.messages

    while await messages() < count:
        await asyncio.sleep(0.005)
    index = site.service._api.index  # type: ignore[union-attr]
    await eventually(
        lambda: index._feed.rows.positions.get(site.topology.archive_stream, 0) >= count, "archive positions"
    )


# ---- definitions


async def test_the_same_content_is_the_same_version_whatever_its_form(api_site: ApiSite) -> None:
    first = await api_site.register()
    yaml = "name: chain\nsteps:\n- {id: a, task: t.a}\n- id: b\n  task: t.b\n  depends_on: [a]\n"
    again = await api_site.register(yaml)  # type: ignore[arg-type]
    assert (first.version, first.created, first.current) == (1, True, True)
    assert (again.version, again.hash, again.created) == (1, first.hash, False)


async def test_new_content_is_a_new_version_and_is_seen_by_the_next_start(api_site: ApiSite) -> None:
    await api_site.register()
    replica = await api_site.replica()
    for version in range(2, 12):
        definition = {**CHAIN, "version": str(version)}
        assert (await api_site.register(definition)).version == version
        runs = await asyncio.gather(*(api_site.start() for _ in range(4)))
        assert {(await api_site.start_of(run_id)).version for run_id in runs} == {version}
    await replica.stop()


async def test_a_worker_adds_content_but_never_turns_back(api_site: ApiSite) -> None:
    first, second = await api_site.register(), await api_site.register(OTHER, by="worker")
    assert (second.version, second.current) == (2, True)
    back = await api_site.register(CHAIN, by="worker")
    assert (back.version, back.current) == (1, False)
    assert (await api_site.client.call(WF_GET, wf.WorkflowRequest(name="chain"))).version == 2
    assert (await api_site.register(CHAIN)).current
    assert (await api_site.client.call(WF_GET, wf.WorkflowRequest(name="chain"))).hash == first.hash


async def test_registrations_at_once_all_get_versions_of_their_own(api_site: ApiSite) -> None:
    definitions = [{**CHAIN, "version": str(number)} for number in range(12)]
    replies = await asyncio.gather(*(api_site.register(each) for each in definitions * 2))
    assert sorted({reply.version for reply in replies}) == list(range(1, 13))
    assert sum(reply.created for reply in replies) == 12


async def test_the_first_answer_comes_back_for_the_same_request_id(api_site: ApiSite) -> None:
    replica = await api_site.replica()
    replies = await asyncio.gather(*(api_site.register(request_id="r") for _ in range(10)))
    await replica.stop()
    assert {reply.created for reply in replies} == {True}
    with pytest.raises(Conflict):
        await api_site.register(OTHER, request_id="r")
    request = wf.DeleteRequest(name="chain", request_id="r")
    for _ in range(2):
        assert (await api_site.client.call(WF_DELETE, request)).deleted


async def test_a_refused_request_does_not_use_up_its_id(api_site: ApiSite) -> None:
    request = wf.DeleteRequest(name="chain", request_id="r")
    with pytest.raises(NotFound):
        await api_site.client.call(WF_DELETE, request)
    await api_site.register()
    assert (await api_site.client.call(WF_DELETE, request)).deleted


async def test_every_problem_of_a_definition_is_told_at_once(api_site: ApiSite) -> None:
    bad = {"name": "a b", "steps": [{"id": "x"}, {"id": "y", "task": "t", "depends_on": ["z"]}], "stps": []}
    with pytest.raises(Invalid) as caught:
        await api_site.register(bad)
    assert len(caught.value.problems) >= 4
    told = await api_site.client.call(WF_VALIDATE, wf.ValidateRequest(definition=bad))
    assert not told.valid
    assert tuple(told.problems) == caught.value.problems
    assert (await api_site.client.call(WF_VALIDATE, wf.ValidateRequest(definition=CHAIN))).valid


async def test_a_definition_that_is_too_large_is_told_so(api_site: ApiSite) -> None:
    with pytest.raises(TooLarge):
        await api_site.register({**CHAIN, "version": "x" * limits.DEFINITION_BYTES_MAX})


async def test_lists_go_by_name_and_page(api_site: ApiSite) -> None:
    names = [f"w{number}" for number in range(5)]
    for name in names:
        await api_site.register({**CHAIN, "name": name})
    await api_site.client.call(WF_DELETE, wf.DeleteRequest(name="w3"))
    found: list[str] = []
    cursor = None
    while True:
        page = await api_site.client.call(WF_LIST, wf.WorkflowListRequest(limit=2, cursor=cursor))
        found += [item.name for item in page.items]
        assert all(item.steps == 2 for item in page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ["w0", "w1", "w2", "w4"]


async def test_versions_are_listed_newest_first_and_each_can_be_read(api_site: ApiSite) -> None:
    for number in range(4):
        await api_site.register({**CHAIN, "version": str(number)})
    first = await api_site.client.call(WF_VERSIONS, wf.VersionsRequest(name="chain", limit=3))
    rest = await api_site.client.call(WF_VERSIONS, wf.VersionsRequest(name="chain", cursor=first.next_cursor))
    assert [(item.version, item.label, item.current) for item in first.items + rest.items] == [
        (4, "3", True),
        (3, "2", False),
        (2, "1", False),
        (1, "0", False),
    ]
    old = await api_site.client.call(WF_GET, wf.WorkflowRequest(name="chain", version=2))
    assert (old.label, old.current, old.definition["version"]) == ("1", False, "1")
    with pytest.raises(NotFound):
        await api_site.client.call(WF_GET, wf.WorkflowRequest(name="chain", version=9))


async def test_a_deleted_workflow_starts_no_runs_until_it_is_registered_again(api_site: ApiSite) -> None:
    await api_site.register()
    await api_site.client.call(WF_DELETE, wf.DeleteRequest(name="chain"))
    refused: tuple[tuple[Any, Any], ...] = (
        (WF_START, wf.StartRequest(workflow="chain")),
        (WF_GET, wf.WorkflowRequest(name="chain")),
        (WF_VERSIONS, wf.VersionsRequest(name="chain")),
        (WF_DELETE, wf.DeleteRequest(name="chain")),
    )
    for endpoint, request in refused:
        with pytest.raises(NotFound):
            await api_site.client.call(endpoint, request)
    assert (await api_site.register()).version == 1
    await api_site.start()


# ---- starts


async def test_a_start_stores_what_was_asked(api_site: ApiSite) -> None:
    registered = await api_site.register()
    await api_site.register(OTHER)
    run_id = await api_site.start(input={"b": 1, "a": [1.5, None]}, tags={"team": "x"}, version=1)
    start = await api_site.start_of(run_id)
    assert (start.workflow, start.version, start.hash) == ("chain", 1, registered.hash)
    assert bytes(start.input) == b'{"b":1,"a":[1.5,null]}'  # type: ignore[arg-type]
    assert start.tags == {"team": "x"}


async def test_starts_without_a_request_id_are_runs_of_their_own(api_site: ApiSite) -> None:
    await api_site.register()
    runs = await asyncio.gather(*(api_site.start() for _ in range(200)))
    assert len(set(runs)) == 200
    assert (await api_site.client.call(RUN_COUNT, run.RunCountRequest())).count == 200


async def test_a_request_id_starts_one_run_however_often_and_wherever_it_is_sent(api_site: ApiSite) -> None:
    await api_site.register()
    replica = await api_site.replica()
    request = wf.StartRequest(workflow="chain", input={"n": 1}, request_id="2026-11-23/1")
    replies = await asyncio.gather(*(api_site.client.call(WF_START, request) for _ in range(40)))
    await replica.stop()
    assert len({reply.run_id for reply in replies}) == 1
    assert len({reply.created_at for reply in replies}) == 1
    assert sum(reply.created for reply in replies) == 1
    assert (await api_site.client.call(RUN_COUNT, run.RunCountRequest())).count == 1


@pytest.mark.parametrize("other", [{"input": 2}, {"tags": ["x"]}, {"version": 1}])
async def test_the_same_request_id_with_another_request_is_a_conflict(api_site: ApiSite, other: Any) -> None:
    await api_site.register()
    await api_site.start(input=1, request_id="r")
    with pytest.raises(Conflict):
        await api_site.start(**{"input": 1, "request_id": "r", **other})


async def test_white_space_is_no_other_request(api_site: ApiSite) -> None:
    await api_site.register()
    subject = api_site.subjects.api("wf", "start")
    for body in (
        b'{"workflow":"chain","request_id":"r","input":{"a":1}}',
        b' {"workflow": "chain", "input": {"a" : 1 },\n"request_id":"r"}',
    ):
        reply = await api_site.client.connection.request(subject, body, 5)
        assert msgspec.json.decode(reply.data)["run_id"]


async def test_a_large_input_and_its_payload_are_the_same_request(api_site: ApiSite) -> None:
    """Inline in one message, or put into the store by the client first: the request id finds the same run."""
    await api_site.register()
    value = "x" * (limits.INLINE_BYTES_MAX + 1000)
    first = await api_site.start(input=value, request_id="r")
    body = msgspec.json.encode({"workflow": "chain", "request_id": "r", "input": value})
    reply = await api_site.client.connection.request(api_site.subjects.api("wf", "start"), body, 5)
    assert msgspec.json.decode(reply.data)["run_id"] == first
    ref = (await api_site.start_of(first)).input_ref
    assert ref is not None
    data = await api_site.client.get_payload(PayloadRef(id=ref.id, size=ref.size, sha256=ref.sha256))
    assert msgspec.json.decode(data) == value


async def test_a_run_that_has_left_the_log_is_not_started_again(api_site: ApiSite) -> None:
    await api_site.register()
    run_id = await api_site.start(input=1, request_id="r")
    await api_site.end(run_id)
    await archived(api_site, 1)
    await clean(api_site, run_id)
    again = await api_site.client.call(WF_START, wf.StartRequest(workflow="chain", input=1, request_id="r"))
    assert (again.run_id, again.created, again.status) == (run_id, False, "completed")
    with pytest.raises(Conflict):
        await api_site.start(input=2, request_id="r")
    replica = await api_site.replica()
    await api_site.service.stop()
    again = await api_site.client.call(WF_START, wf.StartRequest(workflow="chain", input=1, request_id="r"))
    assert (again.run_id, again.created) == (run_id, False)
    await replica.stop()


async def test_an_input_must_fit_the_input_schema(api_site: ApiSite) -> None:
    await api_site.register(STRICT)
    await api_site.start("strict", input={"path": "x"})
    for value, path in ((None, "input"), ({"path": 1}, "input.path"), ([], "input")):
        with pytest.raises(Invalid) as caught:
            await api_site.start("strict", input=value)
        assert [problem.path for problem in caught.value.problems] == [path]
    ref = await api_site.client.put_payload(b'{"path":1}')
    with pytest.raises(Invalid):
        await api_site.start("strict", input_ref=ref)


async def test_an_input_is_a_value_or_a_payload_that_is_there(api_site: ApiSite) -> None:
    await api_site.register()
    ref = await api_site.client.put_payload(b'"x"')
    await api_site.start(input_ref=ref)
    with pytest.raises(Invalid):
        await api_site.start(input=1, input_ref=ref)
    for wrong in ({"id": "0" * 26}, {"size": 4}, {"sha256": "0" * 64}):
        with pytest.raises(Invalid):
            await api_site.start(input_ref=msgspec.structs.replace(ref, **wrong))


@pytest.mark.parametrize(("text", "rule"), [(b"[" * 65 + b"]" * 65, "depth"), (b"1e999", "json"), (b'"\xff"', "utf8")])
async def test_an_input_that_others_could_not_read_is_refused(api_site: ApiSite, text: bytes, rule: str) -> None:
    await api_site.register()
    body = b'{"workflow":"chain","input":' + text + b"}"
    reply = await api_site.client.connection.request(api_site.subjects.api("wf", "start"), body, 5)
    error = msgspec.json.decode(reply.data)
    assert (error["code"], error["problems"][0]["rule"]) == ("invalid", rule)


async def test_many_starts_answer_one_by_one(api_site: ApiSite) -> None:
    await api_site.register(STRICT)
    inputs: list[Any] = [{"path": str(number)} for number in range(300)]
    inputs[7] = {"path": 7}
    request = run.StartManyRequest(workflow="strict", inputs=inputs, request_id="batch")
    first = await api_site.client.call(RUN_START_MANY, request)
    refused = [number for number, item in enumerate(first.items) if item.error is not None]
    assert refused == [7]
    assert len({item.run_id for item in first.items if item.created}) == 299
    again = await api_site.client.call(RUN_START_MANY, request)
    assert [item.run_id for item in again.items] == [item.run_id for item in first.items]
    assert not any(item.created for item in again.items)
    with pytest.raises(NotFound):
        await api_site.client.call(RUN_START_MANY, run.StartManyRequest(workflow="nope", inputs=[1]))


async def test_a_bad_tag_is_refused(api_site: ApiSite) -> None:
    await api_site.register()
    for tags in ([""], ["x" * 129], {"k": ""}, {"": "v"}, {"x" * 129: "v"}, ["t"] * 33):
        with pytest.raises(Invalid):
            await api_site.start(tags=tags)


async def test_the_register_endpoint_takes_text(api_site: ApiSite) -> None:
    request = wf.RegisterRequest(definition="name: y\nsteps: [{id: a, task: t}]\n")
    assert (await api_site.client.call(WF_REGISTER, request)).name == "y"
    for bad in ("name: [", "", 5, None, ["x"], "name: a\nname: b\n"):
        with pytest.raises(Invalid) as caught:
            await api_site.client.call(WF_REGISTER, wf.RegisterRequest(definition=bad))
        assert caught.value.problems
