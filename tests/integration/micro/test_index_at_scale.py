"""A million runs: the first page with any filter within 20 ms, counts by workflow and status at once."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dagnats_core import ids, limits
from dagnats_micro.index import query
from dagnats_micro.index.query import DeadQuery, RunQuery
from dagnats_micro.index.store import Batch, DeadRow, IndexStore, RunRow

RUNS = 1_000_000
BATCH = 20_000
SPAN_MS = 30 * limits.DAY_MS
T0 = 1_790_000_000_000
MIDDLE = T0 + SPAN_MS // 2
PAGE_MS_MAX = 20.0


def fill(store: IndexStore) -> None:
    """Seventeen workflows, every fifth run tagged, every fourth id a hash, one in forty failed."""
    rnd = random.Random(1)
    for first in range(0, RUNS, BATCH):
        rows, dead = [], []
        for number in range(first, first + BATCH):
            at = T0 + SPAN_MS * number // RUNS
            run_id = ids.new_run_id(at, rnd.getrandbits(80), 16)
            if number % 4 == 0:
                run_id = ids.requested_run_id("w", str(number), 16)
            status = "failed" if number % 40 == 0 else "cancelled" if number % 40 == 20 else "completed"
            tags = f'["nightly","t{number % 1000}"]' if number % 5 == 0 else None
            workflow = f"wf-{number % 17}"
            rows.append(RunRow(run_id, workflow, 1, status, at, at + 50, tags=tags, archive_seq=number + 1))
            if status == "failed":
                dead.append(DeadRow(run_id, "failed", "a", "t", 3, '{"code":"x","message":"y"}', at + 50))
        store.apply(Batch(rows, dead, [], {"log": first}))


def median_ms(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_first_page_is_quick(tmp_path: Path) -> None:
    store = IndexStore(tmp_path / "index.sqlite", "site")
    began = time.perf_counter()
    fill(store)
    print(f"{RUNS / (time.perf_counter() - began):.0f} rows/s")
    newest = query.list_runs(store, RunQuery(), 1)[0].run_id
    middle = ids.new_run_id(MIDDLE, 0, 16)
    pages = {
        "none": RunQuery(),
        "workflow": RunQuery(workflow="wf-3"),
        "status": RunQuery(status="failed"),
        "a status that no run has": RunQuery(status="running"),
        "workflow and status": RunQuery(workflow="wf-3", status="failed"),
        "tag": RunQuery(tag="nightly"),
        "tag, workflow and status": RunQuery(tag="nightly", workflow="wf-3", status="cancelled"),
        "a rare tag": RunQuery(tag="t5", workflow="wf-3"),
        "since": RunQuery(since_ms=MIDDLE),
        "until": RunQuery(until_ms=MIDDLE),
        "a day of a workflow": RunQuery(workflow="wf-3", since_ms=MIDDLE, until_ms=MIDDLE + limits.DAY_MS),
        "a later page": RunQuery(after=(MIDDLE, "h")),
        "any time": RunQuery(prefix="0"),
        "nine hours by prefix": RunQuery(prefix=middle[:5]),
        "one second by prefix": RunQuery(prefix=middle[:8]),
        "one id": RunQuery(prefix=newest),
        "any hash": RunQuery(prefix="h"),
        "some hashes": RunQuery(prefix="h1"),
        "few hashes that failed": RunQuery(prefix="h1", status="failed", tag="nightly"),
        "no id": RunQuery(prefix="1"),
    }
    took = {name: median_ms(lambda wanted=wanted: query.list_runs(store, wanted, 51)) for name, wanted in pages.items()}
    took["dead letters"] = median_ms(lambda: query.list_dead(store, DeadQuery(), 51))
    took["dead letters of a workflow"] = median_ms(lambda: query.list_dead(store, DeadQuery(workflow="wf-3"), 51))
    for name in ("none", "workflow", "status", "workflow and status"):
        took[f"count: {name}"] = median_ms(lambda wanted=pages[name]: query.count_runs(store, wanted))
    for name, ms in took.items():
        print(f"{name:30} {ms:8.2f} ms")
    store.close()
    assert {name: ms for name, ms in took.items() if ms > PAGE_MS_MAX} == {}
