"""On a terminal a run is a live table that stays at the end, and Ctrl-C ends the watching alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from tests.integration.cli.conftest import Cli, run_id
from tests.support.fake_runs import FakeRun
from tests.support.serve import script


class Terminal:
    """A command on a terminal of 80 columns and 24 lines, with all that it wrote so far."""

    def __init__(self, *command: str) -> None:
        self._screen, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self.popen = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, env=env, preexec_fn=_take_terminal
        )
        os.close(terminal)
        self.text = ""

    async def until(self, word: str) -> None:
        """Read until `word` has been shown."""
        async with asyncio.timeout(20):
            while word not in self.text:
                self.text += (await asyncio.to_thread(os.read, self._screen, 65_536)).decode()

    def press(self, key: bytes) -> None:
        os.write(self._screen, key)

    async def end(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 20)

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        os.close(self._screen)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Terminal]:
    """`wf start w --watch` on a terminal."""
    shown = Terminal(script("dagnats"), "wf", "start", "w", "--watch", "--site", cli.site, "--nats-url", cli.url)
    yield shown
    shown.close()


@pytest.fixture
def one(cli: Cli) -> FakeRun:
    return cli.runs.start_next(FakeRun(run_id("01"), "w", {"split": "text.split", "count": "text.count"}))


async def test_steps_move_on_the_screen_and_the_end_stays(one: FakeRun, terminal: Terminal) -> None:
    await terminal.until("pending")
    await one.tell("step_queued", "split", attempt=1)
    await terminal.until("queued")
    await one.tell("step_started", "split", attempt=1)
    await terminal.until("●")
    await one.tell("step_completed", "split", attempt=1, duration_ms=1500)
    await terminal.until("1/2 steps")
    await one.tell("step_completed", "count", attempt=1)
    await one.end({"words": 7})
    await terminal.until('{"words":7}')
    assert await terminal.end() == 0


async def test_ctrl_c_ends_the_watching_and_says_how_to_go_on(one: FakeRun, terminal: Terminal) -> None:
    await terminal.until("pending")
    terminal.press(b"\x03")
    await terminal.until(f"dagnats run watch {run_id('01')}")
    assert await terminal.end() == 130
    assert not one.ended
