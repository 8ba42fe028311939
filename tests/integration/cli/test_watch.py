"""Watching: what happens is shown at once, the end is the exit code, and nothing but the deadline ends it early."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

from dagnats_micro.schemas.common import Failure
from tests.integration.cli.conftest import Cli, run_id
from tests.support.fake_runs import FakeRun

BOOM = Failure(code="handler_error", message="boom", step="a")


def made(cli: Cli, **steps: str) -> FakeRun:
    return FakeRun(run_id("01"), "w", steps or {"a": "t"})


async def test_one_line_an_event_and_0_at_the_end(cli: Cli) -> None:
    one = cli.runs.start_next(made(cli))
    watching = asyncio.create_task(cli("wf", "start", "w", "--watch"))
    await asyncio.wait_for(one.watched.wait(), 10)
    await one.tell("run_created")
    await one.tell("step_queued", "a", attempt=1)
    await one.tell("step_completed", "a", attempt=1, duration_ms=1234)
    await one.end({"n": 1})
    result = await watching
    assert (result.code, result.err) == (0, "")
    lines = [line.split(maxsplit=1)[1].split() for line in result.out.splitlines()[:-1]]
    assert lines == [
        ["run_created"],
        ["step_queued", "a", "attempt", "1"],
        ["step_completed", "a", "attempt", "1", "1.23s"],
        ["run_ended", "completed"],
    ]
    assert result.out.splitlines()[-1].startswith(f"w {run_id('01')} completed in ")


async def test_a_failed_run_is_7_with_its_error(cli: Cli) -> None:
    one = cli.runs.add(made(cli))
    await one.tell("run_created")
    await one.tell("step_failed", "a", attempt=1, error=BOOM)
    await one.end(error=BOOM)
    result = await cli("run", "watch", "--last")
    assert result.code == 7
    assert result.err == f"error: run {run_id('01')} failed: step a: boom (handler_error)\n"


async def test_a_cancelled_run_is_7(cli: Cli) -> None:
    one = cli.runs.add(made(cli))
    await one.end(status="cancelled")
    result = await cli("run", "watch", run_id("01"))
    assert result.code == 7
    assert "cancelled" in result.err


async def test_a_parked_run_is_not_waited_for(cli: Cli) -> None:
    one = cli.runs.add(made(cli))
    await one.tell("run_parked", status="paused", error=Failure(code="parked", message="cannot decide"))
    result = await cli("run", "watch", "--last")
    assert result.code == 7
    assert "paused" in result.err


async def test_output_alone_is_on_stdout(cli: Cli) -> None:
    one = cli.runs.start_next(made(cli))
    await one.end({"n": 1})
    result = await cli("wf", "start", "w", "--output")
    assert (result.code, result.out, result.err) == (0, '{"n":1}\n', "")
    two = cli.runs.start_next(made(cli))
    await two.end([1, 2])
    result = await cli("wf", "start", "w", "--output", "--watch")
    assert (result.code, result.out) == (0, "[1,2]\n")
    assert "run_ended" in result.err


async def test_json_is_the_reply_each_event_and_the_run(cli: Cli) -> None:
    one = cli.runs.start_next(made(cli))
    await one.tell("run_created")
    await one.end(3)
    result = await cli("wf", "start", "w", "--watch", "--json")
    started, *events, final = [json.loads(line) for line in result.out.splitlines()]
    assert started["run_id"] == run_id("01")
    assert [event["type"] for event in events] == ["run_created", "run_ended"]
    assert (final["status"], final["output"]) == ("completed", 3)


async def test_the_deadline_ends_the_watching_and_says_so(cli: Cli) -> None:
    cli.runs.start_next(made(cli))
    result = await cli("wf", "start", "w", "--watch", "--timeout", "300ms")
    assert result.code == 8
    assert f"the run goes on: {run_id('01')}" in result.err


async def test_it_goes_on_when_the_api_was_away(cli: Cli) -> None:
    one = cli.runs.start_next(made(cli))
    watching = asyncio.create_task(cli("wf", "start", "w", "--watch", "--timeout", "30s"))
    await asyncio.wait_for(one.watched.wait(), 10)
    await one.tell("run_created")
    await cli.api.stop()
    await one.tell("step_queued", "a", attempt=1)
    await cli.api.start()
    await one.end(1)
    result = await watching
    assert result.code == 0
    types = [line.split()[1] for line in result.out.splitlines()[:-1]]
    assert [type for type in types if type.startswith(("run", "step"))] == ["run_created", "step_queued", "run_ended"]


async def test_a_step_that_waits_for_another_attempt_is_not_an_end(cli: Cli) -> None:
    one = cli.runs.start_next(made(cli))
    retry_at = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    watching = asyncio.create_task(cli("wf", "start", "w", "--watch"))
    await asyncio.wait_for(one.watched.wait(), 10)
    await one.tell("step_failed", "a", attempt=1, error=BOOM, retry_at=retry_at)
    await one.tell("step_completed", "a", attempt=2)
    await one.end(1)
    result = await watching
    assert result.code == 0
    assert "boom (handler_error)" in result.out


async def test_an_unknown_run_is_3(cli: Cli) -> None:
    assert (await cli("run", "watch", run_id("09"))).code == 3
