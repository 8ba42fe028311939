"""How a program ends: by which signal, with which exit code, and what it says about it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest


class Program:
    """A process of `tests.unit.lifecycle.programs`."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.lifecycle.programs", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line + "\n"

    def wait_until_ready(self) -> None:
        self.wait_until("ready")

    def end(self) -> tuple[int, str, list[dict[str, Any]]]:
        """Exit code, the rest of standard output, log lines."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, [json.loads(line) for line in err.splitlines()]


@pytest.mark.parametrize("loop", [(), ("--uvloop",)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully(number: signal.Signals, loop: tuple[str, ...]) -> None:
    program = Program("Quiet", *loop)
    program.wait_until_ready()
    program.process.send_signal(number)
    code, out, log = program.end()
    assert (code, out) == (0, "ended ['MainThread']\n")
    assert [(line["event"], line.get("signal")) for line in log] == [("stopping", number.name), ("stopped", None)]


@pytest.mark.parametrize(
    ("service", "hung"),
    [
        ("HangsInStop", "stop of HangsInStop"),
        ("BlocksInStop", "stop of BlocksInStop"),
        ("IgnoresCancel", "start of IgnoresCancel"),
        ("LeavesAThread", "end of thread left-behind"),
        ("LeavesAnExecutorThread", "end of tasks and executor threads"),
    ],
)
def test_what_hangs_is_named_and_the_process_ends_by_force(service: str, hung: str) -> None:
    program = Program(service)
    program.wait_until_ready()
    began = time.monotonic()
    program.process.terminate()
    code, _, log = program.end()
    assert code == 70
    assert (log[-1]["event"], log[-1]["hung"]) == ("forced exit", hung)
    assert 0.5 <= time.monotonic() - began < 5


@pytest.mark.parametrize("loop", [(), ("--uvloop",)])
def test_the_deadline_counts_from_the_signal_even_if_the_event_loop_is_blocked(loop: tuple[str, ...]) -> None:
    program = Program("BlocksWhileRunning", *loop)
    program.wait_until_ready()
    program.wait_until("blocked")
    program.process.terminate()
    code, _, log = program.end()
    assert code == 70
    assert (log[-1]["event"], log[-1]["hung"]) == ("forced exit", "running")


def test_a_log_that_nobody_reads_does_not_keep_the_process_alive() -> None:
    program = Program("BlocksInItsLog")
    program.wait_until_ready()
    program.process.terminate()
    program.wait_until("stop entered")
    assert program.process.wait(timeout=20) == 70
    program.process.communicate()


@pytest.mark.parametrize("loop", [(), ("--uvloop",)])
@pytest.mark.parametrize("service", ["HangsInStop", "BlocksInStop"])
def test_a_second_signal_exits_at_once(service: str, loop: tuple[str, ...]) -> None:
    program = Program(service, *loop)
    program.wait_until_ready()
    program.process.send_signal(signal.SIGTERM)
    program.wait_until("stop entered")
    program.process.send_signal(signal.SIGINT)
    code, _, log = program.end()
    assert code == 128 + signal.SIGINT
    assert (log[-1]["event"], log[-1]["step"]) == ("exit at once", f"stop of {service}")


def test_a_signal_in_the_middle_of_the_start_stops_too() -> None:
    program = Program("HangsInStart")
    program.wait_until_ready()
    program.process.terminate()
    code, _, log = program.end()
    assert (code, log[-1]["event"]) == (0, "stopped")


def test_a_task_that_is_left_is_cancelled() -> None:
    program = Program("LeavesATask")
    program.wait_until_ready()
    program.process.terminate()
    assert program.end()[0] == 0


def test_an_error_in_the_start_is_the_exit_code_of_its_class() -> None:
    code, _, log = Program("InvalidStart").end()
    assert code == 4
    assert log[-1]["error"] == "not valid"
    assert log[-1]["problems"] == ["a.b: must not be"]


def test_an_unexpected_error_in_the_start_is_logged_with_its_traceback() -> None:
    code, _, log = Program("BrokenStart").end()
    assert code == 1
    assert "KeyError: 'broken'" in log[-1]["exception"]


def test_a_start_that_awaits_something_cancelled_is_an_error() -> None:
    code, _, log = Program("CancelledStart").end()
    assert code == 1
    assert "CancelledError" in log[-1]["exception"]


def test_a_service_that_fails_later_ends_the_program_with_its_error() -> None:
    code, _, log = Program("FailsLater").end()
    assert code == 6
    assert log[-1]["error"] == "nats-server is gone"


def test_an_error_in_a_stop_is_told_and_counts() -> None:
    program = Program("RaisesInStop")
    program.wait_until_ready()
    program.process.terminate()
    code, _, log = program.end()
    assert code == 1
    assert [(line["event"], line.get("service")) for line in log][1] == ("stop failed", "RaisesInStop")
