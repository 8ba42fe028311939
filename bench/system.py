"""The system under test: a real `dagnats serve` and a real worker, each a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil


class System(NamedTuple):
    nats_url: str
    serve: psutil.Process
    worker: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds so far of serve, its nats-server and the worker."""
        processes = [self.serve, *self.serve.children(recursive=True), self.worker]
        return sum(times.user + times.system for times in (p.cpu_times() for p in processes))


@contextmanager
def running(durability: str) -> Iterator[System]:
    """Serve and a worker on an empty data dir, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="dagnats-bench-") as directory:
        command = [
            sys.executable,
            "-m",
            "dagnats_cli.main",
            "serve",
            "--data-dir",
            f"{directory}/data",
            "--nats-port",
            "0",
        ]
        command += ["--http-addr", "127.0.0.1:0", "--durability", durability, "--log-format", "json"]
        log = Path(directory, "serve.log")
        with log.open("wb") as stream:
            serve = subprocess.Popen(command, stderr=stream, stdout=subprocess.DEVNULL)
        try:
            url = _ready(serve, log)
            environ = {**os.environ, "DAGNATS_NATS_URL": url}
            worker = subprocess.Popen([sys.executable, "-m", "bench.worker"], env=environ, stderr=subprocess.DEVNULL)
            try:
                yield System(url, psutil.Process(serve.pid), psutil.Process(worker.pid))
            finally:
                worker.terminate()
                worker.wait(20)
        finally:
            serve.terminate()
            serve.wait(20)


def _ready(serve: subprocess.Popen[bytes], log: Path) -> str:
    """The URL in the `ready` line."""
    while serve.poll() is None:
        found = re.search(rb'^.*"event": ?"ready".*$', log.read_bytes(), re.MULTILINE)
        if found:
            return str(json.loads(found.group())["nats_url"])
        try:
            serve.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    raise SystemExit(f"serve did not start:\n{log.read_text()}")
