"""A data dir has one holder, one mode and one site for ever."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path

import pytest

from dagnats_core import limits
from dagnats_core.errors import Conflict, Unavailable
from dagnats_core.server.data_dir import DataDir, Mode


async def test_it_is_made_private_and_keeps_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    first = await DataDir.open(path, "berlin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    first.close()
    second = await DataDir.open(path, "berlin")
    second.close()
    assert second.record == first.record
    assert (first.record.mode, first.record.site, len(first.record.site_id)) == (Mode.STANDALONE, "berlin", 32)
    assert [file.name for file in path.glob("*.partial")] == []


async def test_it_remembers_the_id_of_the_site_that_stands_in_its_store(tmp_path: Path) -> None:
    first = await DataDir.open(tmp_path, "berlin")
    first.adopt("made-by-an-engine")
    first.close()
    second = await DataDir.open(tmp_path, "berlin")
    second.close()
    assert second.record == first.record
    assert (second.record.site, second.record.site_id) == ("berlin", "made-by-an-engine")


async def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = await DataDir.open(tmp_path, "local")
    with pytest.raises(Conflict, match=rf"is in use by process {os.getpid()} on \S+ since 20\d\d-\S+\+00:00"):
        await DataDir.open(tmp_path, "local")
    first.close()
    (await DataDir.open(tmp_path, "local")).close()


async def test_a_holder_who_left_no_name_is_still_a_holder(tmp_path: Path) -> None:
    first = await DataDir.open(tmp_path, "local")
    (tmp_path / "serve.lock").write_text("")
    with pytest.raises(Conflict, match="is in use by another process"):
        await DataDir.open(tmp_path, "local")
    first.close()


async def test_another_site_or_mode_is_refused_and_the_lock_let_go(tmp_path: Path) -> None:
    (await DataDir.open(tmp_path, "berlin")).close()
    with pytest.raises(Conflict, match="belongs to site 'berlin', not to 'local'"):
        await DataDir.open(tmp_path, "local")
    with pytest.raises(Conflict, match="was made standalone and cannot be used clustered"):
        await DataDir.open(tmp_path, "berlin", Mode.CLUSTERED)
    (await DataDir.open(tmp_path, "berlin")).close()


async def test_a_store_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jetstream").mkdir()
    with pytest.raises(Conflict, match=r"holds a store but no site\.json"):
        await DataDir.open(tmp_path, "local")
    assert not (tmp_path / "site.json").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"mode":"other","site":"a","site_id":"b"}', "\xff"])
async def test_an_unreadable_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "site.json").write_text(content)
    with pytest.raises(Conflict, match=r"site\.json cannot be read"):
        await DataDir.open(tmp_path, "local")


async def test_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        await DataDir.open(tmp_path / "file", "local")


async def test_a_start_waits_for_the_server_of_an_earlier_life(tmp_path: Path) -> None:
    held = os.open(tmp_path / "store.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    opening = asyncio.create_task(DataDir.open(tmp_path, "local"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not opening.done()
    os.close(held)
    (await asyncio.wait_for(opening, 5)).close()


async def test_a_start_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVER_LOCK_MS_MAX", 20)
    held = os.open(tmp_path / "store.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(Unavailable, match=r"an earlier life \(process unknown\) still runs"):
        await DataDir.open(tmp_path, "local")
    os.close(held)
    (await DataDir.open(tmp_path, "local")).close()


async def test_the_store_stays_locked_while_a_child_has_the_descriptor(tmp_path: Path) -> None:
    first = await DataDir.open(tmp_path, "local")
    inherited = os.dup(first.store_lock)
    first.close()
    opening = asyncio.create_task(DataDir.open(tmp_path, "local"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not opening.done()
    os.close(inherited)
    (await asyncio.wait_for(opening, 5)).close()
