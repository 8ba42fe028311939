"""The index of a process: made from nothing, kept over restarts, true to the log whatever happens to either."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagnats_core.bus.jetstream import api
from dagnats_core.bus.setup import SiteSettings, ensure
from dagnats_core.engine.payloads import Payloads
from dagnats_core.errors import Unavailable
from dagnats_core.run import messages as m
from dagnats_micro.index import Index, feed, projection
from dagnats_micro.index.query import DeadQuery, RunQuery
from dagnats_micro.schemas import run
from dagnats_micro.table import RUN_LIST
from tests.integration.micro.test_workflows import archived, clean
from tests.support.bus import eventually, unique
from tests.support.micro import ApiSite, final_of, open_site
from tests.support.nats import NatsServer


@pytest.fixture
async def site(api_site: ApiSite) -> ApiSite:
    await api_site.register()
    return api_site


def index_of(site: ApiSite, directory: Path | None = None) -> Index:
    payloads = Payloads(site.connection, site.publisher, site.topology)
    return Index(site.connection, site.topology, site.info.site_id, payloads, directory)


async def statuses(index: Index) -> dict[str, str]:
    rows, age_ms = await index.list_runs(RunQuery(), 1000)
    assert age_ms == 0
    return {row.run_id: row.status for row in rows}


async def fail(site: ApiSite, run_id: str) -> None:
    error = m.ErrorInfo("boom", "no luck", "b")
    await site.end(run_id, final=final_of(await site.get(run_id), "failed", error=error))


async def test_an_index_made_from_nothing_knows_log_and_archive(site: ApiSite) -> None:
    gone, failed, kept, live, parked = [await site.start(tags=["t"]) for _ in range(5)]
    await site.end(gone)
    await fail(site, failed)
    await site.end(kept)
    await site.park(parked, 1)
    await archived(site, 3)
    for run_id in (gone, failed):
        await clean(site, run_id)
    index = index_of(site)
    await index.start()
    expected = {gone: "completed", failed: "failed", kept: "completed", live: "running", parked: "paused"}
    assert await statuses(index) == expected
    assert {row.run_id for row in await index.list_dead(DeadQuery(), 10)} == {failed, parked}
    assert await index.count_runs(RunQuery(tag="t")) == 5
    row = await index.find_surely(gone)
    assert row is not None
    assert row.archive_seq == 1
    assert await index.find_surely("0" * 28) is None
    await index.stop()


async def test_a_kept_file_is_gone_on_with(site: ApiSite, tmp_path: Path) -> None:
    before = await site.start()
    index = index_of(site, tmp_path)
    await index.start()
    assert await statuses(index) == {before: "running"}
    await index.stop()
    after = await site.start()
    await site.end(before)
    await archived(site, 1)
    await clean(site, before)
    index = index_of(site, tmp_path)
    await index.start()
    assert await statuses(index) == {before: "completed", after: "running"}
    assert (await index.find_surely(before)).archive_seq == 1  # type: ignore[union-attr]
    await index.stop()


async def test_a_file_of_another_site_is_not_believed(site: ApiSite, tmp_path: Path) -> None:
    await site.start()
    index = index_of(site, tmp_path)
    await index.start()
    assert len(await statuses(index)) == 1
    await index.stop()
    async with open_site(site.server, unique("api-")) as other:
        index = index_of(other, tmp_path)
        await index.start()
        assert await statuses(index) == {}
        await index.stop()


def own_files() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("dagnats-index-*"))


async def test_starting_and_stopping_leaves_no_files_and_no_threads(site: ApiSite) -> None:
    before = own_files()
    for _ in range(3):
        index = index_of(site)
        await index.start()
        await index.count_runs(RunQuery())
        await index.stop()
        await index.stop()
    assert own_files() == before
    own = [thread for thread in threading.enumerate() if thread.name.startswith("dagnats-index")]
    assert len(own) <= 3, "only the threads of the site's own service are left"


async def test_what_the_archive_has_dropped_is_forgotten(site: ApiSite) -> None:
    runs = [await site.start() for _ in range(4)]
    for run_id in runs[:3]:
        await site.end(run_id)
    await archived(site, 3)
    index = index_of(site)
    await index.start()
    assert len(await statuses(index)) == 4
    await api(site.connection, f"STREAM.PURGE.{site.topology.archive_stream}", {"seq": 3}, msgspec.Raw)
    assert await index.retain() == 2
    assert set(await statuses(index)) == {runs[2], runs[3]}
    await index.stop()


async def test_rows_above_the_bound_of_memory_are_read_again(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [await site.start() for _ in range(40)]
    for run_id in runs[:10]:
        await site.end(run_id)
    monkeypatch.setattr(feed, "ROWS_MAX", 7)
    monkeypatch.setattr(projection, "FLUSH_S", 0.01)
    index = index_of(site)
    await index.start()
    deadline = asyncio.get_running_loop().time() + 20
    while (found := await index.list_runs(RunQuery(), 1000))[0][39:] == []:
        assert asyncio.get_running_loop().time() < deadline, f"{len(found[0])} of 40 runs after 20 s"
    assert sum(status == "completed" for status in (await statuses(index)).values()) == 10
    await index.stop()


async def test_an_index_that_cannot_keep_up_says_how_old_it_is(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await site.start()
    assert (await site.client.call(RUN_LIST, run.RunListRequest())).index_age_ms == 0
    index = site.service._api.index  # type: ignore[union-attr]
    never = asyncio.Event()

    async def stuck() -> None:
        await never.wait()

    monkeypatch.setattr(index._feed, "catch_up", stuck)
    monkeypatch.setattr(projection, "CATCH_UP_S", 0.05)
    monkeypatch.setattr(projection, "SURE_S", 0.05)
    page = await site.client.call(RUN_LIST, run.RunListRequest())
    assert [item.run_id for item in page.items] == [run_id]
    assert 50 <= page.index_age_ms < 60_000
    index._feed.sure = False
    with pytest.raises(Unavailable):
        await index.find_surely("0" * 28)
    assert (await index.find_surely(run_id)) is not None


async def test_an_attempt_that_hangs_does_not_hold_up_the_next(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await site.start()
    index = site.service._api.index  # type: ignore[union-attr]
    catch_up = index._feed.catch_up
    attempts = 0

    async def stuck_once() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        await catch_up()

    monkeypatch.setattr(index._feed, "catch_up", stuck_once)
    monkeypatch.setattr(projection, "SURE_S", 0.05)
    _, age_ms = await index.list_runs(RunQuery(), 10)
    assert age_ms > 0
    assert await statuses(index) == {run_id: "running"}


async def test_a_cut_is_healed_and_nothing_is_missed(nats_server: NatsServer) -> None:
    async with open_site(nats_server, unique("api-")) as site:
        await site.register()
        first = await site.start()
        await asyncio.to_thread(nats_server.restart, kill=True)
        await eventually(lambda: site.connection.connected and site.client.connection.connected, "both to be back")
        second = await site.start()
        await site.end(first)
        index = site.service._api.index  # type: ignore[union-attr]
        deadline = asyncio.get_running_loop().time() + 20
        while (await index.list_runs(RunQuery(), 10))[1]:
            assert asyncio.get_running_loop().time() < deadline, "the index does not come back"
        assert await statuses(index) == {first: "completed", second: "running"}


async def test_a_log_that_was_made_anew_makes_the_index_anew(nats_server: NatsServer) -> None:
    async with open_site(nats_server, unique("api-")) as site:
        await site.register()
        for _ in range(20):
            await site.start()
        index = site.service._api.index  # type: ignore[union-attr]
        assert len(await statuses(index)) == 20
        stream = site.topology.run_streams[0]
        await api(site.connection, f"STREAM.DELETE.{stream}", None, msgspec.Raw)
        settings = SiteSettings(durability="os", site_id=site.info.site_id)
        await ensure(site.connection, site.topology, settings)
        run_id = await site.start()
        deadline = asyncio.get_running_loop().time() + 20
        found: Any = None
        while found != {run_id}:
            assert asyncio.get_running_loop().time() < deadline, found
            found = {row.run_id for row in (await index.list_runs(RunQuery(), 100))[0]}


async def test_a_disk_that_is_away_is_waited_for(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    index = site.service._api.index  # type: ignore[union-attr]
    apply = index._store.apply
    failures = iter([sqlite3.OperationalError("disk I/O error")] * 2)

    def flaky(batch: Any) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        apply(batch)

    monkeypatch.setattr(index._store, "apply", flaky)
    monkeypatch.setattr(projection, "RETRY_S", 0.01)
    run_id = await site.start()
    assert await statuses(index) == {run_id: "running"}
