"""Runs as callers see them: live, ended, archived; cancelled, retried, replayed; large and small outputs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from dagnats_core import ids, limits
from dagnats_core.bus.read import get_last
from dagnats_core.errors import Conflict, Invalid, NotFound
from dagnats_core.run import messages as m
from dagnats_micro.schemas import dlq, payload, run
from dagnats_micro.table import (
    DLQ_LIST,
    DLQ_REPLAY,
    PAYLOAD_GET,
    PAYLOAD_PUT,
    RUN_CANCEL,
    RUN_COUNT,
    RUN_GET,
    RUN_LIST,
    RUN_OUTPUT,
    RUN_RETRY,
)
from tests.integration.micro.test_workflows import archived, clean
from tests.support.micro import ApiSite, final_of

NOBODY = "0" * 28


@pytest.fixture
async def site(api_site: ApiSite) -> ApiSite:
    await api_site.register()
    return api_site


async def fail(site: ApiSite, run_id: str, message: str = "no luck") -> None:
    await site.end(run_id, final=final_of(await site.get(run_id), "failed", error=m.ErrorInfo("boom", message, "b")))


async def input_of(site: ApiSite, run_id: str, kind: str) -> bytes | None:
    partition = ids.partition_of(run_id)
    subject = f"{site.subjects.run(partition, run_id)}.in.{kind}"
    message = await get_last(site.connection, site.topology.run_stream(partition), subject)
    return message.data if message is not None else None


async def until(site: ApiSite, run_id: str, kind: str) -> bytes:
    while (data := await input_of(site, run_id, kind)) is None:
        await asyncio.sleep(0.002)
    return data


# ---- reading


async def test_a_run_is_the_same_in_the_log_and_in_the_archive(site: ApiSite) -> None:
    run_id = await site.start(input={"x": 1}, tags=["a"])
    live = await site.get(run_id)
    assert (live.status, live.input, live.output, live.ended_at) == ("pending", {"x": 1}, None, None)
    await site.queue(run_id, 1, "a")
    running = await site.get(run_id)
    assert running.status == "running"
    assert [(step.id, step.status, step.attempt) for step in running.steps] == [("a", "queued", 1), ("b", "pending", 0)]
    await site.end(run_id)
    ended = await site.get(run_id)
    assert (ended.status, ended.output) == ("completed", {"by": "b"})
    await archived(site, 1)
    await clean(site, run_id)
    assert await site.get(run_id) == ended


async def test_an_unknown_run_is_not_found_by_any_endpoint(site: ApiSite) -> None:
    refused: tuple[tuple[Any, Any], ...] = (
        (RUN_GET, run.RunRequest(run_id=NOBODY)),
        (RUN_OUTPUT, run.OutputRequest(run_id=NOBODY)),
        (RUN_CANCEL, run.CancelRequest(run_id=NOBODY)),
        (RUN_RETRY, run.RetryRequest(run_id=NOBODY)),
        (DLQ_REPLAY, dlq.ReplayRequest(id=NOBODY)),
    )
    for endpoint, request in refused:
        with pytest.raises(NotFound):
            await site.client.call(endpoint, request)
    assert await input_of(site, NOBODY, "cancel") is None


async def test_a_record_in_the_payload_store_is_read_like_any_other(site: ApiSite) -> None:
    run_id = await site.start()
    final = final_of(await site.get(run_id))
    ref = await site.client.put_payload(m.encode(final))
    await site.end(run_id, ref=m.Ref(ref.id, ref.size, ref.sha256), final=final)
    assert (await site.get(run_id)).output == {"by": "b"}
    page = await site.client.call(RUN_LIST, run.RunListRequest(status="completed"))
    assert [item.run_id for item in page.items] == [run_id]
    await archived(site, 1)
    await clean(site, run_id)
    assert (await site.get(run_id)).output == {"by": "b"}


async def test_a_run_with_much_to_say_still_fits_a_message(site: ApiSite) -> None:
    steps = [{"id": f"s{number}", "task": "t"} for number in range(800)]
    await site.register({"name": "wide", "steps": steps})
    run_id = await site.start("wide", input="i" * 200_000)
    view = await site.get(run_id)
    final = final_of(view, output="o" * 100)
    error = m.ErrorInfo("boom", "e" * 4000, "s0")
    final = msgspec.structs.replace(final, steps=[msgspec.structs.replace(step, error=error) for step in final.steps])
    ref = await site.client.put_payload(m.encode(final))
    await site.end(run_id, final=final, ref=m.Ref(ref.id, ref.size, ref.sha256))
    shown = await site.get(run_id)
    assert len(shown.steps) == 800
    assert shown.steps[5].error is not None
    assert len(shown.steps[5].error.message) == 200


# ---- outputs


async def test_outputs_of_every_size_come_whole(site: ApiSite) -> None:
    for size in (0, 10, limits.INLINE_BYTES_MAX - 2, limits.INLINE_BYTES_MAX - 1, 600_000, 3_000_000):
        run_id = await site.start()
        final = final_of(await site.get(run_id), output="x" * size)
        if size > 300_000:
            data = msgspec.json.encode("x" * size)
            ref = await site.client.put_payload(data)
            last = msgspec.structs.replace(
                final.steps[-1], output=msgspec.UNSET, output_ref=m.Ref(ref.id, ref.size, ref.sha256)
            )
            final = msgspec.structs.replace(final, steps=[msgspec.structs.replace(final.steps[0], output=m.NULL), last])
        await site.end(run_id, final=final)
        assert msgspec.json.decode(await site.client.read_output(run_id)) == "x" * size
        view = await site.get(run_id)
        inline = size + 2 <= limits.INLINE_BYTES_MAX
        assert (view.output == "x" * size, view.output_size) == (inline, None if inline else size + 2)


async def test_an_output_of_several_steps_some_of_them_in_the_store(site: ApiSite) -> None:
    await site.register({"name": "pair", "steps": [{"id": "a", "task": "t"}, {"id": "b", "task": "t"}]})
    run_id = await site.start("pair")
    final = final_of(await site.get(run_id), output="small")
    large = "y" * 700_000
    ref = await site.client.put_payload(msgspec.json.encode(large))
    second = msgspec.structs.replace(
        final.steps[1], output=msgspec.UNSET, output_ref=m.Ref(ref.id, ref.size, ref.sha256)
    )
    final = msgspec.structs.replace(final, steps=[final.steps[0], second], output_steps=["a", "b"])
    await site.end(run_id, final=final)
    assert msgspec.json.decode(await site.client.read_output(run_id)) == {"a": "small", "b": large}
    assert msgspec.json.decode(await site.client.read_output(run_id, "a")) == "small"
    assert msgspec.json.decode(await site.client.read_output(run_id, "b")) == large
    with pytest.raises(NotFound):
        await site.client.read_output(run_id, "c")


async def test_an_output_is_waited_for(site: ApiSite) -> None:
    run_id = await site.start()
    request = run.OutputRequest(run_id=run_id, wait_ms=20_000)
    waiting = [asyncio.create_task(site.client.call(RUN_OUTPUT, request)) for _ in range(5)]
    none = await site.client.call(RUN_OUTPUT, run.OutputRequest(run_id=run_id, wait_ms=50))
    assert (none.status, none.output) == ("pending", None)
    await site.end(run_id)
    replies = await asyncio.gather(*waiting)
    assert [(reply.status, reply.output) for reply in replies] == [("completed", {"by": "b"})] * 5
    assert (await site.client.call(RUN_OUTPUT, request)).output == {"by": "b"}
    assert site.service._api.index._ends == {}  # type: ignore[union-attr]


# ---- lists


async def test_a_list_sees_what_was_started_before_it_through_any_replica(site: ApiSite) -> None:
    replica = await site.replica()
    for number in range(1, 40):
        await site.start()
        page = await site.client.call(RUN_LIST, run.RunListRequest(limit=1000))
        assert (len(page.items), page.index_age_ms) == (number, 0)
    await replica.stop()


async def test_pages_together_are_the_list_newest_first(site: ApiSite) -> None:
    started = [await site.start(tags=["t"] if number % 2 else []) for number in range(25)]
    found: list[str] = []
    cursor = None
    while True:
        page = await site.client.call(RUN_LIST, run.RunListRequest(limit=4, cursor=cursor))
        found += [item.run_id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == sorted(started)
    times = [(await site.get(run_id)).created_at for run_id in found]
    assert times == sorted(times, reverse=True)
    tagged = await site.client.call(RUN_LIST, run.RunListRequest(tag="t"))
    assert sorted(item.run_id for item in tagged.items) == sorted(started[1::2])


async def test_filters_and_counts(site: ApiSite) -> None:
    await site.register({"name": "other", "steps": [{"id": "a", "task": "t"}]})
    one, two, three = await site.start(), await site.start("other", tags={"team": "x"}), await site.start()
    await site.end(one)
    await fail(site, three)

    async def listed(**fields: Any) -> set[str]:
        page = await site.client.call(RUN_LIST, run.RunListRequest(**fields))
        count = await site.client.call(RUN_COUNT, run.RunCountRequest(**fields))
        assert count.count == len(page.items)
        return {item.run_id for item in page.items}

    assert await listed() == {one, two, three}
    assert await listed(workflow="other") == {two}
    assert await listed(status="completed") == {one}
    assert await listed(status="running") == {two}
    assert await listed(workflow="chain", status="failed") == {three}
    assert await listed(tag="team=x") == {two}
    assert await listed(prefix=two[:27]) == {two}
    assert await listed(since="1m") == {one, two, three}
    assert await listed(until="1m") == set()
    assert await listed(since="2020-01-01T00:00:00Z", until="2100-01-01T00:00:00+02:00") == {one, two, three}
    for bad in ({"since": "yesterday"}, {"until": "2020-13-01"}, {"cursor": "x"}, {"status": "odd"}, {"limit": 0}):
        with pytest.raises(Invalid) as caught:
            await site.client.call(RUN_LIST, run.RunListRequest(**bad))
        assert [problem.path for problem in caught.value.problems] == list(bad)


# ---- cancel


async def test_a_cancel_waits_for_the_end_and_may_be_repeated(site: ApiSite) -> None:
    run_id = await site.start()
    request = run.CancelRequest(run_id=run_id, reason="enough")
    cancelling = asyncio.create_task(site.client.call(RUN_CANCEL, request))
    asked = m.decode_cancel(await until(site, run_id, "cancel"))
    assert asked.reason == "enough"
    error = m.ErrorInfo("cancelled", "enough")
    await site.end(run_id, final=final_of(await site.get(run_id), "cancelled", error=error))
    assert (await cancelling).status == "cancelled"
    assert (await site.client.call(RUN_CANCEL, request)).status == "cancelled"


async def test_a_cancel_without_an_engine_answers_with_the_status_that_stands(site: ApiSite) -> None:
    run_id = await site.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await site.client.call(RUN_CANCEL, run.CancelRequest(run_id=run_id))).status == "pending"
    assert 1.5 < loop.time() - began < 4


async def test_what_has_ended_otherwise_cannot_be_cancelled(site: ApiSite) -> None:
    completed, failed = await site.start(), await site.start()
    await site.end(completed)
    await fail(site, failed)
    for run_id in (completed, failed):
        with pytest.raises(Conflict):
            await site.client.call(RUN_CANCEL, run.CancelRequest(run_id=run_id))
        assert await input_of(site, run_id, "cancel") is None


async def test_a_run_that_completes_while_it_is_cancelled_has_completed(site: ApiSite) -> None:
    run_id = await site.start()
    cancelling = asyncio.create_task(site.client.call(RUN_CANCEL, run.CancelRequest(run_id=run_id)))
    await until(site, run_id, "cancel")
    await site.end(run_id)
    with pytest.raises(Conflict):
        await cancelling


# ---- retry and replay


async def test_a_retry_is_a_new_run_seeded_with_what_had_completed(site: ApiSite) -> None:
    run_id = await site.start(input={"x": 1}, tags=["a"])
    with pytest.raises(Conflict):
        await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id))
    await fail(site, run_id)
    reply = await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id))
    assert (reply.retry_of, reply.created) == (run_id, True)
    start = await site.start_of(reply.run_id)
    assert (start.retry_of, start.tags, bytes(start.input)) == (run_id, ["a"], b'{"x":1}')  # type: ignore[arg-type]
    assert {step: bytes(seed.output) for step, seed in start.seed.items()} == {"a": b'{"by":"a"}'}  # type: ignore[arg-type]
    plain = await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id, reuse=False))
    assert plain.run_id != reply.run_id
    assert (await site.start_of(plain.run_id)).seed == {}
    assert (await site.get(reply.run_id)).retry_of == run_id


async def test_a_retry_with_a_request_id_is_one_run(site: ApiSite) -> None:
    run_id = await site.start()
    await fail(site, run_id)
    request = run.RetryRequest(run_id=run_id, request_id="again")
    replies = await asyncio.gather(*(site.client.call(RUN_RETRY, request) for _ in range(8)))
    assert len({reply.run_id for reply in replies}) == 1
    assert sum(reply.created for reply in replies) == 1
    with pytest.raises(Conflict):
        await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id, request_id="again", reuse=False))
    other = await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id, request_id="more"))
    assert other.run_id != replies[0].run_id


async def test_a_large_seed_goes_to_the_payload_store(site: ApiSite) -> None:
    steps = [{"id": f"s{number}", "task": "t"} for number in range(12)]
    await site.register({"name": "heavy", "steps": steps})
    run_id = await site.start("heavy")
    final = final_of(await site.get(run_id), output="z" * 100_000)
    ref = await site.client.put_payload(m.encode(final))
    await site.end(run_id, final=final, ref=m.Ref(ref.id, ref.size, ref.sha256))
    reply = await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id))
    start = await site.start_of(reply.run_id)
    stored = [seed for seed in start.seed.values() if seed.output_ref is not None]
    assert len(start.seed) == 12
    assert 0 < len(stored) < 12
    assert len(m.encode(start)) < limits.MESSAGE_BYTES_MAX


async def test_a_dead_letter_is_listed_with_its_cause_until_it_is_replayed(site: ApiSite) -> None:
    run_id, fine = await site.start(), await site.start()
    await fail(site, run_id, "no luck")
    await site.end(fine)
    (letter,) = (await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest())).items
    assert (letter.id, letter.kind, letter.step, letter.task, letter.attempts) == (run_id, "failed", "b", "t.b", 2)
    assert (letter.error.code, letter.error.message) == ("boom", "no luck")
    replies = [await site.client.call(DLQ_REPLAY, dlq.ReplayRequest(id=run_id)) for _ in range(2)]
    assert [reply.created for reply in replies] == [True, False]
    assert len({reply.run_id for reply in replies}) == 1
    assert (await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest())).items == []
    (letter,) = (await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest(replayed=True))).items
    assert letter.replayed_by == replies[0].run_id
    with pytest.raises(NotFound):
        await site.client.call(DLQ_REPLAY, dlq.ReplayRequest(id=fine))


async def test_a_dead_letter_that_was_retried_is_not_replayed_as_well(site: ApiSite) -> None:
    run_id = await site.start()
    await fail(site, run_id)
    await site.client.call(RUN_RETRY, run.RetryRequest(run_id=run_id))
    with pytest.raises(Conflict):
        await site.client.call(DLQ_REPLAY, dlq.ReplayRequest(id=run_id))
    assert (await site.client.call(RUN_COUNT, run.RunCountRequest())).count == 2


async def test_a_parked_run_is_a_dead_letter_and_its_replay_ends_it(site: ApiSite) -> None:
    run_id = await site.start()
    await site.park(run_id, 1, "the log is damaged")
    assert (await site.client.call(RUN_COUNT, run.RunCountRequest(status="paused"))).count == 1
    (letter,) = (await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest(workflow="chain"))).items
    assert (letter.kind, letter.error.message) == ("parked", "the log is damaged")
    reply = await site.client.call(DLQ_REPLAY, dlq.ReplayRequest(id=run_id))
    assert m.decode_cancel(await until(site, run_id, "cancel")).reason == f"replayed as run {reply.run_id}"
    error = m.ErrorInfo("cancelled", "replayed")
    await site.end(run_id, final=final_of(await site.get(run_id), "cancelled", error=error))
    again = await site.client.call(DLQ_REPLAY, dlq.ReplayRequest(id=run_id))
    assert (again.run_id, again.created) == (reply.run_id, False)
    (letter,) = (await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest(replayed=True))).items
    assert letter.replayed_by == reply.run_id


async def test_dead_letters_page(site: ApiSite) -> None:
    failed = [await site.start() for _ in range(5)]
    for run_id in failed:
        await fail(site, run_id)
    first = await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest(limit=3))
    rest = await site.client.call(DLQ_LIST, dlq.DeadLetterListRequest(cursor=first.next_cursor))
    assert [letter.id for letter in first.items + rest.items] == failed[::-1]


# ---- payloads


@pytest.mark.parametrize("size", [0, 1, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 5_000_000])
async def test_payloads_of_every_size_come_back(site: ApiSite, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    ref = await site.client.put_payload(data[:size])
    assert ref.size == size
    assert await site.client.get_payload(ref) == data[:size]


async def test_a_payload_that_is_not_what_it_says_is_refused(site: ApiSite) -> None:
    put = payload.PutRequest(id="a" * 26, index=0, data=b"x", last=True, size=1, sha256="0" * 64)
    for wrong, path in (
        ({}, "sha256"),
        ({"size": 2}, "size"),
        ({"sha256": None}, "sha256"),
        ({"last": False}, "data"),
        ({"data": b"x" * (limits.PAYLOAD_CHUNK_BYTES_MAX + 1), "size": limits.PAYLOAD_CHUNK_BYTES_MAX + 1}, "data"),
    ):
        with pytest.raises(Invalid) as caught:
            await site.client.call(PAYLOAD_PUT, msgspec.structs.replace(put, **wrong))
        assert path in [problem.path for problem in caught.value.problems]
    with pytest.raises(NotFound):
        await site.client.call(PAYLOAD_GET, payload.GetRequest(id="a" * 26))
    other = msgspec.structs.replace(put, data=b"y")
    with pytest.raises(Conflict):
        await site.client.call(PAYLOAD_PUT, other)


async def test_a_chunk_sent_again_is_fine_and_one_beyond_the_end_is_not_found(site: ApiSite) -> None:
    ref = await site.client.put_payload(b"hello")
    put = payload.PutRequest(id=ref.id, index=0, data=b"hello", last=True, size=5, sha256=ref.sha256)
    assert (await site.client.call(PAYLOAD_PUT, put)).ref == ref
    with pytest.raises(NotFound):
        await site.client.call(PAYLOAD_GET, payload.GetRequest(id=ref.id, index=1))
