"""One command, one request, one reply: what is asked, what is printed, with which exit code."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from dagnats_core.errors import Busy, Conflict, DagNatsError, Forbidden, Invalid, NotFound, Problem, StorageFull
from dagnats_micro.schemas import common, dlq, run, system, wf, worker
from tests.integration.cli.conftest import Cli, run_id
from tests.support.fake_runs import FakeRun, timestamp


async def test_json_prints_exactly_the_reply_on_one_line(cli: Cli) -> None:
    reply = wf.WorkflowList(
        items=[wf.WorkflowItem(name="a", version=1, hash="h", label="é\n", steps=2, created_at=timestamp())],
        next_cursor="more",
    )
    cli.api.answers["wf-list"] = lambda _: reply
    result = await cli("wf", "list", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.out == msgspec.json.encode(reply).decode() + "\n"


async def test_options_are_taken_anywhere_in_the_line(cli: Cli) -> None:
    cli.api.answers["run-count"] = lambda _: common.Count(count=7)
    result = await cli("--json", "run", "count", "--workflow", "w", "--status", "failed", "--since", "24h")
    assert json.loads(result.out) == {"count": 7}
    assert cli.api.requests == [run.RunCountRequest(workflow="w", status="failed", since="24h")]


async def test_a_definition_is_sent_as_it_stands_in_its_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("name: flow\nsteps: [{id: a, task: t}]  # a comment\n")
    answer = wf.RegisterReply(name="flow", version=2, hash="h", created=True, current=True, warnings=[])
    cli.api.answers["wf-register"] = lambda _: answer
    result = await cli("wf", "register", str(file))
    assert (result.code, result.out) == (0, "flow v2 registered; it is the current version\n")
    assert cli.api.requests == [wf.RegisterRequest(definition=file.read_text())]


async def test_validate_tells_all_problems_and_ends_with_4(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text("{}")
    problems = [Problem("name", "required", "it is missing"), Problem("steps[0].task", "name", "'a b' is no name")]
    warning = wf.Warning(code="missing_schemas", path="input_schema", message="nothing is checked")
    reply = wf.ValidateReply(valid=False, problems=problems, warnings=[warning])
    cli.api.answers["wf-validate"] = lambda _: reply
    result = await cli("wf", "validate", str(file))
    assert (result.code, result.out) == (4, "")
    assert result.err.splitlines() == [
        "error: 2 problems found",
        "  name: it is missing",
        "  steps[0].task: 'a b' is no name",
        "warning: input_schema: nothing is checked (missing_schemas)",
    ]
    as_json = await cli("wf", "validate", str(file), "--json")
    assert as_json.code == 4
    assert json.loads(as_json.out)["problems"][1]["path"] == "steps[0].task"


async def test_start_sends_input_tags_and_request_id(cli: Cli) -> None:
    cli.runs.start_next(FakeRun(run_id("01"), "w", {"a": "t"}))
    result = await cli("wf", "start", "w", "--input", '{"n": 1}', "--tag", "a", "--tag", "k=v", "--request-id", "r/1")
    assert result.out == f"{run_id('01')}  w v1 started\n"
    assert cli.api.requests == [wf.StartRequest(workflow="w", input={"n": 1}, tags=["a", "k=v"], request_id="r/1")]


async def test_bad_input_is_told_before_anything_is_asked(cli: Cli) -> None:
    result = await cli("wf", "start", "w", "--input", '{"n": 1,}')
    assert result.code == 4
    assert "--input" in result.err
    assert "line 1 column 9" in result.err
    assert cli.api.requests == []


async def test_start_many_reads_lines_and_ends_with_the_first_refusal(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "inputs.jsonl"
    file.write_text('{"n": 1}\n{"n": 2}\n')
    refusal = common.ErrorReply(code="conflict", message="another body")
    items = [
        run.StartedItem(run_id=run_id("01"), created=True),
        run.StartedItem(run_id=None, created=False, error=refusal),
    ]
    cli.api.answers["run-start-many"] = lambda _: run.StartManyReply(items=items)
    result = await cli("run", "start-many", "w", "--inputs", str(file))
    assert result.code == 5
    assert "another body (conflict)" in result.out
    assert cli.api.requests == [run.StartManyRequest(workflow="w", inputs=[{"n": 1}, {"n": 2}])]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), 3),
        (Invalid("x", [Problem("p", "r", "m")]), 4),
        (Conflict("x"), 5),
        (Busy("x"), 6),
        (StorageFull("x"), 6),
        (Forbidden("x"), 9),
        (DagNatsError("x"), 1),
    ],
)
async def test_each_class_of_error_has_its_exit_code(cli: Cli, error: DagNatsError, code: int) -> None:
    def refuse(_: object) -> wf.WorkflowList:
        raise error

    cli.api.answers["wf-list"] = refuse
    result = await cli("wf", "list")
    assert (result.code, result.out) == (code, "")
    assert result.err.splitlines()[0] == "error: x"
    as_json = await cli("wf", "list", "--json")
    assert json.loads(as_json.err)["code"] == error.code


async def test_nobody_there_is_6(cli: Cli) -> None:
    await cli.api.stop()
    result = await cli("wf", "list")
    assert result.code == 6
    assert "answers at" in result.err


async def test_a_deadline_is_kept(cli: Cli) -> None:
    async def silent(_: object) -> wf.WorkflowList:
        await asyncio.Event().wait()
        raise AssertionError

    cli.api.answers["wf-list"] = silent
    result = await cli("wf", "list", "--timeout", "200ms")
    assert result.code == 8


async def test_lists_are_tables_and_say_that_there_is_more(cli: Cli) -> None:
    letter = dlq.DeadLetter(
        id=run_id("01"), kind="failed", run_id=run_id("01"), workflow="w", version=1, step="a", task="t", attempts=3,
        error=common.Failure(code="handler_error", message="boom"), created_at=timestamp(),
    )  # fmt: skip
    cli.api.answers["dlq-list"] = lambda _: dlq.DeadLetterList(items=[letter], next_cursor="c1")
    result = await cli("dlq", "list", "--limit", "1")
    lines = result.out.splitlines()
    assert lines[0].split() == ["id", "kind", "workflow", "step", "attempts", "created"]
    assert lines[1].split()[:5] == [run_id("01"), "failed", "w", "a", "3"]
    assert lines[2] == "  boom (handler_error)"
    assert result.err == "there are more: --cursor c1\n"


async def test_an_empty_list_says_so_beside_the_result(cli: Cli) -> None:
    cli.api.answers["worker-list"] = lambda _: worker.WorkerList(items=[], next_cursor=None)
    result = await cli("worker", "list")
    assert (result.code, result.out, result.err) == (0, "", "none\n")


async def test_a_run_is_shown_with_its_steps_and_what_failed(cli: Cli) -> None:
    made = cli.runs.add(FakeRun(run_id("01"), "w", {"a": "text.split", "b": "text.count"}))
    await made.tell("run_created")
    await made.tell("step_queued", "a", attempt=1)
    error = common.Failure(code="handler_error", message="boom", step="a")
    await made.tell("step_failed", "a", attempt=1, error=error)
    await made.end(error=error)
    result = await cli("run", "get", run_id("01"))
    assert result.code == 0
    assert "step a: boom (handler_error)" in result.out
    assert any(line.split()[:4] == ["a", "text.split", "failed", "1"] for line in result.out.splitlines())
    assert any(line.split()[:3] == ["b", "text.count", "pending"] for line in result.out.splitlines())


async def test_health_that_fails_is_an_exit_code(cli: Cli) -> None:
    component = system.Component(name="nats", status="failing", cause="the disk is full")
    cli.api.answers["system-health"] = lambda _: system.Health(status="failing", components=[component])
    result = await cli("system", "health")
    assert result.code == 6
    assert "the disk is full" in result.out


async def test_status_is_one_screen(cli: Cli) -> None:
    info = system.Info(
        site="x", site_id="id1", version="1.2.3", domain="x", role="serve", partitions=16, shards=1, replicas=1,
        durability="always", may_lose="nothing", nats_version="2.15.1", nats_url="nats://h:1", http_url=None,
        started_at=timestamp(), now=timestamp(),
    )  # fmt: skip
    cli.api.answers |= {
        "system-info": lambda _: info,
        "system-health": lambda _: system.Health(status="ok", components=[]),
        "worker-list": lambda _: worker.WorkerList(items=[], next_cursor=None),
        "dlq-list": lambda _: dlq.DeadLetterList(items=[], next_cursor=None),
        "run-count": lambda request: common.Count(count=5 if request.status == "running" else 0),
    }
    result = await cli("status")
    assert result.code == 0
    shown = {line[:14].strip(): line[14:] for line in result.out.splitlines()}
    assert shown["runs"] == "5 running"
    assert shown["durability"].startswith("always")
    assert shown["dead letters"] == "none"
    as_json = json.loads((await cli("status", "--json")).out)
    assert (as_json["info"]["site"], as_json["runs"]["running"], as_json["workers"]) == ("x", 5, [])


async def test_ids_by_unique_prefix(cli: Cli) -> None:
    for stem in ("01abc", "01abd", "01xyz"):
        await cli.runs.add(FakeRun(run_id(stem), "w", {})).end()
    assert json.loads((await cli("run", "get", "01X", "--json")).out)["run_id"] == run_id("01xyz")
    result = await cli("run", "get", "01ab")
    assert result.code == 4
    assert run_id("01abc") in result.err
    assert run_id("01abd") in result.err
    assert (await cli("run", "get", "02")).code == 3
    assert (await cli("run", "get", "no-id!")).code == 3
    assert json.loads((await cli("run", "get", "--last", "--json")).out)["run_id"] == run_id("01xyz")


async def test_output_is_the_whole_of_a_large_one(cli: Cli) -> None:
    made = cli.runs.add(FakeRun(run_id("01"), "w", {"a": "t"}))
    result = await cli("run", "output", run_id("01"))
    assert (result.code, result.out) == (5, "")
    value = {"lines": ["x" * 50] * 200}
    await made.end(value)
    result = await cli("run", "output", "--last")
    assert (result.code, json.loads(result.out)) == (0, value)


async def test_output_of_a_failed_run_is_its_error(cli: Cli) -> None:
    made = cli.runs.add(FakeRun(run_id("01"), "w", {"a": "t"}))
    await made.end(error=common.Failure(code="timeout", message="too slow", step="a"))
    result = await cli("run", "output", "--last")
    assert (result.code, result.out) == (7, "")
    assert "step a: too slow (timeout)" in result.err
