"""A command loads what it needs: help and one request must not wait for a server's modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("litestar", "uvicorn", "opentelemetry", "matplotlib", "yaml", "jsonschema_rs", "prompt_toolkit", "pydantic")


def loaded_by(tokens: list[str]) -> set[str]:
    """The modules that a fresh interpreter has loaded after a command line."""
    program = (
        "import sys; from dagnats_cli import main; main.run(sys.argv[1:]);"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *tokens], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "wf list --help",
        "wf list --nats-url nats://127.0.0.1:1",
        "run watch --last --nats-url nats://127.0.0.1:1",
    ],
)
def test_no_server_is_loaded_for_a_request(line: str) -> None:
    modules = loaded_by(line.split())
    assert not {name for name in HEAVY if name in modules}
    assert "dagnats_cli.compose" not in modules


def test_help_does_not_load_nats() -> None:
    assert "nats" not in loaded_by(["--help"])
