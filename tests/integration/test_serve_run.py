"""The whole together: serve, a worker, and the command line; and the same from processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_serve import cli, status_of
from tests.support.nats import NatsServer
from tests.support.sample_worker import DEFINITION
from tests.support.serve import FREE_PORTS, Program, script

START_S_MAX = 0.4
"""What a simple command may take of the processor before its request is on its way."""


WORKER = (sys.executable, "-m", "tests.support.sample_worker", "--log-format", "json")


def register(url: str, folder: Path, definition: str = DEFINITION) -> None:
    file = folder / "definition.yaml"
    file.write_text(definition)
    assert cli(url, "wf", "register", str(file)).returncode == 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site with its worker, and with the workflow `sample` registered."""
    folder = tmp_path_factory.mktemp("site")
    command = (script("dagnats"), "serve", "--data-dir", str(folder / "data"), "--log-format", "json", *FREE_PORTS)
    programs = [Program(command)]
    try:
        url: str = programs[0].ready()["nats_url"]
        register(url, folder)
        programs.append(Program((*WORKER, "--nats-url", url)))
        programs[1].event("worker.ready")
        yield url
    finally:
        for program in reversed(programs):
            program.close()


def watching(url: str, seconds: float, value: object = 1) -> subprocess.Popen[str]:
    """`wf start --watch` in the background."""
    input = json.dumps({"value": value, "seconds": seconds})
    command = [script("dagnats"), "wf", "start", "sample", "--input", input, "--watch", "--output", "--nats-url", url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_is_started_watched_and_read(url: str) -> None:
    before = json.loads(cli(url, "run", "count", "--status", "completed", "--json").stdout)["count"]
    done = cli(url, "wf", "start", "sample", "--input", '{"value": 3, "seconds": 0}', "--watch")
    assert (done.returncode, done.stderr) == (0, "")
    types = [line.split()[1] for line in done.stdout.splitlines()]
    assert types[0] == "run_created"
    assert types.count("step_completed") == 3
    assert done.stdout.splitlines()[-1].split()[2] == "completed"
    only_output = cli(url, "wf", "start", "sample", "--input", '{"value": 3, "seconds": 0}', "--output")
    assert (only_output.returncode, only_output.stdout, only_output.stderr) == (0, "12\n", "")
    after = json.loads(cli(url, "run", "count", "--status", "completed", "--json").stdout)["count"]
    assert after == before + 2


def test_a_failed_run_is_7_and_a_dead_letter(url: str) -> None:
    failed = cli(url, "wf", "start", "sample", "--input", '{"value": "bad", "seconds": 0}', "--watch")
    assert failed.returncode == 7
    assert "this value is bad (bad_value)" in failed.stderr
    newest, *_ = json.loads(cli(url, "dlq", "list", "--json").stdout)["items"]
    assert (newest["step"], newest["error"]["code"]) == ("first", "bad_value")
    assert cli(url, "dlq", "replay", "--last", "--watch").returncode == 7
    assert cli(url, "run", "output", "--last").returncode == 7


def test_inputs_of_any_size(url: str, tmp_path: Path) -> None:
    register(url, tmp_path, "name: large\nsteps: [{id: only, task: sample.double}]\n")
    file = tmp_path / "input.json"
    for size in (0, 1024 * 1024, 10 * 1024 * 1024):
        text = "x" * size
        file.write_text(json.dumps({"value": [text]}))
        done = cli(url, "wf", "start", "large", "--input", f"@{file}", "--output")
        assert done.returncode == 0, done.stderr[:1000]
        assert json.loads(done.stdout) == [text] * 2


def test_cancel_ends_the_watching_with_7(url: str) -> None:
    watcher = watching(url, seconds=60)
    assert watcher.stderr is not None
    while "step_started" not in watcher.stderr.readline():
        pass
    assert cli(url, "run", "cancel", "--last", "--reason", "no longer wanted").returncode == 0
    out, err = watcher.communicate(timeout=30)
    assert (watcher.returncode, out) == (7, "")
    assert "cancelled" in err


def test_a_simple_command_starts_fast(url: str) -> None:
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


def test_a_watcher_outlives_a_killed_server(
    start_serve: Callable[..., Program], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    serve = start_serve()
    ready = serve.ready()
    url = ready["nats_url"]
    ports = ("--nats-port", url.rpartition(":")[2], "--http-addr", ready["http_url"][7:])
    register(url, tmp_path)
    start_program(*WORKER, "--nats-url", url)
    watcher = watching(url, seconds=4)
    assert watcher.stderr is not None
    while "step_started" not in watcher.stderr.readline():
        pass
    serve.stop(signal.SIGKILL)
    start_serve(ports=ports).ready()
    out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, out) == (0, "4\n"), err


def test_engine_and_api_in_processes_of_their_own(
    start_program: Callable[..., Program], nats_server: NatsServer, tmp_path: Path
) -> None:
    url = nats_server.url
    everywhere = ("--nats-url", url, "--http-addr", "127.0.0.1:0", "--log-format", "json")
    engines = [start_program(script("dagnats-engine"), *everywhere) for _ in range(2)]
    apis = [start_program(script("dagnats-api"), *everywhere) for _ in range(2)]
    start_program(*WORKER, "--nats-url", url)
    for program in (*engines, *apis):
        assert status_of(program.ready()["http_url"] + "/ready") == 200
    engine_url, api_url = engines[0].ready()["http_url"], apis[0].ready()["http_url"]
    assert status_of(engine_url + "/health") == 200
    assert status_of(engine_url + "/workflows") == 404
    assert status_of(api_url + "/workflows") == 200
    register(url, tmp_path)
    for _ in range(3):
        input = '{"value": 3, "seconds": 0}'
        done = cli(url, "wf", "start", "sample", "--input", input, "--output", "--timeout", "60s")
        assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
    for program in (*apis, *engines):
        assert program.stop() == 0
