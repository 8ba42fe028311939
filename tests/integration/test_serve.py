"""`dagnats serve` starts everything, says so in one line, and refuses what it cannot do with the reason."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.serve import FREE_PORTS, Program, script

StartServe = Callable[..., Program]

RSS_BYTES_MAX = 120_000_000
START_CPU_S_MAX = 2.0
"""The start may take 1.5 s on a machine that does nothing else; processor time says the same on one that does."""


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def refuses(url: str) -> bool:
    """Whether nobody listens at `url` any more."""
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port_of(url))) != 0


def cli(url: str, *tokens: str) -> subprocess.CompletedProcess[str]:
    command = [script("dagnats"), *tokens, "--nats-url", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ready_means_that_everything_answers(start_serve: StartServe, tmp_path: Path) -> None:
    serve = start_serve()
    ready = serve.ready()
    assert ready["site"] == "local"
    assert ready["data_dir"] == str(tmp_path / "data")
    assert status_of(ready["http_url"] + "/health") == 200
    assert status_of(ready["http_url"] + "/ready") == 200
    assert status_of(ready["http_url"] + "/workflows") == 200
    info = json.loads(cli(ready["nats_url"], "system", "info", "--json").stdout)
    assert (info["site"], info["role"], info["durability"]) == ("local", "serve", "always")
    assert (info["nats_url"], info["http_url"]) == (ready["nats_url"], ready["http_url"])
    assert json.loads(cli(ready["nats_url"], "system", "health", "--json").stdout)["status"] == "ok"
    assert serve.stop() == 0


def test_start_and_idle_cost_little(start_serve: StartServe) -> None:
    serve = start_serve()
    serve.ready()
    times = serve.process.cpu_times()
    assert times.user + times.system <= START_CPU_S_MAX
    assert serve.process.memory_info().rss <= RSS_BYTES_MAX


def test_nothing_is_left_after_sigterm(start_serve: StartServe) -> None:
    serve = start_serve()
    ready = serve.ready()
    assert serve.children
    assert serve.stop(signal.SIGTERM) == 0
    serve.nothing_is_left()
    assert refuses(ready["nats_url"])
    assert refuses(ready["http_url"])
    again = start_serve(ports=("--nats-port", str(port_of(ready["nats_url"])), "--http-addr", ready["http_url"][7:]))
    assert again.ready()["http_url"] == ready["http_url"]


def test_what_was_registered_is_there_after_a_restart(start_serve: StartServe, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("name: flow\nsteps: [{id: a, task: nobody.does}]\n")
    serve = start_serve()
    url = serve.ready()["nats_url"]
    assert cli(url, "wf", "register", str(file)).returncode == 0
    started = json.loads(cli(url, "wf", "start", "flow", "--input", "1", "--json").stdout)
    assert serve.stop() == 0
    url = start_serve().ready()["nats_url"]
    assert json.loads(cli(url, "wf", "get", "flow", "--json").stdout)["version"] == 1
    found = json.loads(cli(url, "run", "get", "--last", "--json").stdout)
    assert (found["run_id"], found["status"]) == (started["run_id"], "running")


def test_a_site_that_an_engine_was_first_to_make_is_its_own(start_serve: StartServe, tmp_path: Path) -> None:
    serve = start_serve()
    made = json.loads(cli(serve.ready()["nats_url"], "system", "info", "--json").stdout)["site_id"]
    assert serve.stop() == 0
    record = tmp_path / "data" / "site.json"
    record.write_text(record.read_text().replace(made, "what-serve-would-have-called-it"))
    again = start_serve()
    assert json.loads(cli(again.ready()["nats_url"], "system", "info", "--json").stdout)["site_id"] == made
    assert json.loads(record.read_text())["site_id"] == made


def test_without_http(start_serve: StartServe) -> None:
    serve = start_serve("--no-http")
    ready = serve.ready()
    assert ready["http_url"] is None
    assert json.loads(cli(ready["nats_url"], "system", "info", "--json").stdout)["http_url"] is None


def test_a_second_serve_on_the_data_dir_is_told_who_holds_it(start_serve: StartServe) -> None:
    first = start_serve()
    first.ready()
    second = start_serve()
    assert second.wait() == 5
    assert str(first.popen.pid) in second.event("failed")["error"]


@pytest.mark.parametrize("which", ["nats", "http"])
def test_a_taken_port_is_named_and_nothing_is_left(start_serve: StartServe, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        taken = {
            "nats": ("--nats-port", port, "--no-http"),
            "http": ("--nats-port", "0", "--http-addr", f"127.0.0.1:{port}"),
        }
        serve = start_serve(ports=taken[which])
        assert serve.wait() == 5
        assert port in serve.event("failed")["error"]


def test_bad_settings_are_told_all_at_once(start_serve: StartServe, tmp_path: Path) -> None:
    file = tmp_path / "dagnats.yaml"
    file.write_text("durability: sometimes\nnats_prot: 4222\n")
    serve = start_serve("--config", str(file), "--site", "No")
    assert serve.wait() == 4
    text = "".join(event["text"] for event in serve.events)
    for word in (f"{file}:1", "always, 1s, os", f"{file}:2", "nats_port", "--site"):
        assert word in text


def test_settings_come_from_file_environment_and_flags(
    start_program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagnats.yaml").write_text("site: from-file\ndurability: os\ndata_dir: here\nlog_format: json\n")
    monkeypatch.setenv("DAGNATS_SITE", "from-env")
    monkeypatch.setenv("DAGNATS_DURABILITY", "1s")
    serve = start_program(script("dagnats"), "serve", *FREE_PORTS, "--durability", "os", cwd=tmp_path)
    ready = serve.ready()
    assert (ready["site"], ready["data_dir"]) == ("from-env", str(tmp_path / "here"))
    assert json.loads(cli(ready["nats_url"], "system", "info", "--json").stdout)["durability"] == "os"
