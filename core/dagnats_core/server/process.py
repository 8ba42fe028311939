"""One life of one nats-server process: spawned with a lifeline, listened to, signalled, reaped. No policy.

    this process ──── Popen ────► shell ── exec ──► nats-server
         │                          └── fork ──► guard ── kill -9 ──► (nats-server)
         └── lifeline: a pipe of which only this process holds the write end ──► guard

Whatever ends this process closes the pipe, and the guard then kills the server. The guard exists before
the server does, so there is no moment without it; it kills the process that it was forked from, whose number
cannot be given to another one while the guard is in its process group. Both are in a session of their own,
out of reach of a terminal's Ctrl-C. Descriptors in `inherit` (a lock on the store) stay open in both, so they
are released exactly when neither is left.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from dagnats_core import limits
from dagnats_core.errors import Conflict, DagNatsError, Unavailable
from dagnats_core.server.settings import LOOPBACK

log = structlog.get_logger("nats-server")

# The guard holds our stdout pipe: its end tells us that the guard is gone. The server logs to stderr only.
_LAUNCH = """\
exec 3<&0 </dev/null
( trap '' HUP INT TERM; exec 2>/dev/null; read -r _ <&3; kill -KILL $$ ) &
exec "$@" 3<&- 1>&2
"""
_LINE = re.compile(r"\[\d+\] \[(\w{3})\] ?(.*)")
_LEVELS = {
    "TRC": logging.DEBUG,
    "DBG": logging.DEBUG,
    "INF": logging.DEBUG,  # what it tells at each start, 20 lines, is detail to us
    "WRN": logging.WARNING,
    "ERR": logging.ERROR,
    "FTL": logging.CRITICAL,
}


class Ports(msgspec.Struct, frozen=True):
    """What a server wrote about the addresses it listens on."""

    nats: tuple[str, ...] = ()
    monitoring: tuple[str, ...] = ()


class ServerProcess:
    """A running nats-server. `exited` resolves with its exit code once the server and its guard are gone."""

    def __init__(self, binary: Path, config_file: Path, *, inherit: Iterable[int] = ()) -> None:
        """Start `binary` with `config_file`. Raises `Unavailable` if no process can be made."""
        lifeline, self._lifeline_held = os.pipe()
        try:
            self._popen = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, "dagnats-guard", str(binary), "-c", str(config_file)],
                stdin=lifeline,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=tuple(inherit),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline_held)
            raise Unavailable(f"nats-server cannot be started: {error}") from error
        finally:
            os.close(lifeline)
        self.pid = self._popen.pid
        self.exited: Future[int] = Future()
        self.exited.set_running_or_notify_cancel()  # who stops waiting for it must not cancel it
        self._complaints: deque[str] = deque(maxlen=20)
        threading.Thread(target=self._attend, name=f"nats-server-{self.pid}", daemon=True).start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server; nothing happens if it is gone."""
        self._popen.send_signal(number)

    def exit_error(self, port: int) -> DagNatsError:
        """Why a server that was to listen on `port` has exited, from its own last words."""
        code = self._popen.returncode
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        words = self._complaints[-1] if self._complaints else ""
        if "address already in use" in words:
            return Conflict(f"port {port} on {LOOPBACK} is in use: stop what listens there or take another port")
        return Unavailable(f"nats-server {end}: {words}" if words else f"nats-server {end}")

    def _attend(self) -> None:
        """Drain the log until the server is gone, reap it, let go of the guard, then say so."""
        stdout, stderr = self._popen.stdout, self._popen.stderr
        assert stdout is not None
        assert stderr is not None
        with stdout, stderr:
            for line in iter(lambda: stderr.readline(limits.SERVER_LOG_LINE_BYTES_MAX), b""):
                with suppress(Exception):  # a line that cannot be logged must not end the drain
                    self._log_line(line.decode(errors="replace").rstrip())
            code = self._popen.wait()
            os.close(self._lifeline_held)
            stdout.read()
        with suppress(ChildProcessError):  # as process 1 of a container we inherit the guard and have to reap it
            os.waitpid(-self.pid, 0)
        self.exited.set_result(code)

    def _log_line(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        level = _LEVELS.get(match[1], logging.ERROR) if match else logging.ERROR
        text = match[2] if match else line
        if not text.strip():
            return
        if level >= logging.ERROR:
            self._complaints.append(text)
        log.log(level, text, pid=self.pid)


def read_ports(ports_dir: Path, pid: int) -> Ports | None:
    """The addresses of server `pid`, or None while it has not (completely) written them."""
    try:
        return msgspec.json.decode((ports_dir / f"nats-server_{pid}.ports").read_bytes(), type=Ports)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def clear_ports(ports_dir: Path) -> None:
    """Make `ports_dir`, without files of earlier lives: process numbers come again, in containers at once."""
    ports_dir.mkdir(mode=0o700, exist_ok=True)
    for file in ports_dir.glob("*.ports"):
        file.unlink(missing_ok=True)


def free_port() -> int:
    """A port on loopback where nobody listens now. Raises `Unavailable` if none is found."""
    for _ in range(limits.FREE_PORT_TRIES_MAX):
        port = limits.FREE_PORT_FIRST + secrets.randbelow(limits.FREE_PORT_LAST - limits.FREE_PORT_FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port
    raise Unavailable(f"no free port found on {LOOPBACK} between {limits.FREE_PORT_FIRST} and {limits.FREE_PORT_LAST}")
