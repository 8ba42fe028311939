"""`run.events`: what has happened at once, what happens as it happens, one reader for all who watch."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core import ids, limits
from dagnats_core.errors import Busy, NotFound
from dagnats_core.run import messages as m
from dagnats_micro import watch
from dagnats_micro.schemas import run
from dagnats_micro.table import RUN_EVENTS
from dagnats_micro.watch import Watches
from tests.integration.micro.test_service import patched
from tests.integration.micro.test_workflows import archived, clean
from tests.support.bus import eventually, unique
from tests.support.micro import ApiSite, final_of, open_site
from tests.support.nats import NatsServer


@pytest.fixture
async def site(api_site: ApiSite) -> ApiSite:
    await api_site.register()
    return api_site


def watches_of(site: ApiSite) -> Watches:
    assert site.service._api is not None
    return site.service._api.watches


async def events(site: ApiSite, run_id: str, after: int = 0, wait_ms: int = 0, limit: int = 200) -> run.EventList:
    request = run.EventsRequest(run_id=run_id, after=after, wait_ms=wait_ms, limit=limit)
    return await site.client.call(RUN_EVENTS, request)


def types(page: run.EventList) -> list[str]:
    return [event.type if event.step is None else f"{event.type} {event.step}" for event in page.items]


async def test_what_has_happened_is_told_at_once_and_once(site: ApiSite) -> None:
    run_id = await site.start()
    await site.queue(run_id, 1, "a")
    first = await events(site, run_id, wait_ms=20_000)
    assert types(first) == ["run_created", "step_queued a"]
    assert (first.status, first.ended) == ("running", False)
    nothing = await events(site, run_id, first.after)
    assert (nothing.items, nothing.after) == ([], first.after)
    await site.queue(run_id, 2, "b", m.StepCompleted("a", 1, "w1", started_at=1000, ended_at=1250, output_in="task"))
    await site.end(run_id)
    rest = await events(site, run_id, first.after)
    assert types(rest) == ["step_completed a", "step_queued b", "run_ended"]
    assert [event.duration_ms for event in rest.items] == [250, None, None]
    assert (rest.status, rest.ended) == ("completed", True)
    assert (await events(site, run_id, rest.after, wait_ms=20_000)).ended


async def test_a_wait_ends_when_something_happens(site: ApiSite) -> None:
    run_id = await site.start()
    after = (await events(site, run_id)).after
    waiting = [asyncio.create_task(events(site, run_id, after, 20_000)) for _ in range(30)]
    await eventually(
        lambda: run_id in watches_of(site)._watched and watches_of(site)._watched[run_id].waiting, "a wait"
    )
    assert len(watches_of(site)._watched) == 1
    await site.queue(run_id, 1, "a")
    assert {tuple(types(page)) for page in await asyncio.gather(*waiting)} == {("step_queued a",)}


async def test_a_wait_in_which_nothing_happens_ends_with_nothing(site: ApiSite) -> None:
    run_id = await site.start()
    after = (await events(site, run_id)).after
    page = await events(site, run_id, after, 60)
    assert (page.items, page.after, page.ended) == ([], after, False)


async def test_following_page_by_page_misses_and_repeats_nothing(site: ApiSite) -> None:
    run_id = await site.start()
    seen: list[str] = []

    async def follow() -> None:
        after = 0
        while True:
            page = await events(site, run_id, after, 20_000, limit=3)
            seen.extend(types(page))
            after = page.after
            if page.ended:
                return

    following = asyncio.create_task(follow())
    for n in range(1, 60):
        await site.tell(run_id, n, m.StepSkipped(f"s{n}", "no"), m.StepSkipped(f"t{n}", "no"))
    await site.end(run_id, 60)
    await following
    expected = [f"step_skipped {stem}{n}" for n in range(1, 60) for stem in "st"]
    assert seen == ["run_created", *expected, "run_ended"]


async def test_a_very_long_run_is_told_from_its_beginning(site: ApiSite) -> None:
    run_id = await site.start()
    subject = site.subjects
    partition = ids.partition_of(run_id)
    futures = []
    for n in range(1, limits.MULTI_LAST_SUBJECTS_MAX + 200):
        body = m.Decision(v=1, n=n, after=1, at=n, events=[m.StepSkipped(f"s{n}", "no")])
        futures.append(site.publisher.publish(subject.events(partition, run_id, n), m.encode(body)))
    await asyncio.gather(*futures)
    found, after = 0, 0
    while page := await events(site, run_id, after, limit=1000):
        found += len(page.items)
        if not page.items:
            break
        after = page.after
    assert found == limits.MULTI_LAST_SUBJECTS_MAX + 200
    waiting = asyncio.create_task(events(site, run_id, after, 20_000))
    await site.end(run_id, 5000, final=final_of(await site.get(await site.start())))
    assert types(await waiting) == ["run_ended"]


async def test_an_archived_run_still_tells_its_steps_and_its_end(site: ApiSite) -> None:
    run_id = await site.start()
    ended_seq = await site.end(run_id)
    await archived(site, 1)
    await clean(site, run_id)
    page = await events(site, run_id, wait_ms=20_000)
    assert types(page) == ["run_created", "step_completed a", "step_completed b", "run_ended"]
    assert (page.after, page.ended, page.status) == (ended_seq, True, "completed")
    assert (await events(site, run_id, ended_seq)).items == []


async def test_an_unknown_run_is_not_found_and_leaves_nothing_behind(site: ApiSite) -> None:
    with pytest.raises(NotFound):
        await events(site, "0" * 28, wait_ms=1000)
    assert watches_of(site)._watched == {}


async def test_watched_runs_are_bounded_and_dropped_when_nobody_asks(
    site: ApiSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await site.start(), await site.start()
    after = {run_id: (await events(site, run_id)).after for run_id in (first, second)}
    with patched("WATCHED_RUNS_MAX", 1):
        await events(site, first, after[first], 1)
        with pytest.raises(Busy):
            await events(site, second, after[second], 1)
    monkeypatch.setattr(watch, "IDLE_S", 0.01)
    watches = watches_of(site)
    await watches.stop()
    await watches.start()
    await events(site, second, after[second], 1)
    await eventually(lambda: not watches._watched, "the watched run to be dropped")
    await site.queue(second, 1, "a")
    assert types(await events(site, second, after[second])) == ["step_queued a"]


async def test_watchers_outlive_a_restart_of_the_server(nats_server: NatsServer) -> None:
    async with open_site(nats_server, unique("api-")) as site:
        await site.register()
        run_id = await site.start()
        after = (await events(site, run_id)).after
        await events(site, run_id, after, 1)
        await asyncio.to_thread(nats_server.restart, kill=True)
        await eventually(lambda: site.connection.connected and site.client.connection.connected, "both to be back")
        waiting = asyncio.create_task(events(site, run_id, after, 20_000))
        await site.queue(run_id, 1, "a")
        assert types(await waiting) == ["step_queued a"]
