"""The whole together: serve, a worker, and the command line; and the same from processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_serve import cli, status_of
from tests.support.nats import NatsServer
from tests.support.sample_worker import DEFINITION
from tests.support.serve import Program, script

START_S_MAX = 0.4
"""What a simple command may take of the processor before its request is on its way."""


@pytest.fixture
def definition(tmp_path: Path) -> str:
    file = tmp_path / "sample.yaml"
    file.write_text(DEFINITION)
    return str(file)


@pytest.fixture
def start_worker(start_program: Callable[..., Program]) -> Callable[[str], Program]:
    def start(url: str) -> Program:
        command = [sys.executable, "-m", "tests.support.sample_worker", "--nats-url", url, "--log-format", "json"]
        program = start_program(*command)
        program.event("worker.ready")
        return program

    return start


def watching(url: str, seconds: float, value: object = 1) -> subprocess.Popen[str]:
    """`wf start --watch` in the background."""
    input = json.dumps({"value": value, "seconds": seconds})
    command = [script("dagnats"), "wf", "start", "sample", "--input", input, "--watch", "--output", "--nats-url", url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_is_started_watched_and_read(start_serve, start_worker, definition: str) -> None:  # type: ignore[no-untyped-def]
    url = start_serve().ready()["nats_url"]
    assert cli(url, "wf", "register", definition).returncode == 0
    start_worker(url)
    done = cli(url, "wf", "start", "sample", "--input", '{"value": 3, "seconds": 0}', "--watch")
    assert (done.returncode, done.stderr) == (0, "")
    types = [line.split()[1] for line in done.stdout.splitlines()]
    assert types[0] == "run_created"
    assert types.count("step_completed") == 3
    assert done.stdout.splitlines()[-1].split()[2] == "completed"
    only_output = cli(url, "wf", "start", "sample", "--input", '{"value": 3, "seconds": 0}', "--output")
    assert (only_output.returncode, only_output.stdout, only_output.stderr) == (0, "12\n", "")
    assert json.loads(cli(url, "run", "count", "--status", "completed", "--json").stdout) == {"count": 2}


def test_a_failed_run_is_7_and_a_dead_letter(start_serve, start_worker, definition: str) -> None:  # type: ignore[no-untyped-def]
    url = start_serve().ready()["nats_url"]
    cli(url, "wf", "register", definition)
    start_worker(url)
    failed = cli(url, "wf", "start", "sample", "--input", '{"value": "bad", "seconds": 0}', "--watch")
    assert failed.returncode == 7
    assert "this value is bad (bad_value)" in failed.stderr
    letters = json.loads(cli(url, "dlq", "list", "--json").stdout)["items"]
    assert [letter["step"] for letter in letters] == ["first"]
    assert cli(url, "dlq", "replay", "--last", "--watch").returncode == 7
    assert cli(url, "run", "output", "--last").returncode == 7


def test_inputs_of_any_size(start_serve, start_worker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = start_serve().ready()["nats_url"]
    definition, file = tmp_path / "large.yaml", tmp_path / "input.json"
    definition.write_text("name: large\nsteps: [{id: only, task: sample.double}]\n")
    cli(url, "wf", "register", str(definition))
    start_worker(url)
    for size in (0, 1024 * 1024, 10 * 1024 * 1024):
        text = "x" * size
        file.write_text(json.dumps({"value": [text]}))
        done = cli(url, "wf", "start", "large", "--input", f"@{file}", "--output")
        assert done.returncode == 0, done.stderr[:1000]
        assert json.loads(done.stdout) == [text] * 2


def test_a_watcher_outlives_a_killed_server(start_serve, start_worker, definition: str) -> None:  # type: ignore[no-untyped-def]
    serve = start_serve()
    ready = serve.ready()
    url = ready["nats_url"]
    ports = ("--nats-port", url.rpartition(":")[2], "--http-addr", ready["http_url"][7:])
    cli(url, "wf", "register", definition)
    start_worker(url)
    watcher = watching(url, seconds=4)
    assert watcher.stderr is not None
    while "step_started" not in watcher.stderr.readline():
        pass
    serve.stop(signal.SIGKILL)
    start_serve(ports=ports).ready()
    out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, out) == (0, "4\n"), err


def test_cancel_ends_the_watching_with_7(start_serve, start_worker, definition: str) -> None:  # type: ignore[no-untyped-def]
    url = start_serve().ready()["nats_url"]
    cli(url, "wf", "register", definition)
    start_worker(url)
    watcher = watching(url, seconds=60)
    assert watcher.stderr is not None
    while "step_started" not in watcher.stderr.readline():
        pass
    assert cli(url, "run", "cancel", "--last", "--reason", "no longer wanted").returncode == 0
    out, err = watcher.communicate(timeout=30)
    assert (watcher.returncode, out) == (7, "")
    assert "cancelled" in err


def test_engine_and_api_in_processes_of_their_own(  # type: ignore[no-untyped-def]
    start_program, start_worker, nats_server: NatsServer, definition: str
) -> None:
    everywhere = ("--nats-url", nats_server.url, "--http-addr", "127.0.0.1:0", "--log-format", "json")
    engines = [start_program(script("dagnats-engine"), *everywhere) for _ in range(2)]
    apis = [start_program(script("dagnats-api"), *everywhere) for _ in range(2)]
    engine_url, api_url = engines[0].ready()["http_url"], apis[0].ready()["http_url"]
    for program in (*engines, *apis):
        assert status_of(program.ready()["http_url"] + "/ready") == 200
    assert status_of(engine_url + "/health") == 200
    assert status_of(engine_url + "/workflows") == 404
    assert status_of(api_url + "/workflows") == 200
    url = nats_server.url
    cli(url, "wf", "register", definition, "--site", "local")
    start_worker(url)
    for _ in range(3):
        done = cli(
            url, "wf", "start", "sample", "--input", '{"value": 3, "seconds": 0}', "--output", "--timeout", "60s"
        )
        assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
    for program in (*apis, *engines):
        assert program.stop() == 0


def test_a_simple_command_starts_fast(start_serve) -> None:  # type: ignore[no-untyped-def]
    url = start_serve().ready()["nats_url"]
    code = (
        "import sys, time; from dagnats_cli import main; code = main.run(sys.argv[1:]);"
        "print(time.process_time(), file=sys.stderr); sys.exit(code)"
    )
    took_s = []
    for _ in range(3):
        command = [sys.executable, "-c", code, "wf", "list", "--nats-url", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        took_s.append(float(done.stderr.splitlines()[-1]))
    assert min(took_s) <= START_S_MAX
