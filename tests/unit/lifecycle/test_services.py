"""The contract of a service, and the stack that starts services in order and stops them in reverse."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core.errors import Unavailable
from dagnats_core.lifecycle import ServiceBase, Stack


class Recorder(ServiceBase):
    """Writes down what happens to it; fails or waits where told to."""

    def __init__(self, name: str, diary: list[str], *, start_error: str = "", stop_error: str = "") -> None:
        super().__init__()
        self.name = name
        self.diary = diary
        self.start_error = start_error
        self.stop_error = stop_error
        self.entered = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def _start(self) -> None:
        self.diary.append(f"start {self.name}")
        self.entered.set()
        await self.may_start.wait()
        if self.start_error:
            raise RuntimeError(self.start_error)

    async def _stop(self) -> None:
        self.diary.append(f"stop {self.name}")
        if self.stop_error:
            raise RuntimeError(self.stop_error)


async def test_stopping_before_a_start_or_twice_does_nothing() -> None:
    service = Recorder("a", diary := [])
    await service.stop()
    await service.start()
    await asyncio.gather(service.stop(), service.stop())
    await service.stop()
    assert diary == ["start a", "stop a"]


async def test_a_running_service_cannot_be_started_again_but_a_stopped_one_can() -> None:
    service = Recorder("a", diary := [])
    await service.start()
    with pytest.raises(RuntimeError, match="Recorder is running"):
        await service.start()
    await service.stop()
    await service.start()
    assert diary == ["start a", "stop a", "start a"]


async def test_a_failed_start_lets_go_of_everything() -> None:
    service = Recorder("a", diary := [], start_error="no")
    with pytest.raises(RuntimeError, match="no"):
        await service.start()
    await service.stop()
    assert diary == ["start a", "stop a"]


async def test_a_cancelled_start_lets_go_of_everything() -> None:
    service = Recorder("a", diary := [])
    service.may_start.clear()
    starting = asyncio.create_task(service.start())
    await service.entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert diary == ["start a", "stop a"]


async def test_a_stop_waits_for_a_start_under_way() -> None:
    service = Recorder("a", diary := [])
    service.may_start.clear()
    starting = asyncio.create_task(service.start())
    await service.entered.wait()
    stopping = asyncio.create_task(service.stop())
    service.may_start.set()
    await asyncio.gather(starting, stopping)
    assert diary == ["start a", "stop a"]


async def test_a_stack_stops_in_reverse_and_names_its_step() -> None:
    stack, diary = Stack(), []
    for name in "abc":
        await stack.start(name, Recorder(name, diary))
        assert stack.step == f"start of {name}"
    assert await stack.stop() == ()
    assert diary == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
    assert stack.step == "stop of a"
    assert stack.state == "stopped"
    assert await stack.stop() == ()


async def test_a_stack_goes_on_when_a_stop_raises() -> None:
    stack, diary = Stack(), []
    await stack.start("a", Recorder("a", diary))
    await stack.start("b", Recorder("b", diary, stop_error="stuck"))
    (error,) = await stack.stop()
    assert str(error) == "stuck"
    assert diary[-2:] == ["stop b", "stop a"]


class AwaitsACancelledTask:
    async def start(self) -> None: ...

    async def stop(self) -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task


async def test_a_stop_that_awaits_something_cancelled_is_an_error_like_others() -> None:
    stack, diary = Stack(), []
    await stack.start("a", Recorder("a", diary))
    await stack.start("b", AwaitsACancelledTask())
    (error,) = await stack.stop()
    assert isinstance(error, asyncio.CancelledError)
    assert diary == ["start a", "stop a"]


async def test_a_cancelled_stop_is_cancelled() -> None:
    stack = Stack()
    await stack.start("a", AwaitsACancelledTask())
    stopping = asyncio.create_task(stack.stop())
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_a_service_that_did_not_start_is_not_in_the_stack() -> None:
    stack, diary = Stack(), []
    await stack.start("a", Recorder("a", diary))
    with pytest.raises(RuntimeError, match="no"):
        await stack.start("b", Recorder("b", diary, start_error="no"))
    await stack.stop()
    assert diary == ["start a", "start b", "stop b", "stop a"]


async def test_a_watched_failure_fails_the_stack_and_the_first_one_counts() -> None:
    stack = Stack()
    trigger: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def failure() -> BaseException:
        return await trigger

    stack.watch(failure())
    first = Unavailable("gave up")
    trigger.set_result(first)
    assert await stack.failed() is first
    stack.fail(Unavailable("later"))
    assert await stack.failed() is first


async def test_watchers_end_with_the_stack() -> None:
    stack = Stack()

    async def never() -> BaseException:
        await asyncio.Event().wait()
        raise AssertionError

    before = asyncio.all_tasks()
    stack.watch(never())
    await stack.stop()
    assert asyncio.all_tasks() == before
