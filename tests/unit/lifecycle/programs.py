"""Programs that tests run as processes of their own: `python -m tests.unit.lifecycle.programs <name>`.

Each prints `ready` on standard output when it has started and `stop entered` when its stop begins to hang.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import structlog
import uvloop

from dagnats_core import lifecycle
from dagnats_core.errors import Invalid, Problem, Unavailable
from dagnats_core.lifecycle import Stack
from dagnats_core.telemetry.logs import LogFormat, configure_logs


class Quiet:
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class HangsInStop(Quiet):
    async def stop(self) -> None:
        print("stop entered", flush=True)
        await asyncio.Event().wait()


class BlocksInStop(Quiet):
    async def stop(self) -> None:
        print("stop entered", flush=True)
        time.sleep(1000)  # noqa: ASYNC251 (a blocked event loop is the point)


class BlocksWhileRunning(Quiet):
    async def start(self) -> None:
        asyncio.get_running_loop().call_later(0.01, self.block)

    def block(self) -> None:
        print("blocked", flush=True)
        time.sleep(1000)


class BlocksInItsLog(Quiet):
    async def stop(self) -> None:
        print("stop entered", flush=True)
        while True:
            structlog.get_logger().info("a line that fills the pipe", text="x" * 10_000)


class RaisesInStop(Quiet):
    async def stop(self) -> None:
        raise RuntimeError("cannot stop")


class HangsInStart(Quiet):
    async def start(self) -> None:
        say_ready()
        await asyncio.Event().wait()


class IgnoresCancel(Quiet):
    async def start(self) -> None:
        say_ready()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue


class LeavesAThread(Quiet):
    async def stop(self) -> None:
        threading.Thread(target=time.sleep, args=(1000,), name="left-behind").start()


class LeavesAnExecutorThread(Quiet):
    async def stop(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)


class LeavesATask(Quiet):
    async def start(self) -> None:
        self.task = asyncio.create_task(asyncio.sleep(1000))


def say_ready() -> None:
    print("ready", flush=True)


SERVICES = {
    cls.__name__: cls
    for cls in (
        Quiet,
        HangsInStop,
        BlocksInStop,
        BlocksInItsLog,
        BlocksWhileRunning,
        RaisesInStop,
        HangsInStart,
        IgnoresCancel,
        LeavesAThread,
        LeavesAnExecutorThread,
        LeavesATask,
    )
}


async def compose(stack: Stack) -> None:
    await stack.start("below", Quiet())
    name = sys.argv[1]
    if name == "InvalidStart":
        raise Invalid("not valid", [Problem("a.b", "rule", "must not be")])
    if name == "BrokenStart":
        raise KeyError("broken")
    if name == "CancelledStart":
        raise asyncio.CancelledError
    if name == "FailsLater":
        say_ready()
        asyncio.get_running_loop().call_later(0.05, stack.fail, Unavailable("nats-server is gone"))
        return
    await stack.start(name, SERVICES[name]())
    say_ready()


if __name__ == "__main__":
    configure_logs(LogFormat.JSON)
    loop_factory = uvloop.new_event_loop if "--uvloop" in sys.argv else None
    code = lifecycle.run(compose, stop_ms=500, loop_factory=loop_factory)
    print("ended", [thread.name for thread in threading.enumerate() if not thread.daemon], flush=True)
    sys.exit(code)
