"""Workers in the control plane: queues that exist once they are named, and a list of who lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagnats_core.bus.consume import PullConsumer, TaskMessage
from dagnats_core.errors import Invalid
from dagnats_core.run import messages as m
from dagnats_micro.schemas import worker
from dagnats_micro.table import WORKER_BEAT, WORKER_CONNECT, WORKER_LIST
from tests.support.bus import eventually
from tests.support.micro import ApiSite


def beat(worker_id: str, *tasks: str, **fields: Any) -> worker.BeatRequest:
    return worker.BeatRequest(worker_id=worker_id, tasks=[worker.TaskType(task=task) for task in tasks], **fields)


async def test_a_queue_can_be_pulled_from_as_it_was_named(api_site: ApiSite) -> None:
    await api_site.register()
    run_id = await api_site.start()
    await api_site.queue(run_id, 1, "a")
    tasks = [worker.TaskType(task="t.a"), worker.TaskType(task="t.b", group="gpu")]
    request = worker.ConnectRequest(worker_id="w1", tasks=tasks)
    replies = await asyncio.gather(*(api_site.client.call(WORKER_CONNECT, request) for _ in range(5)))
    assert len({str(reply.queues) for reply in replies}) == 1
    first, second = replies[0].queues
    assert (first.task, first.group, first.token) == ("t.a", None, "t~a")
    assert (second.task, second.group, second.token) == ("t.b", "gpu", "t~b@gpu")
    got: list[TaskMessage] = []
    puller = PullConsumer(api_site.client.connection, first.stream, first.consumer, got.append, lambda: 1)
    await puller.start()
    await eventually(lambda: got, "the task")
    await puller.stop()
    task = m.decode_decision(got[0].data).task
    assert task is not None
    assert (task.run_id, task.step) == (run_id, "a")


async def test_bad_task_names_are_all_named(api_site: ApiSite) -> None:
    tasks = [worker.TaskType(task=name) for name in ("ok", "a..b", "x.", "fine.too")]
    with pytest.raises(Invalid) as caught:
        await api_site.client.call(WORKER_CONNECT, worker.ConnectRequest(worker_id="w", tasks=tasks))
    assert {problem.path for problem in caught.value.problems} <= {"tasks[1].task", "tasks[2].task", "tasks[2]"}


async def test_workers_that_live_are_listed_until_they_say_goodbye(api_site: ApiSite) -> None:
    for number in range(5):
        await api_site.client.call(WORKER_BEAT, beat(f"w{number}", "t.a", f"t.{number}", running=number, hostname="h"))
    first = await api_site.client.call(WORKER_LIST, worker.WorkerListRequest(limit=3))
    rest = await api_site.client.call(WORKER_LIST, worker.WorkerListRequest(cursor=first.next_cursor))
    found = first.items + rest.items
    assert [(item.worker_id, item.running) for item in found] == [(f"w{number}", number) for number in range(5)]
    assert found[2].tasks == ["t.2", "t.a"]
    assert found[2].last_seen.endswith("Z")
    only = await api_site.client.call(WORKER_LIST, worker.WorkerListRequest(task="t.3"))
    assert [item.worker_id for item in only.items] == ["w3"]
    await api_site.client.call(WORKER_BEAT, beat("w3", stopping=True))
    await api_site.client.call(WORKER_BEAT, beat("w3", stopping=True))
    left = await api_site.client.call(WORKER_LIST, worker.WorkerListRequest())
    assert [item.worker_id for item in left.items] == ["w0", "w1", "w2", "w4"]
