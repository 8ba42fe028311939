"""What `Worker` refuses before it ever connects, and what importing the face costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dagnats
from dagnats import Context, Invalid, Worker
from dagnats.worker.cancel import Notices
from dagnats_core import ids, limits


async def handler(ctx: Context, value: int) -> int:
    return value


def test_a_task_has_one_handler() -> None:
    worker = Worker()
    worker.task("a.b")(handler)
    with pytest.raises(ValueError, match="has a handler already"):
        worker.task("a.b")
    worker.task("a.b", group="gpu")(handler)


def test_the_decorator_gives_the_function_back() -> None:
    assert Worker().task("a")(handler) is handler


@pytest.mark.parametrize("name", ["", "a b", "a..b", ".a", "a>", "x" * 65, "a\n"])
def test_bad_task_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a task name"):
        Worker().task(name)


@pytest.mark.parametrize("bound", [0, -1, 10_001])
def test_concurrency_is_bounded(bound: int) -> None:
    with pytest.raises(ValueError, match="max_concurrent"):
        Worker(max_concurrent=bound)
    with pytest.raises(ValueError, match="max_concurrent"):
        Worker().task("a", max_concurrent=bound)


def test_worker_ids_are_names_and_unique() -> None:
    first, second = Worker(name="counter"), Worker(name="counter")
    assert first.worker_id != second.worker_id
    assert first.worker_id.startswith("counter-")
    assert ids.is_name(Worker().worker_id)
    with pytest.raises(ValueError, match="not a worker name"):
        Worker(name="x" * 60)


async def test_a_worker_without_tasks_does_not_start() -> None:
    with pytest.raises(Invalid, match="no task"):
        await Worker().start()


async def test_a_missing_credentials_file_is_named() -> None:
    worker = Worker(creds="/nowhere/x.creds")
    worker.task("a")(handler)
    with pytest.raises(Invalid, match=r"/nowhere/x\.creds"):
        await worker.start()


def test_every_public_name_can_be_imported() -> None:
    assert set(dagnats.__all__) == set(dagnats._MODULES)
    for name in dagnats.__all__:
        assert getattr(dagnats, name) is not None
    with pytest.raises(AttributeError):
        _ = dagnats.Nothing


def test_the_face_itself_imports_no_network_code() -> None:
    code = "import sys, dagnats; print([m for m in ('nats', 'msgspec', 'asyncio') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_notices_are_forgotten_after_a_minute_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANCEL_NOTICES_MAX", 3)
    notices = Notices()
    for index in range(5):
        notices.add(f"run{index}", float(index))
    assert len(notices) == 3
    assert "run1" not in notices
    notices.add("run2", 50.0)
    notices.forget_old(63.5)
    assert "run2" in notices
    assert "run3" not in notices
    assert "run4" in notices
